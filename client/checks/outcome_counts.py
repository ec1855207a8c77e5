"""Outcomes of a site in counts of patients, and as labels that features are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.checks.problems import CENSORED, UNKNOWN
from client.cohort.outcomes import read_truth
from client.cohort.rows import CohortRows
from client.config.site import Outcome
from client.errors import SiteError
from client.tables.values import text_categories
from shared_models.task import Task

if TYPE_CHECKING:
    from shared_models.targets import Target

EVENT_OF = "the event of "  # begins the names of events


def labels_by_name(cohort_rows: CohortRows, task: Task) -> dict[str, NDArray[np.float64]]:
    """`(R,)` of each outcome by a name for messages, also of each class; what cannot be read has none."""
    from shared_models.targets import Categorical, TimeToEvent

    labels: dict[str, NDArray[np.float64]] = {}
    for name, kind in task.targets.items():
        try:
            truth = read_truth(cohort_rows, name, kind)[cohort_rows.owner].astype(np.float64)
        except SiteError:  # it is among the problems
            continue
        if isinstance(kind, Categorical):
            known = np.isnan(truth)
            labels |= {f"{name} {c}": np.where(known, np.nan, truth == i) for i, c in enumerate(kind.classes)}
        elif isinstance(kind, TimeToEvent):
            labels |= {f"the days of {name}": truth[:, 0], f"{EVENT_OF}{name}": truth[:, 1]}
        else:
            labels[name] = truth
    return labels


def count_classes(cohort_rows: CohortRows, name: str, kind: Target) -> dict[str, int]:
    """How many patients have each class of an outcome, and of how many it is not known.

    Raises:
        SiteError: If the outcome cannot be read.
    """
    from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

    truth = read_truth(cohort_rows, name, kind)
    label = truth[:, 1] if isinstance(kind, TimeToEvent) else truth
    unknown = np.isnan(label)
    if isinstance(kind, Regression):
        return {"known": int((~unknown).sum()), UNKNOWN: int(unknown.sum())}
    outcome = cohort_rows.site.targets.get(name)
    names: tuple[str, ...] = kind.classes if isinstance(kind, Categorical) else ("0", "1")
    names = ("censored", "event") if isinstance(kind, TimeToEvent) else names
    early: dict[str, int] = {}
    if isinstance(kind, Binary) and outcome and outcome.label is None:
        names = ("no event by the horizon", "event by the horizon")
        followed: NDArray[np.bool_] = ~np.isnan(read_truth(cohort_rows, name, TimeToEvent())[:, 0])
        early = {CENSORED: int((unknown & followed).sum())}
        unknown = unknown & ~followed
    return {n: int((label == index).sum()) for index, n in enumerate(names)} | early | {UNKNOWN: int(unknown.sum())}


def target_of(outcome: Outcome) -> Target:
    """The kind of target that a site's own columns hold, where no study says it."""
    from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

    if outcome.label is None:
        return TimeToEvent()
    if classes := text_categories(outcome.label):
        return Categorical(classes)
    return Binary() if outcome.label.codes else Regression()
