"""Preparing a study: who takes part, what their training patients add up to, and the first global model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from server.study.endpoints import differing
from server.study.enrolment import (
    Enrolment,
    class_weights,
    enrol,
    modalities_below,
    pooled_statistics,
)
from server.study.exchange import StudyError, log_problems
from server.study.learnable import require_learnable
from server.study.missing_sites import require_sites
from server.study.progress import progress_of
from server.study.results.subgroups_section import require_somebody
from server.study.secure_aggregation.secure_exchange import first_exchange
from server.study.weights.checkpoint import (
    Checkpoint,
)
from server.study.weights.initial_weights import initial_model
from shared_models.combat import references
from shared_models.differences import Sums
from shared_models.messages import (
    StudyStatistics,
)
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.secure_aggregation.study import terms_of
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")
ASK = "Ask it to check units, codes and columns"


def prepare(
    grid: Grid, task: Task, config: StudySettings, deadline: float = 0.0, start: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Sums the training patients' statistics over the sites, freezes them, and makes the first global model."""
    progress_of(grid).stage("preparing")
    enrolled, sums, not_enrolled = ask_to_enrol(grid, task, config, deadline)
    counts = {name: np.sum([site.counts[name] for site in sums], axis=0) for name in task.targets}
    summed = uses_secure_aggregation(config)
    require_learnable(task.targets, counts, exact=summed, least=terms_of(config).colluders + 2 if summed else 1)
    combat_references = references([site.statistics for site in sums], config)
    features = pooled_statistics(sums, task, combat_references)
    shared_counts = counts if summed else {}  # of few sites, one could tell another's
    statistics = StudyStatistics(features, combat_references, class_weights(task, config, counts), shared_counts).pack()
    model = initial_model(task, config, counts)
    return Checkpoint(config.to_flat(), 0, model, statistics, enrolled, not_enrolled, start=dict(start or {}))


def ask_to_enrol(
    grid: Grid, task: Task, config: StudySettings, deadline: float
) -> tuple[dict[str, Enrolment], list[Sums], dict[str, str]]:
    """Who takes part, what their training patients add up to, and why others do not take part.

    Sites that have not answered are waited for until the deadline, on the monotonic clock.

    Raises:
        StudyError: If too few sites can train or take part, or with secure aggregation too few have a modality.
    """
    answers, parts = first_exchange(grid, config, deadline)
    enrolled, sums, refused = enrol(answers, parts, task)
    problems = log_problems(answers, config, refused)
    progress_of(grid).failed(refused)
    training = sum(site.trains for site in enrolled.values())
    if not sums or training < config.min_sites:
        nothing = (
            "no other site is connected"
            if training < config.min_sites
            else "secure aggregation failed: too few sites took part"
        )
        reasons = "; ".join(f"{site}: {why}" for site, why in problems.items()) or nothing
        msg = f"{training} sites can train, but the study needs min-sites = {config.min_sites}. {reasons}"
        raise StudyError(msg)
    require_sites(config, enrolled, problems)
    least = terms_of(config).colluders + 2
    if uses_secure_aggregation(config) and (rare := modalities_below(least, enrolled, task)):
        msg = (
            f"secure aggregation needs {least} sites that train, and fewer have {', '.join(rare)}; "
            "name the others in the study's `modalities`, or find more sites"
        )
        raise StudyError(msg)
    require_somebody(answers, task)
    for sentence in differing({site: one.endpoints for site, one in sorted(enrolled.items())}):
        log.warning("%s", sentence)
    for site, one in sorted(enrolled.items()):
        for difference in one.differences:
            log.warning("%s is unlike the other hospitals: %s. %s", site, difference, ASK)
    log.info("%d sites, %d of them train", len(enrolled), training)
    return enrolled, sums, problems
