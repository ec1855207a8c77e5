"""A site's counts at the horizon in cells that each hold several patients, with the certificate of their AUC.

The AUC at the horizon needs the events' time for their weights only, and the weights follow from times alone. So a site
tells its events by time, and its events by risk in a few longer times: one table of both would have one cell of risk in
each time, and the order of no two patients would be known.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from shared_models.metrics.arrays import MATRIX, VECTOR, Array, PooledMetrics
from shared_models.metrics.horizon import SLICES, STEPS, HorizonTable
from shared_models.metrics.merged_cells import Cell, MergedHistogram, merged_cells, require_equal_totals, righted

RISK_CELLS_PER_TIME = 25
"""About how many times as many merged cells there are of risk as of time: the AUC depends on time by weights only."""


@dataclass(frozen=True, eq=False)
class MergedHorizon(HorizonTable):
    """A `HorizonTable` of merged cells, whose patients are also counted at the ends of their cells.

    An event of a cell weighs no less than its earliest time does and no more than its latest; together the events weigh
    what the merged times give. In `histogram` they are all the same share of the way between; its bound lets them be
    anywhere, and is of the AUC with the weights that the merged times give.

    Attributes:
        events: (12, bins) events at the earliest time and the densest risk of their cells.
        events_low: (12, bins) at the earliest time and the lowest risk.
        events_high: (12, bins) at the earliest time and the highest risk.
        late: (12, bins) events at the latest time and the densest risk.
        late_low: (12, bins) at the latest time and the lowest risk.
        late_high: (12, bins) at the latest time and the highest risk.
        free_low: (bins,) patients free of the event at the lowest risk of their cells.
        free_high: (bins,) at the highest.
        own_concordant: pairs of the same site that are in the right order by their cells, each with its site's weights;
            ties count one half.
        own_comparable: all pairs of the same site, likewise.
    """

    events_low: Array = field(metadata=MATRIX)
    events_high: Array = field(metadata=MATRIX)
    late: Array = field(metadata=MATRIX)
    late_low: Array = field(metadata=MATRIX)
    late_high: Array = field(metadata=MATRIX)
    free_low: Array = field(metadata=VECTOR)
    free_high: Array = field(metadata=VECTOR)
    own_concordant: float = 0.0
    own_comparable: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        late = (self.late, self.late_low, self.late_high)
        require_equal_totals(self.events, self.events_low, self.events_high, *late)
        require_equal_totals(self.free, self.free_low, self.free_high)

    def _between(self, early: Array, late: Array, power: int = 1) -> tuple[Array, Array, float]:
        """By risk, (bins,): the least that the events weigh, by how much more they may, and how much more all do."""
        weight = self.weights()[0] ** power
        least = weight @ early
        more = np.maximum(weight @ late - least, 0.0)
        all_weigh = float(weight @ self.events_by_step.reshape(SLICES, -1).sum(axis=1))
        return least, more, min(max(all_weigh - float(least.sum()), 0.0), float(more.sum()))

    def weighted_events(self, power: int = 1) -> Array:
        """As of the exact table, with weights that are the same share of the way between their cells' ends."""
        least, more, extra = self._between(self.events, self.late, power)
        return least + more * (extra / more.sum()) if extra else least

    def histogram(self) -> MergedHistogram:
        """As of the exact table, with the lowest and the highest risks of the events, as weighted, and of the others.

        They are lowest if the events of the lowest risks weigh as much as they may, and the others as little.
        """
        least, more, extra = self._between(self.events_low, self.late_low)
        low = least + np.diff(np.minimum(np.cumsum(more), extra), prepend=0.0)
        least, more, extra = self._between(self.events_high, self.late_high)
        high = least + np.diff(np.minimum(np.cumsum(more[::-1]), extra), prepend=0.0)[::-1]
        _, of_free = self.weights()
        free, free_low, free_high = (of_free * counts for counts in (self.free, self.free_low, self.free_high))
        events = self.weighted_events()
        return MergedHistogram(events, free, low, high, free_low, free_high, score_range=self.score_range)

    def righted(self, within: float) -> PooledMetrics:
        """The AUC and what belongs to it, as `merged_cells.righted` moves it; nothing where nobody tells pairs."""
        histogram = self.histogram()
        own = (self.own_concordant, self.own_comparable)
        value = righted(histogram.auc(), within, own, histogram.limits())
        return {} if math.isnan(value) else self.around(value)

    def own_pairs(self) -> tuple[float, float]:
        """Of one site, the concordant pairs and all, an event weighed relative to who is free of it at the horizon."""
        histogram, (_, of_free) = self.histogram(), self.weights()
        pairs = histogram.n_positive / of_free * float(self.free.sum()) if of_free else 0.0
        return (histogram.auc() * pairs, pairs) if pairs else (0.0, 0.0)


def merge_horizon(table: HorizonTable, least: float) -> MergedHorizon:
    """A site's table without a cell of fewer than ``least`` patients of one outcome.

    Times are given for merged slices only, and so the weights. Events by risk are given for longer times, each of some
    of those merged slices. The two share nothing but these longer times' totals, so no difference of theirs is known to
    be of fewer than ``least`` patients: those of one time and one risk may be as many as the smaller of two cells.
    Empty where one of the outcomes has patients, and fewer than ``least``.

    Args:
        table: of one site.
        least: positive.
    """
    placed, free, times = np.zeros((6, SLICES, len(table.free))), np.zeros((3, len(table.free))), np.zeros((2, STEPS))
    outcomes = (table.events, table.free, table.censored_by_step)
    if not any(0 < counts.sum() < least for counts in outcomes):
        middle_of_slice = np.arange(SLICES) * STEPS // SLICES + STEPS // SLICES // 2
        for row, by_step in enumerate((table.events_by_step, table.censored_by_step)):
            for time in merged_cells(by_step.reshape(SLICES, -1).sum(axis=1), least):
                times[row, middle_of_slice[time.middle]] += time.patients
        for part in _longer_times(merged_cells(table.events.sum(axis=1), least), least):
            for cell in merged_cells(table.events[part[0].low : part[-1].high + 1].sum(axis=0), least):
                for row, place in enumerate((cell.middle, cell.low, cell.high)):
                    placed[row, part[0].middle, place] += cell.patients
                    placed[3 + row, part[-1].middle, place] += cell.patients
        for cell in merged_cells(table.free, least):
            for row, place in enumerate((cell.middle, cell.low, cell.high)):
                free[row, place] += cell.patients
    early, late = placed[:3], placed[3:]
    merged = MergedHorizon(early[0], free[0], *times, *early[1:], *late, *free[1:], score_range=table.score_range)
    concordant, comparable = merged.own_pairs()
    return replace(merged, own_concordant=concordant, own_comparable=comparable)


def _longer_times(times: list[Cell], least: float) -> list[list[Cell]]:
    """Neighbouring cells of time together: few, so that the events of each are enough for many cells of risk.

    Of n events in all each part has the square root of ``RISK_CELLS_PER_TIME * n * least`` or more, or all there are.
    Where ``least`` is 1 nothing is hidden, and each time stays.
    """
    if least <= 1:
        return [[time] for time in times]
    patients = np.zeros(SLICES)
    for time in times:
        patients[time.middle] = time.patients
    total = float(patients.sum())
    parts = merged_cells(patients, min(math.sqrt(RISK_CELLS_PER_TIME * total * least), total)) if times else []
    return [[time for time in times if part.low <= time.middle <= part.high] for part in parts]
