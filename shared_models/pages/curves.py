"""Curves with their 95 % bands, from lists of metrics, and plots of ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_models.metrics.arrays import Metric
from shared_models.pages.drawing import COLOUR, DASH, HOLLOW, Role, canvas, grid, narrow_title
from shared_models.pages.numbers import count, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

Lists = Mapping[str, Metric]
Row = tuple[float, float, float | None, float | None]
CURVES = {"ROC": ("roc_false_positive_rate", "roc_true_positive_rate"), "PR": ("pr_recall", "pr_precision")}
AXES = {"ROC": ("1 − specificity", "sensitivity"), "PR": ("recall (sensitivity)", "precision (PPV)")}
LIMIT = 0.02  # by which merged cells may hide an AUC before its curves are doubted


@dataclass(frozen=True)
class Tested:
    """Patients whose curves are drawn.

    Attributes:
        title: Who they are: a role, or a site.
        role: Which gives colour, marker and dash.
        metrics: Numbers and points of curves, by name.
        share: Of them with the outcome, where a model that knows nothing has its precision.
    """

    title: str
    role: Role
    metrics: Lists
    share: float | None = None


def is_coarse(metrics: Lists) -> bool:
    """Whether merged cells hide so much that curves and rates at a threshold are doubtful."""
    bound = metrics.get("auc_bound")
    return isinstance(bound, float) and bound > LIMIT


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


def curve_values(shown: Sequence[Tested]) -> Iterator[tuple[object, ...]]:
    """Rows of the CSV of `draw_curves`: who, which curve, x, y, low, high."""
    for one in shown:
        for kind, keys in CURVES.items():
            yield from ((one.title, kind, *row) for row in Curve.of(one.metrics, *keys).rows)


def draw_curves(shown: Sequence[Tested]) -> Drawing:
    """ROC curves on the left, precision and recall on the right, one line for each group of patients."""
    drawing, (left, right) = canvas(3.7, 2)
    for one in shown:
        if not (roc := Curve.of(one.metrics, *CURVES["ROC"])):
            continue
        colour, dash = COLOUR[one.role], DASH[one.role]
        roc.draw(left, colour, linestyle=dash, label=f"{one.title}: {count(one.metrics.get('patients'))} patients")
        if recall := Curve.of(one.metrics, *CURVES["PR"]):
            estimate = with_interval(one.metrics, "average_precision")
            recall.draw(right, colour, linestyle=dash, label=f"{one.title}: {estimate}")
            if one.share is not None:
                right.axhline(one.share, color=colour, linestyle=":", linewidth=0.9)
    for axes, kind, title in ((left, "ROC", "a  ROC"), (right, "PR", "b  Precision and recall")):
        _frame(axes, kind)
        axes.set(xlabel=AXES[kind][0], ylabel=AXES[kind][1], title=title)
    left.legend(loc="lower right")
    right.legend(loc="best")
    return drawing


def draw_curves_apart(shown: Sequence[Tested]) -> Drawing:
    """The same in a column for each group of patients."""
    drawing, rows = grid(4.3, 2, len(shown), share=1.0 if len(shown) > 2 else 0.5)
    for kind, row in zip(CURVES, rows, strict=True):
        for axes, one in zip(row, shown, strict=True):
            Curve.of(one.metrics, *CURVES[kind]).draw(axes, COLOUR[one.role], linestyle=DASH[one.role])
            _frame(axes, kind)
            axes.set(xlabel=AXES[kind][0])
            if kind == "ROC":
                axes.set_title(narrow_title(one.title))
        row[0].set_ylabel(AXES[kind][1])
    return drawing


def _frame(axes: Axes, kind: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if kind == "ROC":
        axes.plot([0, 1], [0, 1], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)
