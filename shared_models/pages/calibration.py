"""Plots of calibration with its estimates and the predicted risks under it, and of net benefit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shared_models.metrics.names import NAMES
from shared_models.pages.curves import Curve, Lists, Tested, is_coarse
from shared_models.pages.drawing import COLOUR, HOLLOW, INK, MARKER, Role, canvas, grid, narrow_title, over_under
from shared_models.pages.numbers import count, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

ESTIMATES = ("calibration_slope", "calibration_in_the_large", "expected_observed_ratio", "brier")
CALIBRATION = ("calibration_predicted", "calibration_observed")
BENEFIT = ("net_benefit_threshold", "net_benefit")
RISKS = ("risk_with_outcome", "risk_without_outcome")


def draw_calibration(shown: Sequence[Tested]) -> Drawing:
    """A calibration curve for each group of patients, and their risks under it."""
    drawing, (above, below) = over_under(3.0, 0.9, len(shown), share=len(shown) / 2)
    top = _top([one.metrics for one in shown])
    for axes, under, one in zip(above, below, shown, strict=True):
        _plot(axes, one.metrics, one.role, top)
        axes.set_title(f"{one.title}: {count(one.metrics.get('patients'))} patients")
        _write_estimates(axes, one.metrics)
        _draw_risks(under, one.metrics, one.role)
        under.set_xlabel("predicted risk")
    above[0].set_ylabel("observed share")
    below[0].set_ylabel("patients")
    return drawing


def _draw_risks(axes: Axes, lists: Lists, role: Role) -> None:
    """Patients in each step of risk: those with the outcome upwards, the others downwards."""
    for name, sign, alpha in zip(RISKS, (1, -1), (0.85, 0.3), strict=True):
        bars = lists.get(name)
        if isinstance(bars, list) and any(bars):
            heights = [sign * (bar or 0.0) for bar in bars]
            edges = [index / len(bars) for index in range(len(bars) + 1)]
            axes.stairs(heights, edges, fill=True, color=COLOUR[role], alpha=alpha, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.set_title("upwards with the outcome, downwards without", fontsize=9, fontweight="normal", pad=3)


def calibration_values(shown: Sequence[Tested]) -> Iterator[tuple[object, ...]]:
    """Rows of the CSV of `draw_calibration`: who, which series, predicted, observed or patients, low, high."""
    for one in shown:
        yield from ((one.title, "calibration", *row) for row in Curve.of(one.metrics, *CALIBRATION).rows)
        for name in RISKS:
            if isinstance(bars := one.metrics.get(name), list):
                middles = ((index + 0.5) / len(bars) for index in range(len(bars)))
                pairs = zip(middles, bars, strict=True)
                yield from ((one.title, name, middle, bar, None, None) for middle, bar in pairs)


def _write_estimates(axes: Axes, metrics: Lists) -> None:
    """The estimates, where they cover least of what is drawn."""
    text = "\n".join(f"{NAMES[name].removeprefix('calibration ')} {with_interval(metrics, name)}" for name in ESTIMATES)
    nothing = axes.plot([], [], linestyle="none", label=text)
    axes.legend(handles=nothing, loc="best", handlelength=0, handletextpad=0, borderpad=0.2)


def _top(listed: Sequence[Lists]) -> float:
    """Where the axes end: above all points, half of what their intervals reach beyond, and all bars of risk."""
    rows = [row for lists in listed for row in Curve.of(lists, *CALIBRATION).rows]
    ends = [max(x, y, (y + high) / 2 if high is not None else 0.0) for x, y, _, high in rows]
    bars = [bars for lists in listed for name in RISKS if isinstance(bars := lists.get(name), list)]
    ends += [(index + 0.5) / len(each) for each in bars for index, bar in enumerate(each) if bar]
    highest = max(ends, default=1.0)
    return min(1.0, 0.1 * (int(10 * highest) + 1))


def _plot(axes: Axes, lists: Lists, role: Role, top: float) -> None:
    """One calibration curve with its intervals, and the line of perfect ones."""
    axes.plot([0, top], [0, top], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)
    plot_points(axes, lists, role)
    axes.set(xlim=(0, top), ylim=(0, top))


def plot_points(axes: Axes, lists: Lists, role: Role, joined: str = "-") -> None:
    """The points of a calibration curve, their intervals and the line through them, in the look of a role.

    Args:
        axes: Where to.
        lists: Metrics by name.
        role: Whose look.
        joined: The line's style; there is none between a few merged cells, where it would look like a finding.
    """
    curve = Curve.of(lists, *CALIBRATION)
    line = "none" if is_coarse(lists) else joined
    curve.bars(axes, COLOUR[role])
    (marks,) = axes.plot(*curve.points, MARKER[role], color=COLOUR[role], linestyle=line, linewidth=1, markersize=4.5)
    marks.set_clip_on(False)  # a mark at 0 or 1 is whole


def benefit(lists: Lists) -> Curve:
    """Net benefit of the model at each threshold."""
    return Curve.of(lists, *BENEFIT)


def _of_all(lists: Lists) -> Curve:
    """Net benefit of calling every patient positive."""
    return Curve.of(lists, BENEFIT[0], "net_benefit_of_all")


def benefit_values(shown: Sequence[Tested]) -> Iterator[tuple[object, ...]]:
    """Rows of the CSV of `draw_benefit`: who, threshold, the model's, its bounds, that of treating all."""
    for one in shown:
        everybody = dict(zip(*_of_all(one.metrics).points, strict=True))
        yield from ((one.title, *row, everybody.get(row[0])) for row in benefit(one.metrics).rows)


