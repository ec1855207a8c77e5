"""Statistics of scores whose every cell holds several patients, with the certificate that is honest about it.

What one site sends by itself is merged there (`merge_histogram`, `merge_concordance`): a cell is an interval of bins,
or a rectangle of intervals of time and bins, over at least so many patients of one outcome. Totals stay exact. Where
neighbours are merged follows from halving the bins again and again, so that the edges of a cell are never a patient's
own score, as they would be if cells were filled in order (as Mondrian does, LeFevre 2006, 10.1109/ICDE.2006.101, but
with cuts that do not depend on the patients). Cells leave no gaps between them: where nobody has a score looks like
where a few have one. Else a network that singles out one patient would show by the ends of the cells which outcome is
hers, or whether she is there at all.

Each patient is counted where its cell is densest, and in further arrays at the ends of its cell. Those add up over
sites as all statistics do, and give the lowest and highest AUC or C-index that the rows can have.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np

from shared_models.metrics.arrays import MATRIX, VECTOR, Array, PooledMetrics
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.calibration import Calibration
from shared_models.metrics.scores import bin_logits
from shared_models.metrics.survival import DAYS_PER_MONTH, ConcordanceTable, later, pairs_by_risk

WIDEST_CELLS = 0.15
"""Width of the cells, in probability and on the average of their patients, from which no calibration is told."""


class Cell(NamedTuple):
    """Neighbouring bins that are counted together.

    Attributes:
        low: The first bin.
        high: The last one.
        middle: Of its densest part; what lies outside of that are fewer patients than a cell may hold.
        patients: How many.
    """

    low: int
    high: int
    middle: int
    patients: float


def merged_cells(counts: Array, least: float) -> list[Cell]:
    """The finest cells of at least ``least`` patients each, from the lowest bin to the highest, without gaps.

    Args:
        counts: (bins,) patients.
        least: positive. With 1 nothing is hidden: each bin with patients is a cell.

    Returns:
        Cells that hold all patients; none where there are fewer than ``least`` in all.

    Example:
        >>> [tuple(cell) for cell in merged_cells(np.array([12.0, 0, 9, 3, 0, 0, 0, 1]), 10)]
        [(0, 1, 0, 12.0), (2, 7, 2, 13.0)]
    """
    if least <= 1:
        return [Cell(int(bin), int(bin), int(bin), float(counts[bin])) for bin in np.flatnonzero(counts)]
    return list(_cells(counts, 0, len(counts), least)) if counts.sum() >= least else []


def _cells(counts: Array, start: int, stop: int, least: float) -> Iterator[Cell]:
    half = (start + stop) // 2
    left, right = float(counts[start:half].sum()), float(counts[half:stop].sum())
    if stop - start == 1 or (left < least and right < least):
        yield Cell(start, stop - 1, (start + stop - 1) // 2, left + right)
    elif left < least:  # none or too few: this half goes to the cell next to it
        first, *rest = _cells(counts, half, stop, least)
        yield first._replace(low=start, patients=first.patients + left)
        yield from rest
    elif right < least:
        *rest, last = _cells(counts, start, half, least)
        yield from rest
        yield last._replace(high=stop - 1, patients=last.patients + right)
    else:
        yield from _cells(counts, start, half, least)
        yield from _cells(counts, half, stop, least)


@dataclass(frozen=True, eq=False)
class MergedHistogram(ScoreHistogram):
    """A `ScoreHistogram` of merged cells: `positives` and `negatives` are placed where their cells are densest.

    Attributes:
        positives_low: (bins,) positives at the lowest bin of their cells.
        positives_high: (bins,) at the highest.
        negatives_low: (bins,) negatives at the lowest bin of their cells.
        negatives_high: (bins,) at the highest.
        own_concordant: pairs of the same site that are in the right order by their cells; ties count one half.
        own_comparable: all pairs of the same site.
    """

    positives_low: Array = field(metadata=VECTOR)
    positives_high: Array = field(metadata=VECTOR)
    negatives_low: Array = field(metadata=VECTOR)
    negatives_high: Array = field(metadata=VECTOR)
    own_concordant: float = 0.0
    own_comparable: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_equal_totals(self.positives, self.positives_low, self.positives_high)
        require_equal_totals(self.negatives, self.negatives_low, self.negatives_high)

    def limits(self) -> tuple[float, float]:
        """The lowest and highest AUC that scores in these cells can have: pairs whose cells overlap are undecided."""
        pairs = self.n_positive * self.n_negative
        if not pairs > 0:
            return math.nan, math.nan
        below = np.cumsum(self.negatives_high) - self.negatives_high
        above = self.n_negative - np.cumsum(self.negatives_low)
        return float(self.positives_low @ below) / pairs, 1 - float(self.positives_high @ above) / pairs

    def righted(self, within: float) -> PooledMetrics:
        """The AUC and what belongs to it, moved as `righted` says; nothing where nobody tells the pairs."""
        value = righted(self.auc(), within, (self.own_concordant, self.own_comparable), self.limits())
        return {} if math.isnan(value) else self.around(value)

    def calibration(self) -> Calibration:
        """As if all patients of a cell had the score in its middle: an exact sum of scores would tell a single one.

        Of nobody where the cells are so wide that this would mislead: fewer than some 250 patients.
        """
        scores = 1 / (1 + np.exp(-bin_logits(len(self.positives), self.score_range)))
        upper, lower = self.positives_high + self.negatives_high, self.positives_low + self.negatives_low
        if scores @ (upper - lower) > WIDEST_CELLS * self.n:
            return Calibration.of([], [])
        return Calibration.of_bins(scores, self.positives, self.negatives)

    def extremes(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Positives and negatives at those ends of their cells where the curves are lowest and highest."""
        lowest = (self.positives_low, self.negatives_high)
        return lowest, (self.positives_high, self.negatives_low)


