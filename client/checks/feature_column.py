"""A feature's column as one site has it, for what is judged of it as a whole."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.contract.cells import Cells
from client.contract.columns import Column
from client.errors import named_rows
from shared_models.features import Feature

Values = NDArray[np.float64]

FEW = 10  # values from which a column says something
_NUMBER = re.compile(r"[+-]?\d+(?:\.(\d*))?(?:[eE]([+-]?\d{1,2}))?", re.ASCII)


@dataclass(frozen=True)
class FeatureColumn:
    """A feature as one site has it.

    Attributes:
        feature: As the study lists it.
        column: Where it is.
        cells: Its R cells.
        values: `(R,)` in the study's unit, NaN where missing; a category is given by its index.
    """

    feature: Feature
    column: Column
    cells: Cells
    values: Values

    @functools.cached_property
    def known(self) -> Values:
        """The values there are, in their order."""
        return np.sort(self.values[~np.isnan(self.values)])

    @functools.cached_property
    def varies(self) -> bool:
        """Whether two values differ."""
        return len(self.known) > 0 and bool(self.known[0] < self.known[-1])

    @functools.cached_property
    def median(self) -> float:
        """Of the values there are, of which there is at least one."""
        size = len(self.known)
        return float((self.known[(size - 1) // 2] + self.known[size // 2]) / 2)

    def once(self) -> FeatureColumn:
        """The same with each row of the file once, as where what is the patient's stands at each of her lesions."""
        rows = np.array(self.cells.rows)
        again = np.ones(len(rows), dtype=np.bool_)
        again[np.unique(rows, return_index=True)[1]] = False
        if not (again & (rows > 0)).any():
            return self
        return replace(self, cells=self.cells.without(again), values=np.where(again, np.nan, self.values))

    def rows(self, chosen: NDArray[np.bool_]) -> str:
        """The rows of some values, for messages."""
        return named_rows([self.cells.rows[index] for index in np.flatnonzero(chosen)])

    @functools.cached_property
    def rounding(self) -> float:
        """How far a value may lie from what was measured: half a unit of its last digit, as texts show it."""
        numbers = (_NUMBER.fullmatch(text.replace(self.cells.decimal, ".")) for text in self.cells.texts)
        digits = [len(one[1] or "") - int(one[2] or 0) for one in numbers if one]
        return 0.5 * 10.0 ** -max(digits) * abs(self.column.scale) if digits else 0.0

    @functools.cached_property
    def distinct(self) -> tuple[Values, NDArray[np.int64]]:
        """The different values as the site wrote them, ascending, and how many patients have each."""
        first = np.ones(len(self.known), dtype=np.bool_)
        first[1:] = self.known[1:] != self.known[:-1]
        starts = np.flatnonzero(first)
        values = np.round((self.known[starts] - self.column.offset) / self.column.scale, 6)
        counts = np.diff(starts, append=len(self.known))
        return (values, counts) if self.column.scale > 0 else (values[::-1], counts[::-1])

    @functools.cached_property
    def written(self) -> Values:
        """`(R,)` as the site wrote them, before scale and offset."""
        return np.round((self.values - self.column.offset) / self.column.scale, 6)
