"""A site's own result of a study: exact figures, each test patient's prediction, the network. It stays at the site.

All of it lies in `state_dir/SITE/studies/STUDY`, in files that only their owner may read: `result.html`,
`predictions.csv` and `network.safetensors`. None of it is sent; what the center receives of them is coarser.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from client.differences import unlike_others
from client.private_files import write_private
from client.session import StudySession
from client.training.dataset import PatientDataset
from shared_models.messages import EvaluateTestRequest
from shared_models.metrics.censoring import at_horizon
from shared_models.metrics.names import NAMES
from shared_models.metrics.summary import Metrics, pooled_metrics, summarise
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent

log = logging.getLogger("client")
STUDIES, PAGE, PREDICTIONS, NETWORK = "studies", "result.html", "predictions.csv", "network.safetensors"
FORMAT, FORMAT_VERSION = "breast-federation model", "1"
USE = "research only: not a medical device, not for decisions about a patient"
MAX_GROUPS, MIN_IN_GROUP = 10, 10
_TEMPLATE = Path(__file__).with_name("site_result.html.jinja")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of similar predictions.

    Attributes:
        patients: How many.
        predicted: The mean of their predictions.
        observed: How often the outcome came, weighted for censoring of a time to event; the mean of a continuous one.
    """

    patients: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class TargetResult:
    """One target's figures.

    Attributes:
        name: The target's.
        threshold: At and above which a prediction counts as positive.
        metrics: All of them, exact.
        calibration: By groups of similar predictions; empty of classes and of few patients.
    """

    name: str
    threshold: float | None
    metrics: Metrics
    calibration: tuple[CalibrationGroup, ...]


def store_result(
    study: StudySession,
    request: EvaluateTestRequest,
    patients: PatientDataset,
    scores: Mapping[str, Array],
    own: Mapping[str, Metrics],
) -> Path | None:
    """Writes the result into the site's folder; what goes wrong there is logged, and takes nothing from the study.

    Args:
        study: The study, with the network that was tested.
        request: What the center sent with it.
        patients: The P test patients.
        scores: Their predictions by target, `(P,)` or `(P, K)`; empty where there are no patients.
        own: The site's exact metrics by target.

    Returns:
        The page, or None where it could not be written.
    """
    folder = folder_of(study.site.state_dir, study.config.study)
    try:
        results = [_target_result(study.task.targets[n], n, s, patients, request, own) for n, s in scores.items()]
        write_private(folder / PREDICTIONS, _predictions(study, patients, scores))
        write_private(folder / NETWORK, _network(study, request))
        write_private(folder / PAGE, _page(study, request.round, len(patients), results))
    except Exception:  # a page is worth less than the study's test
        log.exception("the site's own result of %s was not written", study.config.study)
        return None
    log.info("the site's own result: %s", folder / PAGE)
    return folder / PAGE


def folder_of(state_dir: Path, study: str) -> Path:
    """The folder of a site's own results of a study, or of one of its folds."""
    return state_dir / STUDIES / study


def _target_result(
    target: Target,
    name: str,
    scores: Array,
    patients: PatientDataset,
    request: EvaluateTestRequest,
    own: Mapping[str, Metrics],
) -> TargetResult:
    truth, threshold = patients.known(name), request.thresholds.get(name)
    pooled = pooled_metrics(summarise(target, scores, truth), 0.5 if threshold is None else threshold)
    # of one site's rows nothing is hidden by bins, and all pairs are within it: these say nothing more
    needless = ("_bound", "_within_sites", "_within_sites_low", "_within_sites_high")
    numbers = {key: value for key, value in pooled.items() if isinstance(value, float) and not key.endswith(needless)}
    metrics = numbers | own.get(name, {})
    return TargetResult(name, threshold, metrics, tuple(_calibration(target, scores, truth)))


