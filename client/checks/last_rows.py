"""Suspicions of a file's last rows, or first ones, that all hold one value, as where nobody has entered others yet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from client.checks.feature_column import FEW, Values
from client.checks.suspicion import Suspicion, suspicion
from client.contract.cells import Cells
from client.errors import named_rows

LEAST, BY_CHANCE = 15, 1e-7  # rows, and how likely as many of one value are among the others' values
UNSORTED = 0.5  # of the changes from row to row that a file in no order would have


def last_rows(name: str, cells: Cells, values: Values) -> Iterator[Suspicion]:
    """Says that a run of one value at an end of the file is not as the rest of the column, which is in no order.

    Args:
        name: The feature or the outcome.
        cells: Its R cells.
        values: `(R,)`, NaN where missing.
    """
    rows = np.array(cells.rows)
    order = np.unique(rows, return_index=True)[1]
    order = order[(rows[order] > 0) & ~np.isnan(values[order])]
    if len(order) < 2 * LEAST:
        return
    for end, in_file in (("last", order), ("first", order[::-1])):
        there = values[in_file]
        changes = np.flatnonzero(there[1:] != there[:-1])
        rest = int(changes[-1]) + 1 if len(changes) else 0
        run, before = len(there) - rest, there[:rest]
        share = float((before == there[-1]).mean()) if rest else 1.0
        shares = np.unique(before, return_counts=True)[1] / max(rest, 1)
        of_its_own = share == 0 and len(shares) < FEW  # the group that a file is ordered by
        if run < LEAST or rest < 2 * FEW or share**run >= BY_CHANCE or of_its_own:
            continue
        if len(changes) > UNSORTED * rest * (1 - float((shares**2).sum())):
            chosen = in_file[rest:]
            text = (
                f"{name} is {cells.texts[chosen[0]]} in all of the {end} {run} rows of {cells.where}, and in "
                f"{share:.0%} of the others: is it not entered yet in {named_rows(sorted(rows[chosen].tolist()))}? "
                "Then empty these cells"
            )
            yield suspicion(text, chosen.tolist())
