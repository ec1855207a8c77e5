"""Sections on the curves of two studies, one over the other, and on their training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from server.report.side_by_side.pair import LOOKS, Pair
from server.report.study import Outcome
from shared_models.pages.calibration import CALIBRATION, plot_points
from shared_models.pages.curves import AXES, CURVES, Curve, Lists, is_coarse
from shared_models.pages.drawing import HOLLOW, ROLES, Role, canvas, whole_numbers
from shared_models.pages.elements import Figure, Section, not_recorded
from shared_models.pages.numbers import NBSP, names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


def curves(pair: Pair) -> Section:
    """ROC, precision-recall and calibration curves of both, one figure for each target and role."""
    figures = [figure for outcomes in pair.outcomes for role in ROLES for figure in _overlaid(pair, outcomes, role)]
    if not figures:
        return not_recorded("Curves", "no target of both studies has curves.")
    return Section("Curves", f"Bands are 95{NBSP}% at each point.", figures)


def _overlaid(pair: Pair, outcomes: tuple[Outcome, Outcome], role: Role) -> Iterator[Figure]:
    both = [outcome.metrics(role) for outcome in outcomes]
    kinds = {**CURVES, "calibration": CALIBRATION}
    curves = {kind: [Curve.of(metrics, *keys) for metrics in both] for kind, keys in kinds.items()}
    if not all(curves["ROC"]):
        return
    coarse = names([name for name, metrics in zip(pair.names, both, strict=True) if is_coarse(metrics)])
    doubt = f" Cells of few patients were merged before they left the hospitals: coarse steps of risk in {coarse}."
    yield Figure(
        f"compared_curves_{outcomes[0].name}_{role}",
        lambda: _draw_curves(pair, curves, both),
        f"ROC, precision-recall and calibration curves of {outcomes[0].full_label}, {role}, of both studies",
        f"{outcomes[0].full_label}, {role} test patients. Solid: {pair.names[0]}; dashed: {pair.names[1]}."
        f"{doubt if coarse else ''}",
        ("study", "curve", "x", "y", "low", "high"),
        [
            (name, kind, *row)
            for kind, two in curves.items()
            for name, curve in zip(pair.names, two, strict=True)
            for row in curve.rows
        ],
    )


def _draw_curves(pair: Pair, curves: Mapping[str, list[Curve]], both: Sequence[Lists]) -> Drawing:
    drawing, all_axes = canvas(3.4, 3)
    for axes, kind in zip(all_axes, CURVES, strict=False):
        for curve, name, (colour, dash, _) in zip(curves[kind], pair.names, LOOKS, strict=True):
            curve.draw(axes, colour, linestyle=dash, label=name)
        _frame(axes, kind, AXES[kind])
    for metrics, (_, dash, look) in zip(both, LOOKS, strict=True):
        plot_points(all_axes[-1], metrics, look, joined=dash)
    _frame(all_axes[-1], "calibration", ("predicted risk", "observed share"))
    all_axes[0].legend(loc="lower right")
    return drawing


def _frame(axes: Axes, kind: str, labels: tuple[str, str]) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=labels[0], ylabel=labels[1])
    if kind != "PR":
        axes.plot([0, 1], [0, 1], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)


def training(pair: Pair) -> Section:
    """Validation by round of both."""
    lines = [[(r, value) for r, value in study.results.validation if value is not None] for study in pair.both]
    if not any(lines):
        return not_recorded("Training", "neither study has validation values.")
    return Section(
        "Training",
        "",
        [
            Figure(
                "compared_training",
                lambda: _draw_training(pair, lines),
                "Validation value by round, of both studies",
                "Validation value by round; of other patients or targets the two are not on one scale.",
                ("study", "round", "value"),
                [(name, *point) for name, line in zip(pair.names, lines, strict=True) for point in line],
            )
        ],
    )


def _draw_training(pair: Pair, lines: list[list[tuple[int, float]]]) -> Drawing:
    drawing, (axes,) = canvas(2.9, share=0.6)
    for line, name, (colour, dash, _) in zip(lines, pair.names, LOOKS, strict=True):
        if line:
            axes.plot(*zip(*line, strict=True), color=colour, linestyle=dash, label=name)
    axes.set(xlabel="round", ylabel="validation value")
    whole_numbers(axes)
    axes.legend(loc="lower right")
    return drawing
