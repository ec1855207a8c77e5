"""Comparison of two finished networks at a site: both score the same test patients, and joint counts leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import RecordDict

from client.admission import AdmittedStudy
from client.cohort.splits import name_of_tested
from client.governance.scorings import count_scoring
from client.session import Received, StudySession, load_weights, open_session
from client.training.dataset import Array, select_patients
from client.training.loop import predict
from shared_models.comparison import settings_compared, targets_compared
from shared_models.messages import (
    EvaluateComparisonReply,
    EvaluateComparisonRequest,
    EvaluateTestRequest,
    StudyStatistics,
)
from shared_models.metrics.compared import Compared
from shared_models.score_ranges import with_score_ranges
from shared_models.study_settings import StudySettings
from shared_models.task import load_task
from shared_models.trained_parts import build_network

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Scored:
    """One network's scores of a site's test patients.

    Attributes:
        patients: (N,) identifiers, which stay at the site.
        scores: By target, (N,) or (N, K).
        truths: By target, (N,) or (N, 2).
    """

    patients: list[str]
    scores: Mapping[str, Array]
    truths: Mapping[str, Array]


def evaluate(study: StudySession, request: EvaluateComparisonRequest) -> EvaluateComparisonReply:
    """Scores both networks on the test patients whom both studies have, and counts pairs and calls."""
    config, tested = study.config, name_of_tested(study.site, study.config)
    targets, settings, networks = targets_compared(config), settings_compared(config), networks_of(request)
    one, other = (score(study, own, network) for own, network in zip(settings, networks, strict=True))
    scorings = 0
    for own, network in zip(settings, networks, strict=True):
        scorings = count_scoring(study.site, tested, own.study, network.question)
    place = {patient: index for index, patient in enumerate(other.patients)}
    mine = [index for index, patient in enumerate(one.patients) if patient in place]
    theirs = [place[one.patients[index]] for index in mine]
    compared = Compared.empty(targets)
    if mine:
        compared = Compared.of(
            targets,
            {name: (one.scores[name][mine], other.scores[name][theirs]) for name in targets},
            {name: one.truths[name][mine] for name in targets},
            {name: _thresholds(name, request) for name in targets},
        )
    return EvaluateComparisonReply(compared=compared.pack(), scorings=scorings)


def networks_of(request: EvaluateComparisonRequest) -> tuple[EvaluateTestRequest, EvaluateTestRequest]:
    """Both networks as their studies had them tested: a network that was scored before counts as the same one."""
    first = EvaluateTestRequest(
        round=request.round,
        model=request.model,
        statistics=request.statistics,
        score_ranges=request.score_ranges,
        thresholds=request.thresholds,
    )
    second = EvaluateTestRequest(
        round=request.second_round,
        model=request.second_model,
        statistics=request.second_statistics,
        score_ranges=request.second_score_ranges,
        thresholds=request.second_thresholds,
    )
    return first, second


def score(study: StudySession, config: StudySettings, network: EvaluateTestRequest) -> Scored:
    """Scores one network on the test patients as its own study reads them.

    Raises:
        SiteError: If the site's tables or files cannot be used, or the weights do not fit the network.
        ValueError: If the statistics or score ranges are not those of its task.
    """
    task = with_score_ranges(load_task(config), network.score_ranges)
    admitted = AdmittedStudy(config, study.site, task, study.place, RecordDict())
    model = load_weights(build_network(task, config), network.model, task)
    opened = open_session(admitted, Received(model, StudyStatistics.unpack(network.statistics, task, config)))
    patients = select_patients(opened.cohort, "test", task, opened.frozen.features)
    identifiers = [patients.identifiers[index] for index in patients.indices]
    scores: Mapping[str, Any] = predict(opened.model(network.round), patients, task) if len(patients) else {}
    return Scored(
        identifiers,
        {name: np.asarray(values) for name, values in scores.items()},
        {name: np.asarray(patients.known(name)) for name in task.targets},
    )


def _thresholds(name: str, request: EvaluateComparisonRequest) -> tuple[float, float]:
    chosen = request.thresholds, request.second_thresholds
    first, second = (one.get(name, DEFAULT_THRESHOLD) for one in chosen)
    return first, second
