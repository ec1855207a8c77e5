"""Section of results.json on what the network uses: what its scores lose without a modality or a feature."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared_models.importance import Change, Importance, changes, pooled_changes
from shared_models.messages import Arrays
from shared_models.metrics.arrays import Array, TargetStatistic
from shared_models.metrics.interval import Interval
from shared_models.metrics.paired import measure_of
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")
POOLED_MEASURES = ("auc", "c_index")


class ImportanceResults(BaseModel):
    """What a target's scores lose by one change of the input."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    modality: str = Field(description="the modality that is changed")
    feature: str = Field(description="the feature of that table alone; empty: all of the modality")
    change: Literal["shuffled", "absent"] = Field(
        description="shuffled between a site's patients who have it (mean over five shuffles), or absent of all"
    )
    patients: int = Field(description="test patients who have the modality")
    measure: Literal["auc", "c_index", "auc_by_class"] = Field(
        description="what is lost: share of concordant pairs of patients of the same site; `auc_by_class` is over the "
        "classes against the rest, weighted by pairs"
    )
    drop: float | None = Field(description="by how much it is lower after the change; null without pairs")
    drop_low: float | None = Field(
        description="lower bound of its 95 % interval (DeLong's of paired scores, of a C-index the jackknife, by site; "
        "the shuffles are taken as given); null where no patient's place changes"
    )
    drop_high: float | None = Field(description="upper bound")
    pooled_drop: float | None = Field(
        description="the same over pairs of all patients, from histograms; null for absence, features, and targets "
        "without such a measure"
    )
    pooled_drop_low: float | None = Field(
        description="lower bound of its 95 % interval (MOVER, Zou and Donner 2008, 10.1002/sim.3095, of the intervals "
        "before and after; histograms do not pair patients, so that it is too wide)"
    )
    pooled_drop_high: float | None = Field(description="upper bound")
    mean_shap: float | None = Field(
        None,
        description='of a feature, with `importance = "shap"`: mean absolute Shapley value over `explained` patients, '
        "in the score's unit (a probability, a risk by the horizon, a number; of classes the mean over them)",
    )
    explained: int = Field(0, description="test patients whose score was explained, 200 of a site and fold at most")

    @property
    def used(self) -> bool:
        """Whether the loss is more than chance: its interval is above 0."""
        return self.drop_low is not None and self.drop_low > 0

    @property
    def label(self) -> str:
        """What is changed and how, as `mri shuffled` or `clinical: age_years shuffled`."""
        return f"{self.modality}{': ' if self.feature else ''}{self.feature} {self.change}"


def pool_importance(scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> Importance:
    """Adds up what sites lose, given by site; one that fails its check is left out."""
    merged = not uses_secure_aggregation(config)
    total = Importance.empty(task, config, merged)
    for site, arrays in scores.items():
        if not arrays:
            continue
        try:
            total = total + Importance.unpack(arrays, task, config, merged)
        except ValueError as error:
            log.warning("%s: what its scores lose by a change of the input is left out: %s", site, error)
    return total


def importance_section(target: str, lost: Importance, task: Task, config: StudySettings) -> list[ImportanceResults]:
    """A row for each change of one target; none without comparable pairs."""
    pairs, pooled = lost.pairs[target], _pooled(lost.pooled.get(target, ()), pooled_changes(task, config))
    if not (pairs.comparable > 0).any():
        return []
    rows = zip(changes(task, config), lost.patients, pairs.differences(), strict=True)
    return [
        ImportanceResults(
            modality=change.modality,
            feature=change.feature,
            change=change.kind,
            patients=round(float(patients)),
            measure=measure_of(task.targets[target]),
            **_named("drop", drop),
            **_named("pooled_drop", pooled.get(change, Interval(math.nan, math.nan, math.nan))),
            **_shap(change, place, lost.explained.get(target)),
        )
        for place, (change, patients, (drop, _)) in enumerate(rows, start=1)
    ]


def _shap(change: Change, place: int, sums: Array | None) -> dict[str, Any]:
    """A feature's mean absolute Shapley value; of other changes none."""
    if sums is None or not change.feature or not sums[0] > 0:
        return {}
    return {"mean_shap": round(float(sums[place] / sums[0]), 6), "explained": round(float(sums[0]))}


def shuffled_modalities(rows: Sequence[ImportanceResults]) -> list[ImportanceResults]:
    """The rows of whole modalities that were shuffled and that patients have."""
    return [row for row in rows if not row.feature and row.change == "shuffled" and row.patients]


def mean_importance(groups: Iterable[Sequence[ImportanceResults]]) -> list[ImportanceResults]:
    """Each row's mean over repeats of folds; rows that one of them lacks are left out."""
    all_of = [[*group] for group in groups]
    if not all_of or any(len(group) != len(all_of[0]) for group in all_of):
        return []
    return [_mean_row(rows) for rows in zip(*all_of, strict=True)]


def _mean_row(rows: Sequence[ImportanceResults]) -> ImportanceResults:
    means = {}
    for name in ImportanceResults.model_fields:
        if "drop" in name or name == "mean_shap":
            known = [value for row in rows if (value := getattr(row, name)) is not None]
            means[name] = round(math.fsum(known) / len(known), 6) if known else None
    return rows[0].model_copy(update=means)


def _pooled(tables: Sequence[TargetStatistic], of: Sequence[Change]) -> dict[Change, Interval]:
    """By how much the AUC or C-index of all patients together is lower after each change."""
    if not tables:
        return {}
    first, *after = (_measured(table) for table in tables)
    return {change: _less(first, one) for change, one in zip(of, after, strict=True)}


def _measured(table: TargetStatistic) -> Interval:
    metrics = table.metrics(0.5)
    (name,) = (name for name in POOLED_MEASURES if name in metrics)
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    assert isinstance(value, float)
    assert isinstance(low, float)
    assert isinstance(high, float)
    return Interval(value, low, high)


def _less(first: Interval, second: Interval) -> Interval:
    """A difference with an interval from those of its parts, taken as independent."""
    value = first.value - second.value
    reach_down = math.hypot(first.value - first.low, second.high - second.value)
    reach_up = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, value - reach_down, value + reach_up)


def _named(name: str, interval: Interval) -> dict[str, float | None]:
    values = (interval.value, interval.low, interval.high)
    rounded = [round(value, 6) if math.isfinite(value) else None for value in values]
    return dict(zip((name, f"{name}_low", f"{name}_high"), rounded, strict=True))
