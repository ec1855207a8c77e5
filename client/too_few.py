"""Validation patients who are too few for their scores to leave a site by itself, by outcome."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from client.cohort.load import Cohort
from client.session import StudySession
from shared_models.folds import fold_of
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.targets import Binary, Categorical, Target, TimeToEvent
from shared_models.task import Task

log = logging.getLogger("client")


def tell_too_few(study: StudySession) -> None:
    """Logs it in the first fold; what is simulated says it at the end, if no round could be judged."""
    fold = fold_of(study.config)
    if study.site.center is None or uses_secure_aggregation(study.config) or (fold is not None and fold.number > 1):
        return
    for sentence in too_few_to_score(study.cohort, study.task, study.site.policy.minimum_count):
        log.warning("%s: %s", study.config.study, sentence)


def too_few_to_score(cohort: Cohort, task: Task, least: int) -> Iterator[str]:
    """Targets of which no validation score may leave outside of a secure sum, a sentence each; for the site's own eyes.

    Args:
        cohort: The site's patients.
        task: The study's.
        least: The site's `policy.minimum_count`.
    """
    for name, target in task.targets.items():
        counts = _by_outcome(target, cohort.truths[name][cohort.parts["validation"]])
        if short := {outcome: count for outcome, count in counts.items() if count < least}:
            lacks = ", ".join(f"{count} {outcome} ({least - count} short)" for outcome, count in short.items())
            yield (
                f"{name}: of its validation patients {lacks} of minimum_count = {least}: without secure aggregation "
                "their scores do not leave the site, and do not choose the round"
            )


def _by_outcome(target: Target, truth: np.ndarray) -> dict[str, int]:
    """How many patients have each outcome, in words."""
    match target:
        case TimeToEvent():
            event = truth[~np.isnan(truth).any(axis=1), 1]
            return {"with the event": int((event == 1).sum()), "without it": int((event == 0).sum())}
        case Binary():
            return {"with the outcome": int((truth == 1).sum()), "without it": int((truth == 0).sum())}
        case Categorical():
            return {f"of class {one}": int((truth == index).sum()) for index, one in enumerate(target.classes)}
        case _:
            return {"with a value": int((~np.isnan(truth)).sum())}
