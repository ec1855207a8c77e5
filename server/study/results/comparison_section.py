"""Section of results.json on other models: each beside the study's on the same test patients, with paired tests."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shared_models.atomic_files import write_atomically
from shared_models.description import is_unknown
from shared_models.metrics.arrays import total
from shared_models.metrics.compared import Compared
from shared_models.metrics.interval import Interval, logit_interval
from shared_models.metrics.paired import PairedPairs, holm, mcnemar, measure_of
from shared_models.targets import Binary, Target

LEVEL = 0.95
COMPARISONS, MATRIX = "comparisons.csv", "matrix.csv"
Measure = Literal["auc", "c_index", "auc_by_class"]
Values = NDArray[np.floating[Any]]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelComparison(_Row):
    """Another model beside the study's, on the same test patients."""

    target: str = Field(description="the target")
    model: str = Field(description="the other model, and what it was trained on")
    patients: int = Field(
        description="test patients whom both score and whose outcome is known; of a hospital that may not tell of so "
        "few, none"
    )
    measure: Measure = Field(description="share of concordant pairs of patients of the same site")
    value: float | None = Field(description="the other model's; null without comparable pairs")
    value_low: float | None = Field(description="lower bound of its 95 % interval (DeLong or jackknife, logit scale)")
    value_high: float | None = Field(description="upper bound")
    by_site: dict[str, float | None] = Field(description="the same at each site")
    difference: float | None = Field(description="that of the other model less that of the study's")
    difference_low: float | None = Field(description="lower bound of its 95 % interval (paired; DeLong, by site)")
    difference_high: float | None = Field(description="upper bound")
    p: float | None = Field(description="two-sided p-value of no difference")
    p_holm: float | None = Field(description="the same after Holm, over all such tests of the study")
    only_study_right: int | None = Field(
        description="of a binary target: patients whom only the study's model calls rightly, each by its own threshold"
    )
    only_other_right: int | None = Field(description="those whom only the other does")
    mcnemar_p: float | None = Field(description="p-value of McNemar's exact test of these two numbers")
    mcnemar_p_holm: float | None = Field(description="the same after Holm, over all such tests of the study")
    mcnemar_patients: int | None = Field(
        None, description="patients of McNemar's test; of hospitals that may not tell of so few in a cell, none"
    )


class MatrixCell(_Row):
    """A site's own model, or the study's, at a site."""

    target: str = Field(description="the target")
    trained_on: str = Field(description="the site whose training patients alone the model saw, or the study's name")
    tested_on: str = Field(description="the site of the test patients")
    patients: int = Field(description="its test patients whose outcome is known")
    measure: Measure = Field(description="share of concordant pairs of these patients")
    value: float | None = Field(description="that share; null without comparable pairs")
    value_low: float | None = Field(description="lower bound of its 95 % interval (DeLong or jackknife, logit scale)")
    value_high: float | None = Field(description="upper bound")


@dataclass(frozen=True)
class SiteScores:
    """Two models' scores of one site's patients.

    Attributes:
        study: The study's, (N,) or (N, K).
        other: The other model's.
        truth: (N,) or (N, 2); NaN where unknown.
        thresholds: Of a binary target, at and above which the study's model and the other call a patient positive.
    """

    study: Values
    other: Values
    truth: Values
    thresholds: tuple[float, float] = (0.5, 0.5)


def compare(name: str, target: Target, model: str, sites: Mapping[str, Sequence[SiteScores]]) -> ModelComparison:
    """One row, before Holm's correction.

    Args:
        name: The target's.
        target: The target.
        model: What the other model is called.
        sites: Both models' scores by site; of a study of folds an entry a fold, since each has networks of its own,
            whose scores are not compared with another fold's.
    """
    parts = [one for folds in sites.values() for one in folds]
    pairs = total(PairedPairs.of(target, one.other, [[one.study]], one.truth) for one in parts)
    ((difference, p_value),) = pairs.differences()
    value = share([(target, one.other, one.truth) for one in parts])
    discordant = _discordant(parts) if isinstance(target, Binary) else None
    patients = sum(int(_known(one.truth).sum()) for one in parts)
    return ModelComparison(
        target=name,
        model=model,
        patients=patients,
        measure=measure_of(target),
        by_site={
            site: _finite(share([(target, one.other, one.truth) for one in folds]).value)
            for site, folds in sites.items()
        },
        p=_finite(p_value),
        p_holm=None,
        only_study_right=discordant[0] if discordant else None,
        only_other_right=discordant[1] if discordant else None,
        mcnemar_p=_finite(mcnemar(*discordant)) if discordant else None,
        mcnemar_p_holm=None,
        mcnemar_patients=patients if discordant else None,
        **_bounds("value", value),
        **_bounds("difference", difference),
    )