def merge_histogram(histogram: ScoreHistogram, least: float) -> MergedHistogram:
    """A site's histogram without a cell of fewer than ``least`` positives, or of fewer than ``least`` negatives.

    Empty where one of the classes has patients, and fewer than ``least`` of them.
    """
    bins = len(histogram.positives)
    placed = np.zeros((6, bins))
    classes = (histogram.positives, histogram.negatives)
    if not any(0 < counts.sum() < least for counts in classes):
        for kind, counts in enumerate(classes):
            for cell in merged_cells(counts, least):
                for row, place in ((kind, cell.middle), (2 + 2 * kind, cell.low), (3 + 2 * kind, cell.high)):
                    placed[row, place] += cell.patients
    merged = MergedHistogram(*placed, score_range=histogram.score_range)
    pairs = merged.n_positive * merged.n_negative
    return replace(merged, own_concordant=merged.auc() * pairs if pairs else 0.0, own_comparable=pairs)


def righted(cells: float, within: float, own: tuple[float, float], limits: tuple[float, float]) -> float:
    """An AUC or C-index of cells, moved by as much as the cells are off among pairs of the same site.

    Cells draw the patients of an outcome together where most of them are, and so apart from the others': their AUC is
    too high, by some .05 with 150 patients at each of three sites. C is, too: pairs of the same years are undecided,
    and those of distant years are the easier ones. Of pairs of the same site both are known, the share of the rows and
    that of the cells. As cells are alike at all sites, they are about as far off among pairs of two sites.

    Args:
        cells: of all pairs, by their cells.
        within: of the rows, among pairs of the same site; nan where nobody tells it.
        own: of pairs of the same site, by their cells, the concordant ones and all.
        limits: between which the rows' value lies.

    Returns:
        The value; nan where one of these is not known.
    """
    concordant, comparable = own
    if not comparable > 0:
        return math.nan
    return min(max(cells + within - concordant / comparable, limits[0]), limits[1])


