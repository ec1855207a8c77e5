"""A site's own counts over the folds of a study: each patient scored by the network that was trained without it.

What a site counted of each fold's test patients adds up like what several sites counted. The counts lie in
`state_dir/SITE/out_of_fold/STUDY`; after the last fold of a repeat figures of all patients leave, no patient's score.

What small-cell suppression keeps back in one of the folds is told of none by itself: there it would follow from what is
told of the others and of all. It leaves after the last one, of all of them together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from client.cohort.split_file import read_split
from client.cohort.splits import split_file
from client.governance.small_cells import AT_THE_CUT, AT_THE_HORIZON, COUNTS, suppress_small_cells
from client.private_files import write_private
from client.session import StudySession
from shared_models.folds import fold_of
from shared_models.importance import PREFIX as IMPORTANCE
from shared_models.messages import Arrays
from shared_models.metrics.by_subgroup import PREFIX
from shared_models.metrics.confusion_counts import ConfusionCounts, threshold_metrics
from shared_models.metrics.summary import (
    Metrics,
    Summary,
    Values,
    merge_small_cells,
    pack_summary,
    pooled_metrics,
    summarise,
    total_summary,
    unpack_summary,
)
from shared_models.targets import Categorical, Target

WITHIN_FOLDS = ("auc", "c_index")  # networks of two folds need not agree on the scale of their scores


@dataclass(frozen=True)
class OutOfFold:
    """What a site may say of a fold and of all of them.

    Attributes:
        silent: Targets of which no metrics of single folds leave.
        together: Statistics, as `TARGET.STATISTIC`, that leave of all folds together only.
        metrics: Of all the folds of a repeat, after the last one: metrics by target.
        statistics: Their statistics that leave together.
    """

    silent: frozenset[str] = frozenset()
    together: frozenset[str] = frozenset()
    metrics: Mapping[str, Metrics] = field(default_factory=dict)
    statistics: Arrays = field(default_factory=dict)

    def of_this_fold(self, counted: Arrays) -> Arrays:
        """The statistics of the fold that may leave; zeros in place of the others.

        What its scores lose with a part of the input changed is of the same patients' pairs, and leaves with them.
        """
        held = {name.partition(".")[0] for name in self.together}
        lost = {f"{IMPORTANCE}.{target}" for target in held}
        return _only(counted, lambda name: name not in self.together and ".".join(name.split(".")[:2]) not in lost)


def forget(study: StudySession) -> None:
    """Forgets what was counted in this fold and in those after it, when the fold begins."""
    if fold := fold_of(study.config):
        for file in _folder(study).glob("*.safetensors"):
            if int(file.stem) >= fold.number:
                file.unlink(missing_ok=True)


def count_fold(study: StudySession, counted: Arrays, own: Mapping[str, Metrics]) -> OutOfFold:
    """Keeps what was counted in a fold, and says what may leave.

    Args:
        study: The study in one of its folds; of a study without, nothing is stored.
        counted: Statistics of the fold's test patients, by target.
        own: Its metrics, by target.

    Returns:
        With metrics and statistics after the last fold of a repeat, where the site was asked of each of them.
    """
    fold = fold_of(study.config)
    if fold is None or not fold.part or not study.trains:
        return OutOfFold()
    cells = {
        f"calls.{name}": np.array([metrics_of.get(key, np.nan) for key in AT_THE_CUT])
        for name, metrics_of in own.items()
    }
    arrays = {name: np.asarray(array, np.float64) for name, array in {**counted, **cells}.items()}
    write_private(_file(study, fold.number), save(arrays))
    silent, together = _suppressed_metrics(study, own)
    by_subgroup = [key for key in counted if key.startswith(f"{PREFIX}.")]
    together |= {key.rpartition(".")[0] for key in by_subgroup}  # a fold of a subgroup has few patients
    files = [_file(study, number) for number in range(fold.number - fold.part + 1, fold.number + 1)]
    if fold.part < study.config.folds or not all(file.exists() for file in files):
        return OutOfFold(silent, together)
    parts = [load_file(file) for file in files]
    totals = {name: _total(study.task.targets[name], parts, name) for name in own}
    statistics = {key: array for name, total in totals.items() for key, array in pack_summary(total, name).items()}
    statistics |= {key: np.asarray(np.sum([part[key] for part in parts], axis=0)) for key in by_subgroup}
    metrics = {name: _metrics(total, parts, name, own[name]) for name, total in totals.items()}
    late = _only(statistics, lambda name: name in together) if together else {}
    return OutOfFold(silent, together, metrics, late)


def _suppressed_metrics(study: StudySession, own: Mapping[str, Metrics]) -> tuple[frozenset[str], frozenset[str]]:
    """Targets whose metrics differ between folds in what is suppressed, and statistics that are in one of them.

    Which outcomes a fold's patients have decides it; scores play no part.
    """
    file, cohort = split_file(study.site, study.config), study.cohort
    parts = read_split(file.path, file.columns, study.config.split_seed)
    tested = np.array([parts[patient].index("test") if patient in parts else -1 for patient in cohort.patients])
    silent, together = set(), set()
    for name, metrics in own.items():
        target, patterns = study.task.targets[name], set()
        for number in range(study.config.folds):
            exact = _summary_alike(target, cohort.truths[name][tested == number])
            sent = merge_small_cells(target, exact, study.site.policy.minimum_count)
            together |= {f"{name}.{key}" for key in exact if _counts_any(exact, key) and not _counts_any(sent, key)}
            patterns.add(_suppressed(exact, metrics, study.site.policy.minimum_count))
        silent |= {name} if len(patterns) > 1 else set()
    return frozenset(silent), frozenset(together)


def _summary_alike(target: Target, truth: Values) -> Summary:
    """Statistics of some patients who all have the same score."""
    alike = np.full((len(truth), target.outputs) if isinstance(target, Categorical) else len(truth), 0.5)
    return summarise(target, alike, truth)


def _suppressed(exact: Summary, metrics: Metrics, least: int) -> frozenset[str]:
    """Names of the metrics that small-cell suppression takes away of patients who are counted so."""
    pooled = pooled_metrics(exact, 0.5)
    counts = {name: float(value) for name, value in pooled.items() if isinstance(value, float)}
    counted = {name: counts[name] if name in (*COUNTS, *AT_THE_HORIZON) else 1.0 for name in metrics}
    return frozenset(name for name, value in suppress_small_cells(counted, least).items() if math.isnan(value))


def _counts_any(summary: Summary, name: str) -> bool:
    return any(np.any(array) for array in pack_summary({name: summary[name]}, "").values())


def _only(arrays: Arrays, wanted: Callable[[str], bool]) -> Arrays:
    """The arrays `TARGET.STATISTIC.FIELD` of wanted statistics, and zeros in place of the others."""
    return {key: array if wanted(key.rpartition(".")[0]) else np.zeros_like(array) for key, array in arrays.items()}


def _total(target: Target, parts: list[Arrays], name: str) -> Summary:
    return total_summary(unpack_summary(target, part, name) for part in parts)


def _metrics(total: Summary, parts: list[Arrays], name: str, own: Metrics) -> Metrics:
    """One target's metrics over some folds: pairs are of patients of the same fold, calls by each fold's threshold."""
    pooled = pooled_metrics(total, 0.5)
    cells = np.sum([part[f"calls.{name}"] for part in parts], axis=0)
    pooled |= threshold_metrics(ConfusionCounts(*map(float, cells))) if np.isfinite(cells).all() else {}
    for stem, end in itertools.product(WITHIN_FOLDS, ("", "_low", "_high")):
        if (pairs := f"{stem}_within_sites{end}") in pooled:
            pooled[f"{stem}{end}"] = pooled[pairs]
    return {key: value if isinstance(value := pooled.get(key), float) else math.nan for key in own}


def _folder(study: StudySession) -> Path:
    return study.site.state_dir / "out_of_fold" / study.config.study.rpartition("/")[0]


def _file(study: StudySession, number: int) -> Path:
    return _folder(study) / f"{number}.safetensors"
