"""Sites' summed statistics of scores as named arrays, and the decision thresholds that follow from them."""

from __future__ import annotations

from math import isnan

from shared_models.messages import Arrays
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.horizon import HorizonTable
from shared_models.metrics.kaplan_meier import thirds
from shared_models.metrics.summary import Summary, empty_summary, unpack_summary
from shared_models.metrics.survival import ConcordanceTable
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

Summaries = dict[str, Summary]


def unpack(arrays: Arrays, task: Task, config: StudySettings) -> Summaries:
    """The statistics of each target; of no patients where nothing was packed.

    Raises:
        ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
    """
    merged = not uses_secure_aggregation(config)  # what a site sends outside of secure aggregation is of merged cells
    if not arrays:
        return no_scores(task, config)
    return {name: unpack_summary(target, arrays, name, merged) for name, target in task.targets.items()}


def no_scores(task: Task, config: StudySettings) -> Summaries:
    """Statistics of no patients; what a site sends outside of secure aggregation is of merged cells."""
    merged = not uses_secure_aggregation(config)
    return {name: empty_summary(target, merged) for name, target in task.targets.items()}


def thresholds(validation: Summaries, rule: str) -> dict[str, tuple[float, str]]:
    """The decision threshold of each binary target and time to event: from pooled validation, never test patients.

    Where the validation patients are all of one class there is no best threshold, and it is 0.5.
    """
    chosen: dict[str, tuple[float, str]] = {}
    for name, summary in validation.items():
        for scores in summary.values():
            if isinstance(scores, ScoreHistogram | HorizonTable):
                histogram = scores.histogram() if isinstance(scores, HorizonTable) else scores
                value = histogram.threshold(rule)
                chosen[name] = (value, f"{rule}, pooled validation")
                if isnan(value):
                    chosen[name] = (0.5, "0.5: no validation patients of both classes")
    return chosen


def risk_cutoffs(validation: Summaries) -> dict[str, tuple[float, ...]]:
    """Where each time-to-event target's risk groups part: thirds of pooled validation, never of test patients."""
    tables = {
        name: statistic
        for name, summary in validation.items()
        for statistic in summary.values()
        if isinstance(statistic, ConcordanceTable)
    }
    return {name: thirds(table) for name, table in tables.items()}
