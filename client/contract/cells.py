"""The cells of one table column, for the rows of a cohort."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Decimal = Literal[".", ","]


@dataclass(frozen=True)
class Cells:
    """One column of the cohort.

    Attributes:
        where: Its table, file and name, for messages.
        texts: R texts, empty where a patient has no row or the cell is empty or holds a missing code.
        rows: R row numbers in the file, 0 where a patient has no row.
        decimal: The file's decimal sign.
        since: Of dates, those from which days are counted.
    """

    where: str
    texts: tuple[str, ...]
    rows: tuple[int, ...]
    decimal: Decimal = "."
    since: Cells | None = None

    def without(self, chosen: NDArray[np.bool_]) -> Cells:
        """The same without the texts of some rows, a mask `(R,)`."""
        texts = tuple("" if out else text for text, out in zip(self.texts, chosen.tolist(), strict=True))
        return replace(self, texts=texts, since=self.since and self.since.without(chosen))

    @cached_property
    def letters(self) -> frozenset[str]:
        """All letters, digits and marks in the texts: many questions of a column end here."""
        return frozenset("".join(self.texts))
