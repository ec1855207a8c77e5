"""Targets that nothing can be learned of: no training patient has the outcome, or all have it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from server.study.exchange import StudyError
from shared_models.messages import Arrays
from shared_models.targets import Binary, Categorical, Target, TimeToEvent

log = logging.getLogger("server")
WITHHELD = ", or too few at each hospital to be told"


def require_learnable(targets: Mapping[str, Target], counts: Arrays, *, exact: bool, least: int = 1) -> None:
    """Says of which targets nothing can be learned, before anything is trained.

    Args:
        targets: The task's.
        counts: Training patients of all sites, as `Target.counts` gives them.
        exact: Whether they are; else a site may have withheld an outcome of few patients.
        least: How many sites must know a target for its patients to be counted, as with secure aggregation.

    Raises:
        StudyError: If that is so of all targets, and the counts are exact.
    """
    problems = {name: why for name, target in targets.items() if (why := _why_not(target, counts[name]))}
    few = f", or fewer than {least} hospitals know it, as secure aggregation needs" if least > 1 else ""
    doubts = {name: (few if not counts[name].any() else "") if exact else WITHHELD for name in problems}
    sentences = [f"{name}: {why}{doubts[name]}; nothing can be learned of it" for name, why in problems.items()]
    if exact and len(problems) == len(targets):
        raise StudyError("; ".join(sentences))
    for sentence in sentences:
        log.warning("%s", sentence)


def _why_not(target: Target, counts: np.ndarray[Any, Any]) -> str:
    match target:
        case TimeToEvent():
            return "" if counts[1].sum() > 0 else "no training patient has the event"
        case Binary() | Categorical():
            with_patients = np.flatnonzero(counts > 0)
            if len(with_patients) > 1:
                return ""
            return "all training patients are of one class" if len(with_patients) else "no training patient has a label"
        case _:
            return "" if counts[0] > 0 else "no training patient has a value"
