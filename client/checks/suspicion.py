"""Something in a site's tables that may be wrong, with the rows that it concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Suspicion:
    """What may be wrong in a table.

    Attributes:
        text: What, and what to do about it; it may name rows of a file, and names no patient.
        rows: Whom it concerns, as rows of the cohort from 0; empty where that is a whole column or table. The site's
            own page names these patients; they never leave.
    """

    text: str
    rows: tuple[int, ...] = ()

    def after(self, subject: str) -> Suspicion:
        """The same with its subject before it."""
        return replace(self, text=f"{subject}{self.text}")


def suspicion(text: str, chosen: NDArray[np.bool_] | Sequence[int]) -> Suspicion:
    """A suspicion of some of the cohort's rows: a mask `(R,)`, or their positions."""
    chosen = np.asarray(chosen)
    rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    return Suspicion(text, tuple(rows.tolist()))
