"""Figures of a site's own page on how the network predicts: all digits, curves, calibration, risk groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_models.metrics.arrays import Metric, PooledMetrics
from shared_models.metrics.censoring import at_horizon
from shared_models.metrics.names import NAMES
from shared_models.metrics.risk_groups import survival_by_risk
from shared_models.metrics.risk_histogram import STEPS
from shared_models.metrics.summary import Metrics, pooled_metrics, summarise
from shared_models.pages.calibration import (
    BENEFIT,
    CALIBRATION,
    RISKS,
    benefit_values,
    calibration_values,
    draw_benefit,
    draw_calibration,
)
from shared_models.pages.class_table import class_table
from shared_models.pages.curves import CURVES, Curve, Tested, curve_values, draw_curves
from shared_models.pages.drawing import BLUE, HOLLOW, canvas
from shared_models.pages.elements import Element, Figure, Row, Section, Table
from shared_models.pages.numbers import NBSP, duration, with_interval
from shared_models.pages.survival import draw_survival, survival_values
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Array = np.ndarray[Any, Any]
HALF = 0.5
ALSO_WITHIN = ("_bound", "_within_sites", "_within_sites_low", "_within_sites_high")
"""Of one site's rows no bin hides anything and all pairs are of the same site: these metrics say nothing more."""


