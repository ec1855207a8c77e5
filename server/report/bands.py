"""Curves with their 95 % bands: what the results hold of them, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from server.report.elements import Figure
from server.report.study import Outcome, Role, Study
from server.study.results.section import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

MAX_SITES = 5
"""Sites whose curves are drawn side by side; the CSV has all."""
Lists = Mapping[str, Metric]
Row = tuple[float, float, float | None, float | None]


@dataclass(frozen=True)
class Curve:
    """Points of a curve.

    Attributes:
        rows: x, y, and the bounds of y, which are None where there are none.
    """

    rows: Sequence[Row]

    @classmethod
    def of(cls, lists: Lists, x: str, y: str) -> Curve:
        """The points that have both numbers; none where the results hold no such lists.

        Args:
            lists: Metrics by name.
            x: Name of what goes to the right.
            y: Name of what goes up, whose bounds are `Y_low` and `Y_high`; an older file has none.
        """
        first, second = lists.get(x), lists.get(y)
        if not isinstance(first, list) or not isinstance(second, list):
            return cls([])
        ends = [bound if isinstance(bound := lists.get(f"{y}{end}"), list) else None for end in ("_low", "_high")]
        low, high = (bound if bound and len(bound) == len(second) else [None] * len(second) for bound in ends)
        rows = zip(first, second, low, high, strict=False)
        return cls([(a, b, c, d) for a, b, c, d in rows if a is not None and b is not None])

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def points(self) -> tuple[list[float], list[float]]:
        """All x, and all y."""
        return [row[0] for row in self.rows], [row[1] for row in self.rows]

    def draw(self, axes: Axes, colour: str, scale: float = 1.0, **look: Any) -> None:
        """The line, and its band in the same colour, paler.

        Args:
            axes: Where to.
            colour: Of both.
            scale: What y is multiplied by.
            look: Of the line.
        """
        xs, ys = self.points
        axes.plot(xs, [scale * y for y in ys], color=colour, **look)
        self.shade(axes, colour, scale)

    def shade(self, axes: Axes, colour: str, scale: float = 1.0) -> None:
        """The band alone."""
        banded = [(x, low, high) for x, _, low, high in self.rows if low is not None and high is not None]
        if len(banded) > 1:
            xs, lows, highs = ([row[column] for row in banded] for column in range(3))
            ends = ([scale * low for low in lows], [scale * high for high in highs])
            axes.fill_between(xs, *ends, color=colour, alpha=0.14, linewidth=0)

    def bars(self, axes: Axes, colour: str) -> None:
        """The bounds as bars, where points stand for groups of patients of their own."""
        for x, _, low, high in self.rows:
            if low is not None and high is not None:
                axes.plot([x, x], [low, high], color=colour, linewidth=0.9, alpha=0.7)


def sites_with_curves(study: Study, target: str) -> list[tuple[str, Role, dict[str, Metric]]]:
    """Name, role and curves of the sites that tell enough of that target, those of most test patients first."""
    telling = [site for site in study.results.sites if target in site.curves]
    telling.sort(key=lambda site: -site.patients.get("test", 0))
    return [
        (site.site, "internal" if site.role == "train" else "external", {**site.curves[target]}) for site in telling
    ]


def figures_of_sites(
    study: Study,
    outcome: Outcome,
    name: str,
    title: str,
    kinds: Mapping[str, tuple[str, str]],
    draw: Callable[[], Drawing],
) -> Iterator[Figure]:
    """The figure of curves of single sites, if any tells enough of its own patients.

    Args:
        study: Whose sites.
        outcome: Of which target.
        name: Of the figure, without the target's.
        title: What curves they are.
        kinds: Names of each curve's x and y among the metrics.
        draw: Makes the drawing.
    """
    if sites := sites_with_curves(study, outcome.name):
        yield Figure(
            name=f"{name}_{outcome.name}_by_site",
            draw=draw,
            alt=f"{title} of {outcome.full_label} at single sites",
            caption=f"The same at single sites, from the cells that each told. {_whose(study, outcome.name)}",
            columns=("site", "role", "curve", "x", "y", "low", "high"),
            values=[
                (site, role, kind, *row)
                for site, role, lists in sites
                for kind, of in kinds.items()
                for row in Curve.of(lists, *of).rows
            ],
        )


def _whose(study: Study, target: str) -> str:
    """A sentence on the sites that have curves of their own, and why the others have none."""
    telling = len(sites_with_curves(study, target))
    if telling > MAX_SITES:
        who = f"The {MAX_SITES} sites with most test patients are drawn, of {telling}; the CSV has all."
    else:
        who = "Sites whose own counts tell enough, those of most test patients first."
    return f"{who} A site is left out where its band of the ROC curve would be wider than 0.4 on average."