def _calibration(target: Target, scores: Array, truth: Array) -> Iterator[CalibrationGroup]:
    """The patients whose outcome is known, in groups of similar predictions and of `MIN_IN_GROUP` or more."""
    if isinstance(target, Categorical):
        return
    known = ~np.isnan(truth).any(axis=1) if truth.ndim == 2 else ~np.isnan(truth)
    scores, truth = scores[known], truth[known]
    if isinstance(target, TimeToEvent):
        outcome = at_horizon(truth[:, 0], truth[:, 1] == 1, target.horizon_days)
        observed, weights = outcome.event.astype(float), outcome.weights
    else:
        observed, weights = truth.astype(float), np.ones(len(truth))
    order = np.argsort(scores, kind="stable")
    for group in np.array_split(order, min(MAX_GROUPS, max(len(order) // MIN_IN_GROUP, 1))):
        if (total := float(weights[group].sum())) > 0:
            share = float((weights * observed)[group].sum()) / total
            yield CalibrationGroup(len(group), float(scores[group].mean()), share)


def _predictions(study: StudySession, patients: PatientDataset, scores: Mapping[str, Array]) -> str:
    """A row a test patient: predictions and what is known of the outcome."""
    columns: dict[str, Array] = {}
    for name, predicted in scores.items():
        target, truth = study.task.targets[name], patients.known(name)
        match target:
            case Categorical():
                columns |= {f"{name}: {one}": predicted[:, k] for k, one in enumerate(target.classes)}
                columns[f"{name}, known class"] = truth
            case TimeToEvent():
                columns[f"{name}, risk within {target.horizon_days:g} days"] = predicted
                columns |= {f"{name}, days": truth[:, 0], f"{name}, event": truth[:, 1]}
            case Regression():
                columns |= {f"{name}, predicted": predicted, f"{name}, known": truth}
            case Binary():
                columns |= {f"{name}, probability": predicted, f"{name}, known": truth}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patient", *columns])
    for row, patient in enumerate(patients.indices):
        values = (float(column[row]) for column in columns.values())
        cells = ("" if math.isnan(value) else repr(value) for value in values)
        writer.writerow([patients.identifiers[patient], *cells])
    return text.getvalue()


def _network(study: StudySession, request: EvaluateTestRequest) -> bytes:
    """The network as it was tested here, with this site's own normalisation layers, and what its input is made by."""
    weights = {name: value.detach().cpu().numpy() for name, value in study.model(request.round).state_dict().items()}
    arrays = {f"model:{name}": np.asarray(array, order="C") for name, array in weights.items()}
    arrays |= {f"statistics:{name}": np.asarray(array, order="C") for name, array in request.statistics.items()}
    config = study.config
    facts = {
        "config": config.to_flat(),
        "round": request.round,
        "thresholds": dict(request.thresholds),
        "trained_at": [site for site in config.expected_sites if site not in config.never_train],
        "package_version": version("breast-federation"),
        "withdrawn": {},
        "use": USE,
    }
    return save(arrays, {"format": FORMAT, "format_version": FORMAT_VERSION, "model": json.dumps(facts)})


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _page(study: StudySession, server_round: int, patients: int, results: list[TargetResult]) -> str:
    page: str = _template().render(
        site=study.site.site,
        config=study.config,
        round=server_round,
        trains=study.trains,
        patients=patients,
        parts={part: len(rows) for part, rows in study.cohort.parts.items()},
        excluded=len({one.patient for one in study.cohort.excluded}),
        results=results,
        differences=unlike_others(study),
        files=(PREDICTIONS, NETWORK),
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        exact=_exact,
        bounds=_bounds,
        place=_place,
        ends=_ends,
        names=NAMES,
    )
    return page


def _exact(value: float | None) -> str:
    """All digits that there are."""
    if value is None or math.isnan(value):
        return "not defined"
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _bounds(metrics: Metrics, name: str) -> str:
    low, high = metrics.get(f"{name}_low", math.nan), metrics.get(f"{name}_high", math.nan)
    return "" if math.isnan(low) or math.isnan(high) else f"{low!r} to {high!r}"


def _ends(groups: tuple[CalibrationGroup, ...]) -> tuple[float, float]:
    """Where both axes of the figure begin and end."""
    values = [value for one in groups for value in (one.predicted, one.observed)]
    return (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else (min(values), max(values))


def _place(group: CalibrationGroup, groups: tuple[CalibrationGroup, ...]) -> tuple[float, float]:
    """The position of a group on the figure, in its 240 by 240."""
    low, high = _ends(groups)
    reach = (high - low) or 1.0
    return round(20 + 200 * (group.predicted - low) / reach, 1), round(220 - 200 * (group.observed - low) / reach, 1)
