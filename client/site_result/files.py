"""Files of a site's own result of a study: its page, each test patient's prediction, all figures, the network.

All of it lies in `state_dir/SITE/studies/STUDY`, in files that only their owner may read. None of it is sent; what the
center receives of them is coarser.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from client.private_files import write_private
from client.session import StudySession
from client.site_result.figures import TestedTarget
from client.site_result.page import draw_page
from client.training.dataset import PatientDataset
from shared_models.messages import EvaluateTestRequest
from shared_models.metrics.summary import Metrics
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

log = logging.getLogger("client")
STUDIES, PAGE = "studies", "result.html"
PREDICTIONS, METRICS, NETWORK = "predictions.csv", "metrics.json", "network.safetensors"
FILES = {
    PREDICTIONS: "each test patient's prediction beside the known outcome",
    METRICS: "all figures of this page with all digits, and the points of its curves",
    NETWORK: "the network as it was tested here, for predict and validate",
}
FORMAT, FORMAT_VERSION = "breast-federation model", "1"
USE = "research only: not a medical device, not for decisions about a patient"
Array = np.ndarray[Any, Any]


_PAGES: ContextVar[bool] = ContextVar("pages", default=True)


@contextmanager
def without_pages() -> Iterator[None]:
    """Meanwhile no site draws the page of its result, as in a simulation, which has the study's report."""
    before = _PAGES.set(False)
    try:
        yield
    finally:
        _PAGES.reset(before)


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
        The page, or None where it is not written.
    """
    folder = folder_of(study.site.state_dir, study.config.study)
    try:
        targets = [_tested(study, request, patients, name, scores[name], own) for name in scores]
        write_private(folder / PREDICTIONS, _predictions(study, patients, scores))
        write_private(folder / NETWORK, _network(study, request))
        write_private(folder / METRICS, _metrics(targets))
        if _PAGES.get():
            write_private(folder / PAGE, draw_page(study, request, patients, targets, FILES))
    except Exception:  # a page is worth less than the study's test
        log.exception("the site's own result of %s was not written", study.config.study)
        return None
    page = folder / PAGE if _PAGES.get() else None
    log.info("the site's own result: %s", page or folder)
    return page


def folder_of(state_dir: Path, study: str) -> Path:
    """The folder of a site's own results of a study, or of one of its folds."""
    return state_dir / STUDIES / study


def _tested(
    study: StudySession,
    request: EvaluateTestRequest,
    patients: PatientDataset,
    name: str,
    scores: Array,
    own: Mapping[str, Metrics],
) -> TestedTarget:
    threshold, metrics = request.thresholds.get(name), own.get(name, {})
    return TestedTarget(name, study.task.targets[name], scores, patients.known(name), threshold, study.trains, metrics)


def _metrics(targets: Sequence[TestedTarget]) -> str:
    return json.dumps({one.name: one.metrics for one in targets}, indent=1, allow_nan=False) + "\n"


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
