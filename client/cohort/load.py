"""Cohort of a site for one study: inputs, outcomes, and the patient's part of the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.cache.entry import Entry
from client.cache.row_files import RowFiles
from client.cohort.cohort_cache import cached
from client.cohort.exclusions import Exclusion, write_exclusions
from client.cohort.parse import has_known_outcome, parse_cohort
from client.cohort.split_file import PARTS
from client.cohort.splits import split_patients
from client.config.site import SiteConfig
from client.errors import SiteError
from client.imaging.exam_facts import ExamFacts, facts_of_values
from shared_models.features import FeatureStatistics, without_rare_values
from shared_models.study_settings import StudySettings
from shared_models.task import Task

EVERYONE = "everyone"
SPLIT_UNUSED = "the study draws folds from all patients: the site's own `split` is not used in it"


@dataclass(frozen=True, eq=False)
class Cohort:
    """N patients of one site, for one study, in R rows: one a patient, or one for each lesion or view.

    Attributes:
        site: The site's name.
        patients: N identifiers; they never leave the site.
        first: `(N + 1,)`: patient i has the rows from `first[i]` up to `first[i + 1]`.
        sampling_weight: `(R,)`: how often training draws a row, beside the patient's other rows.
        inputs: A volume `(R, C, D, H, W)` or bag `(R, T, W)`, 0 where absent, or a table `(R, C)` as
            `features.expand` makes it, NaN where missing. Volumes and bags are read from the site's cache as they are
            indexed.
        present: `(R, M)`: which rows have which of the task's modalities, in its order.
        truths: `(N,)`, or `(N, 2)` for a time to event; NaN where unknown.
        parts: Indices of the patients of `train`, `validation` and `test`, disjoint; who has no known outcome is in
            none, nor who has none of the study's modalities.
        subgroups: By column, each patient's subgroup, `(N,)`; see `shared_models.subgroups`.
        excluded: Whose files cannot be used.
        warnings: What need not stop the site, but should be known.
        exams: Of each modality of images, the facts of its rows' exams.
    """

    site: str
    patients: tuple[str, ...]
    first: NDArray[np.int64]
    sampling_weight: NDArray[np.float64]
    inputs: Mapping[str, NDArray[Any] | RowFiles]
    present: NDArray[np.bool_]
    truths: Mapping[str, NDArray[np.float32]]
    parts: Mapping[str, NDArray[np.int64]]
    subgroups: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    excluded: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()
    exams: Mapping[str, Mapping[int, ExamFacts]] = field(default_factory=dict)

    def rows(self, patients: NDArray[np.int64]) -> NDArray[np.int64]:
        """All rows of some patients."""
        spans = [np.arange(self.first[patient], self.first[patient + 1]) for patient in patients]
        return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)

    def count_with_modality(self, patients: NDArray[np.int64], modality: int) -> int:
        """How many of some patients have a modality, in one of their rows at least."""
        return sum(bool(self.present[self.first[p] : self.first[p + 1], modality].any()) for p in patients)

    def table_sums(self, task: Task, patients: NDArray[np.int64], least: int = 0) -> dict[str, FeatureStatistics]:
        """By table, sums of its columns over the rows of some patients; see `without_rare_values` of `least`."""
        rows, sums = self.rows(patients), dict[str, FeatureStatistics]()
        for index, name in enumerate(task.modalities):
            if name in task.tables:
                columns = np.asarray(self.inputs[name][rows[self.present[rows, index].astype(bool)]])
                sums[name] = FeatureStatistics.of(without_rare_values(task.tables[name].features, columns, least))
        return sums


def load_cohort(site: SiteConfig, task: Task, config: StudySettings, *, store_split: bool = True) -> Cohort:
    """Reads a site's cohort, from its cache where nothing changed, and splits it.

    A training site whose patients are all of one class may train: others have the other class, and
    `client.checks.counts` warns of it. One without training patients may not.

    Args:
        site: The site's settings.
        task: The task, with the study's features.
        config: The study.
        store_split: Whether the split is written down.

    Raises:
        SiteError: If the data cannot be used, no outcome is known, or a training site has no training patients.
    """
    entry = cached(site, task, lambda: parse_cohort(site, task))
    patients = tuple(entry.facts["patients"])
    truths = {name: np.array(entry.arrays[f"truth.{name}"]) for name in task.targets}
    first, present = np.array(entry.arrays["first"]), np.array(entry.arrays["present"])
    outcome, modality = has_known_outcome(truths), np.logical_or.reduceat(present.any(axis=1), first[:-1])
    known = outcome & modality
    strata = {patients[i]: str(label) for i, label in enumerate(_strata(task, truths)) if known[i]}
    published = entry.facts["published"]
    assigned_parts = split_patients(
        site, config, strata, published and dict(zip(patients, published, strict=True)), store=store_split
    )
    if site.role == "train" and site.site not in config.never_train and "train" not in assigned_parts.values():
        raise _nobody_to_train_on(site, outcome, modality)
    labels = np.asarray([assigned_parts.get(patient, "") for patient in patients])
    warnings = (SPLIT_UNUSED,) if published and config.folds else ()
    cohort = _cohort(site, task, entry, {part: np.flatnonzero(labels == part) for part in PARTS}, warnings)
    write_exclusions(site.state_dir, cohort.excluded)
    return cohort


def load_everyone(site: SiteConfig, task: Task) -> Cohort:
    """Reads all patients of a site, with a known outcome or without, as one part `everyone`; nothing is split.

    A column may be empty for all of them: they may be few.

    Args:
        site: The site's settings.
        task: The task; of its targets those that are wanted, or none.

    Raises:
        SiteError: If the data cannot be used.
    """
    site = site.model_copy(update={"split": None})  # a new patient is in none
    entry = cached(site, task, lambda: parse_cohort(site, task, may_lack=True), EVERYONE)
    everyone = np.arange(len(entry.facts["patients"]))
    return _cohort(site, task, entry, {**dict.fromkeys(PARTS, everyone[:0]), EVERYONE: everyone})


def _cohort(
    site: SiteConfig, task: Task, entry: Entry, parts: Mapping[str, NDArray[np.int64]], warnings: Sequence[str] = ()
) -> Cohort:
    return Cohort(
        site=site.site,
        patients=tuple(entry.facts["patients"]),
        first=np.array(entry.arrays["first"]),
        sampling_weight=np.array(entry.arrays["sampling_weight"]),
        inputs={name: entry.arrays[f"input.{name}"] for name in task.modalities},
        present=np.array(entry.arrays["present"]),
        truths={name: np.array(entry.arrays[f"truth.{name}"]) for name in task.targets},
        parts=parts,
        subgroups={(name := each.feature.name): np.array(entry.arrays[f"subgroup.{name}"]) for each in task.subgroups},
        excluded=tuple(Exclusion(*values) for values in entry.facts["excluded"]),
        warnings=(*entry.facts["warnings"], *warnings),
        exams={
            name: {int(row): facts_of_values(dict(values)) for row, values in exams.items()}
            for name, exams in entry.facts["exams"].items()
        },
    )


def _strata(task: Task, truths: Mapping[str, NDArray[np.float32]]) -> NDArray[Any]:
    """`(N,)`: the class or event of the first target; a number makes no strata."""
    from shared_models.targets import Regression

    name, kind = next(iter(task.targets.items()))
    truth = truths[name]
    return np.zeros(len(truth)) if isinstance(kind, Regression) else truth.reshape(len(truth), -1)[:, -1]


def _nobody_to_train_on(site: SiteConfig, outcome: NDArray[np.bool_], modality: NDArray[np.bool_]) -> SiteError:
    """The error; of `(N,)` patients, who has a known outcome and who a modality says what is to be done."""
    fix = "set `role: evaluate`, or correct the split"
    if not modality.any():
        fix = "map what the study asks for under `modalities`: `check --study` names it; or set `role: evaluate`"
    elif not outcome.any():
        fix = "map the study's outcome under `targets`, or set `role: evaluate`"
    return SiteError(
        what="no training patients",
        where=f"site {site.site}",
        found=f"{outcome.sum()} patients with a known outcome, {modality.sum()} with a modality of the study, "
        f"{(outcome & modality).sum()} with both, none of them in the training part",
        expected="patients to train on",
        fix=fix,
        public="the site has no training patients",
    )
