"""Plot of Kaplan-Meier curves by predicted risk, with the numbers at risk under them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared_models.metrics.risk_groups import RiskGroup, Survival
from shared_models.pages.drawing import NAVY, ORANGE, over_under
from shared_models.pages.numbers import YEAR_DAYS, count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

COLOURS, DASHES = ("#4187c7", NAVY, ORANGE), ("-", (0, (5, 2)), "-")
SHOWN_TIMES = 8


def survival_values(shown: Mapping[str, Survival]) -> Iterator[tuple[object, ...]]:
    """Rows of the CSV of `draw_survival`: who, group, days, at risk, share free of the event, low, high."""
    for title, survival in shown.items():
        for group in survival.groups:
            lists = (group.at_risk, group.survival, group.survival_low, group.survival_high)
            yield from ((title, group.name, *row) for row in zip(survival.times_days, *lists, strict=True))


def draw_survival(shown: Mapping[str, Survival]) -> Drawing:
    """Curves of the risk groups, and the numbers at risk under them, by who the patients are."""
    rows = max(len(survival.groups) for survival in shown.values())
    drawing, (above, below) = over_under(2.9, 0.2 + 0.17 * rows, len(shown), share=len(shown) / 2)
    for curves, numbers, (title, survival) in zip(above, below, shown.items(), strict=True):
        for group, colour, dash in zip(survival.groups, *looks(len(survival.groups)), strict=True):
            _curve(curves, survival, group, colour, dash)
        patients = count(sum(group.patients for group in survival.groups))
        curves.set(ylim=(0, 1.02), title=f"{title}: {patients} patients", xlim=(0, _years(survival)[-1]))
        curves.legend(loc="best")
        curves.tick_params(labelbottom=True)
        curves.set_xlabel("years")
        _write_at_risk(numbers, survival)
    above[0].set_ylabel("share without the event")
    return drawing


def looks(groups: int) -> tuple[Sequence[str], Sequence[Any]]:
    """Colours and dashes of so many groups, lowest risk first; a single one is that of all patients."""
    places = {1: (1,), 2: (1, 2)}.get(groups, (0, 1, 2))
    return [COLOURS[place] for place in places], [DASHES[place] for place in places]


def _years(survival: Survival) -> list[float]:
    return [day / YEAR_DAYS for day in survival.times_days]


def _known(first: Sequence[float], second: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in zip(first, second, strict=True) if b is not None]


def _curve(axes: Axes, survival: Survival, group: RiskGroup, colour: str, dash: object) -> None:
    years = _years(survival)
    if not (curve := _known(years, group.survival)):
        return
    label = f"{group.name}: {count(group.events)} of {count(group.patients)}"
    axes.step(*zip(*curve, strict=True), where="post", color=colour, linestyle=dash, label=label)
    low, high = _known(years, group.survival_low), _known(years, group.survival_high)
    if len(low) == len(high) and low:
        xs = [x for x, _ in low]
        axes.fill_between(
            xs, [y for _, y in low], [y for _, y in high], step="post", color=colour, alpha=0.12, linewidth=0
        )


def _write_at_risk(axes: Axes, survival: Survival) -> None:
    """A row of numbers for each group, each under its time on the curve's axis."""
    years = _years(survival)
    step = max(1, -(-len(years) // SHOWN_TIMES))
    shown = [index for index, year in enumerate(years) if abs(year - round(year)) < 0.02] or [
        *range(0, len(years), step)
    ]
    shown = shown[:: -(-len(shown) // SHOWN_TIMES)]
    colours, _ = looks(len(survival.groups))
    for row, (group, colour) in enumerate(zip(survival.groups, colours, strict=True)):
        for index in shown:
            edge = "left" if index == 0 else "right" if index == len(years) - 1 else "center"
            axes.text(years[index], row, count(group.at_risk[index]), ha=edge, va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(survival.groups)), labels=[group.name for group in survival.groups])
    for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    axes.set(ylim=(len(survival.groups) - 0.4, -0.6))
    axes.set_title("at risk", fontsize=9, fontweight="normal", pad=2)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
