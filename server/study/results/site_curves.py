"""Curves of single sites, from the statistics that each tells of its own test patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from server.study.results.rounding import rounded
from server.study.scoring import unpack
from shared_models.messages import EvaluateTestReply
from shared_models.metrics.arrays import Number
from shared_models.metrics.summary import pooled_metrics
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

WIDEST = 0.4
"""A band of the ROC curve that is wider on average says too little to be shown."""
DRAWN = {"roc_true_positive_rate", "calibration_observed"}  # of the statistics that have curves
Curves = dict[str, list[Number]]


def site_curves(reply: EvaluateTestReply | None, task: Task, config: StudySettings) -> dict[str, Curves]:
    """A site's ROC, precision-recall, calibration and decision curve with their bands, by target.

    They are of the merged cells that left the site, whose bands hold what merging hides. None of a target whose band is
    too wide to say anything, and with secure aggregation none, since only sums over sites are known.

    Args:
        reply: What the site told.
        task: The study's.
        config: Its settings.
    """
    if reply is None or uses_secure_aggregation(config):
        return {}
    curves = {}
    for name, summary in unpack(reply.test or reply.external, task, config).items():
        metrics = rounded(pooled_metrics({key: one for key, one in summary.items() if DRAWN & one.METRICS.keys()}, 0.5))
        if _tells_enough(metrics):
            curves[name] = {key: value for key, value in metrics.items() if isinstance(value, list)}
    return curves


def _tells_enough(metrics: Mapping[str, Number | list[Number]]) -> bool:
    low, high = (metrics.get(f"roc_true_positive_rate_{end}") for end in ("low", "high"))
    if not isinstance(low, list) or not isinstance(high, list) or None in low or None in high:
        return False
    return float(np.mean(np.array(high, dtype=float) - np.array(low, dtype=float))) <= WIDEST