def compared_row(name: str, target: Target, model: str, sites: Mapping[str, Compared]) -> ModelComparison:
    """One row of a comparison of the study's network with another's across hospitals, before Holm's correction.

    Args:
        name: The target's.
        target: The target.
        model: What the other network is called.
        sites: What each hospital counted of both; of a secure sum one entry.
    """
    pairs = total(one.pairs[name] for one in sites.values())
    calls = total(one.calls[name] for one in sites.values()) if isinstance(target, Binary) else None
    (gained, p_value), _, _ = pairs.differences()
    right = (round(calls.only_first), round(calls.only_second)) if calls and calls.patients else None
    return ModelComparison(
        target=name,
        model=model,
        patients=round(float(pairs.cases[-1] + pairs.others[-1])),
        measure=measure_of(target),
        by_site={site: _finite(_share(one.pairs[name]).value) for site, one in sites.items()},
        p=_finite(p_value),
        p_holm=None,
        only_study_right=right[0] if right else None,
        only_other_right=right[1] if right else None,
        mcnemar_p=_finite(mcnemar(*right)) if right else None,
        mcnemar_p_holm=None,
        mcnemar_patients=round(calls.patients) if calls and calls.patients else None,
        **_bounds("value", _share(pairs)),
        **_bounds("difference", Interval(-gained.value, -gained.high, -gained.low)),
    )


def cell(
    name: str, target: Target, trained_on: str, tested_on: str, folds: Sequence[tuple[Values, Values]]
) -> MatrixCell:
    """How a model does at one site, from scores and truths; of a study of folds those of each."""
    return MatrixCell(
        target=name,
        trained_on=trained_on,
        tested_on=tested_on,
        patients=sum(int(_known(truth).sum()) for _, truth in folds),
        measure=measure_of(target),
        **_bounds("value", share([(target, scores, truth) for scores, truth in folds])),
    )


def corrected(rows: Sequence[ModelComparison]) -> list[ModelComparison]:
    """The rows with Holm's p-values, each kind of test a family."""
    family = {kind: holm([_number(getattr(row, kind)) for row in rows]) for kind in ("p", "mcnemar_p")}
    return [
        row.model_copy(update={f"{kind}_holm": _finite(values[place]) for kind, values in family.items()})
        for place, row in enumerate(rows)
    ]


def share(sites: Iterable[tuple[Target, Values, Values]]) -> Interval:
    """The share of concordant pairs within sites: what is gained over scores that are all equal, and one half."""
    return _share(
        total(PairedPairs.of(kind, scores, [[np.zeros_like(scores)]], truth) for kind, scores, truth in sites)
    )


def _share(parts: PairedPairs) -> Interval:
    """The share of concordant pairs, of the last of some comparisons: that with scores that are all equal."""
    comparable = float(parts.comparable[-1])
    if not comparable > 0:
        return Interval(math.nan, math.nan, math.nan)
    value = min(max(0.5 + float(parts.gained[-1]) / comparable, 0.0), 1.0)
    disjoint = min(float(parts.cases[-1]), float(parts.others[-1]) or math.inf)
    return logit_interval(value, float(parts.variance[-1]) / comparable**2, disjoint, LEVEL)


def write_comparisons(comparisons: Sequence[ModelComparison], matrix: Sequence[MatrixCell], folder: Path) -> list[Path]:
    """Writes `comparisons.csv` and `matrix.csv`, of what there is, into the study's folder."""
    written = []
    for file, rows in ((COMPARISONS, [_flat(row) for row in comparisons]), (MATRIX, [_flat(one) for one in matrix])):
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(folder / file, text.getvalue())
            written.append(folder / file)
    return written


def _flat(row: BaseModel) -> dict[str, object]:
    values = row.model_dump()
    by_site = values.pop("by_site", {})
    return values | {f"value at {site}": value for site, value in by_site.items()}


def _discordant(parts: Sequence[SiteScores]) -> tuple[int, int]:
    """Patients whom only the first, and only the second model calls rightly."""
    counts = np.zeros(2, int)
    for one in parts:
        known = _known(one.truth)
        truth = one.truth[known] == 1
        scored = zip((one.study, one.other), one.thresholds, strict=True)
        first, second = ((scores[known] >= threshold) == truth for scores, threshold in scored)
        counts += [(first & ~second).sum(), (second & ~first).sum()]
    return int(counts[0]), int(counts[1])


def _known(truth: Values) -> NDArray[np.bool_]:
    return ~is_unknown(truth)


def _bounds(name: str, interval: Interval) -> dict[str, Any]:
    values = {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {key: _finite(value) for key, value in values.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