@dataclass(frozen=True, eq=False)
class MergedConcordance(ConcordanceTable):
    """A `ConcordanceTable` of merged cells, whose rows are the intervals of the study's hazards and one open one.

    Attributes:
        events_late_low: (intervals, bins) events at the last interval and the lowest risk of their cells.
        events_late_high: (intervals, bins) events at the last interval and the highest risk.
        others_early_low: (intervals, bins) all patients at the first interval and the lowest risk.
        others_early_high: (intervals, bins) all patients at the first interval and the highest risk.
        events_early: (intervals,) events at the first interval.
        censored_late: (intervals,) censored patients at the last interval.
        own_concordant: pairs of the same site that are in the right order by their cells; ties count one half.
        own_comparable: all that are comparable by their cells.
    """

    CENSORED_OUTLIVE_EVENTS_OF_THEIR_ROW: ClassVar[bool] = False  # a row is years: not known

    events_late_low: Array = field(metadata=MATRIX)
    events_late_high: Array = field(metadata=MATRIX)
    others_early_low: Array = field(metadata=MATRIX)
    others_early_high: Array = field(metadata=MATRIX)
    events_early: Array = field(metadata=VECTOR)
    censored_late: Array = field(metadata=VECTOR)
    own_concordant: float = 0.0
    own_comparable: float = 0.0

    def __post_init__(self) -> None:
        require_equal_totals(self.events, self.events_late_low, self.events_late_high, self.events_early)
        require_equal_totals(self.censored, self.censored_late)
        require_equal_totals(self.events + self.censored, self.others_early_low, self.others_early_high)

    def limits(self) -> tuple[float, float]:
        """The lowest and highest C that rows with these cells can have; nan without comparable pairs."""
        if math.isnan(self.concordance()):
            return math.nan, math.nan
        below, _, _ = pairs_by_risk(self.events_late_low, later(self.others_early_high))
        _, _, above = pairs_by_risk(self.events_late_high, later(self.others_early_low))
        not_before = np.cumsum(self.censored_late[::-1])[::-1]
        most = self.n_events * (self.n_events - 1) / 2 + float(self.events_early @ not_before)
        return (below / most, 1 - above / most) if most > 0 else (math.nan, math.nan)

    def righted(self, within: float) -> PooledMetrics:
        """C and what belongs to it, moved as `righted` says; nothing where nobody tells the pairs."""
        value = righted(self.concordance(), within, (self.own_concordant, self.own_comparable), self.limits())
        return {} if math.isnan(value) else self.around(value)


def merge_concordance(table: ConcordanceTable, edges_days: tuple[float, ...], least: float) -> MergedConcordance:
    """A site's table without a cell of fewer than ``least`` events, or of fewer than ``least`` censored patients.

    Empty where there are events, and fewer than ``least``; or censored patients, and fewer than ``least``.

    Args:
        table: by months.
        edges_days: ends of the hazards' intervals, rounded to whole months here.
        least: positive.
    """
    rows, bins = len(edges_days) + 1, table.events.shape[1]
    ends = np.rint(np.asarray(edges_days) / DAYS_PER_MONTH)
    row = np.searchsorted(ends, np.arange(len(table.events)), side="right")
    kinds = [np.stack([counts[row == number].sum(axis=0) for number in range(rows)]) for counts in _kinds(table)]
    middle, corners = np.zeros((2, rows, bins)), np.zeros((4, rows, bins))
    ends_in_time = np.zeros((2, rows))
    if not any(0 < counts.sum() < least for counts in kinds):
        for kind, counts in enumerate(kinds):
            for time in merged_cells(counts.sum(axis=1), least):
                for risk in merged_cells(counts[time.low : time.high + 1].sum(axis=0), least):
                    middle[kind, time.middle, risk.middle] += risk.patients
                    corners[2, time.low, risk.low] += risk.patients
                    corners[3, time.low, risk.high] += risk.patients
                    if kind == 0:
                        corners[0, time.high, risk.low] += risk.patients
                        corners[1, time.high, risk.high] += risk.patients
                ends_in_time[kind, time.high if kind else time.low] += time.patients
    merged = MergedConcordance(*middle, *corners, *ends_in_time, score_range=table.score_range)
    concordant, comparable = merged.pairs()
    return replace(merged, own_concordant=concordant, own_comparable=comparable)


def _kinds(table: ConcordanceTable) -> tuple[Array, Array]:
    return table.events, table.censored


def require_equal_totals(first: Array, *others: Array) -> None:
    """Refuse arrays that place the same patients differently and disagree in how many they are.

    Raises:
        ValueError: naming the totals.
    """
    if not all(math.isclose(first.sum(), other.sum(), rel_tol=1e-9, abs_tol=1e-6) for other in others):
        message = f"the cells' patients add up differently: {first.sum()}, {[float(o.sum()) for o in others]}"
        raise ValueError(message)


def group_small_classes(counts: Array, least: float) -> Array:
    """Counts of classes without one of fewer than ``least`` patients; the total stays exact.

    The small ones are counted with the largest of them if that makes ``least``, else with the largest class of all.
    Empty where there are fewer than ``least`` patients in all.

    Args:
        counts: (classes,) patients; classes have no order.
        least: positive.

    Example:
        >>> group_small_classes(np.array([50.0, 3, 8]), 10).tolist()
        [50.0, 0.0, 11.0]
        >>> group_small_classes(np.array([50.0, 3]), 10).tolist()
        [53.0, 0.0]
    """
    if counts.sum() < least:
        return np.zeros_like(counts)
    small = counts < least
    few = float(counts[small].sum())
    grouped = np.where(small, 0.0, counts)
    if few:
        grouped[int(np.argmax(np.where(small, counts, -1.0) if few >= least else counts))] += few
    return grouped