def draw_benefit(shown: Sequence[Tested]) -> Drawing:
    """A decision curve for each group of patients, on one scale."""
    top = _highest_benefit([one.metrics for one in shown])
    drawing, all_axes = canvas(2.9, len(shown), share=len(shown) / 2, same_y=True)
    for axes, one in zip(all_axes, shown, strict=True):
        _plot_benefit(axes, one.metrics, one.role, top)
        axes.set(xlabel="threshold of risk", title=one.title)
        axes.legend(loc="best", frameon=True, facecolor="white", edgecolor="none", framealpha=1)  # over the line of 0
    all_axes[0].set_ylabel("net benefit per 1,000")
    return drawing


def _highest_benefit(listed: Sequence[Lists]) -> float:
    """Per 1,000, of all that is drawn on the same scale, bands included."""
    rows = [row for lists in listed for curve in (benefit(lists), _of_all(lists)) for row in curve.rows]
    return max([10.0, *(1000 * (y if high is None else high) for _, y, _, high in rows)])


def _plot_benefit(axes: Axes, lists: Lists, role: Role, top: float) -> None:
    model, everybody = benefit(lists), _of_all(lists)
    model.draw(axes, COLOUR[role], scale=1000, marker=MARKER[role], markersize=3.5, label="this model")
    everybody.draw(axes, HOLLOW, scale=1000, linewidth=1, label="treat all")
    axes.axhline(0, color=INK, linewidth=0.9, label="treat none")
    axes.set(ylim=(-0.25 * top, 1.05 * top))


def draw_calibration_apart(shown: Sequence[Tested]) -> Drawing:
    """Calibration and decision curves in a column for each group of patients."""
    listed = [one.metrics for one in shown]
    top, highest = _top(listed), _highest_benefit(listed)
    drawing, (above, below) = grid(4.3, 2, len(shown), share=1.0 if len(shown) > 2 else 0.5)
    for axes, under, one in zip(above, below, shown, strict=True):
        _plot(axes, one.metrics, one.role, top)
        axes.set(xlabel="predicted risk", title=narrow_title(one.title))
        _plot_benefit(under, one.metrics, one.role, highest)
        under.set(xlabel="threshold of risk")
    above[0].set_ylabel("observed share")
    below[0].set_ylabel("net benefit per 1,000")
    return drawing