@dataclass(frozen=True, eq=False)
class TestedTarget:
    """A target on the site's P test patients.

    Attributes:
        name: The target's.
        target: Its kind.
        scores: `(P,)` or `(P, K)`.
        truth: `(P,)` or `(P, 2)`; NaN where unknown.
        threshold: At and above which a prediction counts as positive; None where there is none.
        trains: Whether the site trains.
        own: Metrics that are computed of rows.
    """

    name: str
    target: Target
    scores: Array
    truth: Array
    threshold: float | None
    trains: bool
    own: Metrics

    @property
    def label(self) -> str:
        """The target's name as text."""
        return self.name.replace("_", " ")

    @property
    def full_label(self) -> str:
        """Its name with its horizon."""
        target = self.target
        return f"{self.label} within {duration(target.horizon_days)}" if isinstance(target, TimeToEvent) else self.label

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Numbers and points of curves, exact."""
        pooled = pooled_metrics(self._summary(), HALF if self.threshold is None else self.threshold)
        needed = {name: value for name, value in pooled.items() if not name.endswith(ALSO_WITHIN)}
        return _without_nan({**needed, **self.own, **self._risks()})

    def _risks(self) -> dict[str, float | list[float]]:
        """Patients in each step of predicted risk by outcome: every one of them, where sums over sites spread a few."""
        match self.target:
            case TimeToEvent():
                known = ~np.isnan(self.truth).any(axis=1)
                outcome = at_horizon(self.truth[known, 0], self.truth[known, 1] == 1, self.target.horizon_days)
                event, weights = outcome.event, outcome.weights
            case Binary():
                known = ~np.isnan(self.truth)
                event, weights = self.truth[known] == 1, np.ones(known.sum())
            case _:
                return {}
        step = np.minimum(self.scores[known] * STEPS, STEPS - 1).astype(np.intp)
        bars = (np.bincount(step, weights * one, STEPS).tolist() for one in (event, ~event))
        return dict(zip(RISKS, bars, strict=True))

    def _summary(self) -> Any:
        return summarise(self.target, self.scores, self.truth)

    def section(self) -> Section:
        """Its section of the page."""
        metrics = self.metrics
        tested = Tested("this hospital", "internal" if self.trains else "external", metrics, _share(metrics))
        elements: list[Element] = [*_plots(self, tested), *self._survival(), *self._scatter()]
        if isinstance(self.target, Categorical):
            elements += class_table(self.label, self.target.classes, [tested])
        title = f"{self.full_label[:1].upper()}{self.full_label[1:]}"
        return Section(title, self._lead(metrics), [*elements, self._table(metrics)])

    def judging(self, metrics: Mapping[str, Metric]) -> str:
        """The metric that judges it, with its interval, in words."""
        name = next((name for name in ("auc", "macro_f1", "r2") if name in metrics), "")
        return f"{NAMES[name]} {with_interval(metrics, name)}" if name else "no measure"

    def _lead(self, metrics: Mapping[str, Metric]) -> str:
        threshold = (
            ""
            if self.threshold is None
            else f" The study's decision threshold, from all sites' validation patients, is {self.threshold:.3f}."
        )
        return f"{self.judging(metrics)} on this hospital's own test patients.{threshold}"

    def _table(self, metrics: Mapping[str, Metric]) -> Table:
        numbers = {k: v for k, v in metrics.items() if not isinstance(v, list) and not k.endswith(("_low", "_high"))}
        rows = [
            Row(
                NAMES[name],
                [exact(value), exact(metrics.get(f"{name}_low"), ""), exact(metrics.get(f"{name}_high"), "")],
            )
            for name, value in numbers.items()
        ]
        timed = " C-index: over the whole follow-up; all else at the horizon, weighted for censoring."
        caption = f"With all digits; 95{NBSP}% intervals.{timed if isinstance(self.target, TimeToEvent) else ''}"
        return Table(["Measure", "value", "low", "high"], rows, caption)

    def _survival(self) -> Iterator[Figure]:
        survival = survival_by_risk(self.target, self._summary(), self.threshold)
        if survival is not None:
            shown = {"this hospital": survival}
            yield Figure(
                name=f"risk_groups_{self.name}",
                draw=lambda: draw_survival(shown),
                alt=f"Kaplan-Meier curves of {self.label} by predicted risk",
                caption="Kaplan–Meier estimates of the patients below the study's threshold, and of those at or above "
                f"it. Bands: 95{NBSP}% (Greenwood, log−log). In the legend: events of patients.",
                columns=("patients", "group", "days", "at risk", "free", "low", "high"),
                values=[*survival_values(shown)],
            )

    def _scatter(self) -> Iterator[Figure]:
        if isinstance(self.target, Regression) and np.isfinite(self.truth).any():
            yield Figure(
                name=f"predicted_{self.name}",
                draw=lambda: _draw_scatter(self.scores, self.truth),
                alt=f"Known against predicted {self.label}",
                caption="A point a patient: this page stays here. Dashed: perfect.",
                columns=("predicted", "known"),
                values=list(zip(self.scores.tolist(), self.truth.tolist(), strict=True)),
            )


def exact(value: Metric, none: str = "not defined") -> str:
    """All digits that there are."""
    if not isinstance(value, float) or math.isnan(value):
        return none
    return f"{int(value)}" if value.is_integer() and abs(value) < 1e15 else repr(value)


def _without_nan(metrics: PooledMetrics) -> dict[str, Metric]:
    def known(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    return {k: [known(one) for one in v] if isinstance(v, list) else known(v) for k, v in metrics.items()}


def _share(metrics: Mapping[str, Metric]) -> float | None:
    share, cases, patients = (metrics.get(name) for name in ("event_probability", "positives", "patients"))
    if isinstance(share, float):
        return share
    return cases / patients if isinstance(cases, float) and isinstance(patients, float) and patients else None


def _plots(one: TestedTarget, tested: Tested) -> Iterator[Figure]:
    """ROC and precision-recall curves, calibration, net benefit: those of which the metrics hold points."""
    timed = " At the horizon, weighted for censoring." if isinstance(one.target, TimeToEvent) else ""
    shown, metrics = [tested], tested.metrics
    if Curve.of(metrics, *CURVES["ROC"]):
        yield Figure(
            name=f"curves_{one.name}",
            draw=lambda: draw_curves(shown),
            alt=f"ROC and precision-recall curves of {one.full_label}",
            caption=f"All test patients of this hospital.{timed} Bands: 95{NBSP}% at each point. Dashed grey: chance; "
            "dotted: share of patients with the outcome.",
            columns=("patients", "curve", "x", "y", "low", "high"),
            values=[*curve_values(shown)],
        )
    if Curve.of(metrics, *CALIBRATION):
        yield Figure(
            name=f"calibration_{one.name}",
            draw=lambda: draw_calibration(shown),
            alt=f"Calibration curve of {one.full_label}",
            caption=f"Observed share against the mean predicted risk, in cells of five patients or more, with "
            f"95{NBSP}% intervals.{timed} Dashed: perfect. Below: patients in each 2{NBSP}% of predicted risk.",
            columns=("patients", "series", "predicted", "observed or patients", "low", "high"),
            values=[*calibration_values(shown)],
        )
    if Curve.of(metrics, *BENEFIT):
        yield Figure(
            name=f"net_benefit_{one.name}",
            draw=lambda: draw_benefit(shown),
            alt=f"Decision curve of {one.full_label}",
            caption="Net benefit per 1,000 patients: patients with the outcome who are found, less patients treated in "
            f"vain at the exchange rate that the threshold implies (Vickers 2006), with 95{NBSP}% bands.",
            columns=("patients", "threshold", "model", "low", "high", "all positive"),
            values=[*benefit_values(shown)],
        )


def _draw_scatter(predicted: Array, known: Array) -> Drawing:
    drawing, (axes,) = canvas(3.4, share=0.5)
    ends = [float(end(np.concatenate([predicted, known]))) for end in (np.nanmin, np.nanmax)]
    axes.plot(ends, ends, color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)
    axes.plot(predicted, known, "o", color=BLUE, markersize=3.5, alpha=0.6)
    axes.set(xlabel="predicted", ylabel="known")
    return drawing
