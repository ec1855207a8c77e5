"""A feature's column as one site has it, for what is judged of it as a whole."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.contract.cells import Cells
from client.contract.columns import Column
from client.errors import named_rows
from shared_models.features import Feature

Values = NDArray[np.float64]

FEW = 10  # values from which a column says something


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

    def rows(self, chosen: NDArray[np.bool_]) -> str:
        """The rows of some values, for messages."""
        return named_rows([self.cells.rows[index] for index in np.flatnonzero(chosen)])

    @functools.cached_property
    def distinct(self) -> tuple[Values, NDArray[np.int64]]:
        """The different values as the site wrote them, ascending, and how many patients have each."""
        starts = np.flatnonzero(np.diff(self.known, prepend=np.nan))
        values = np.round((self.known[starts] - self.column.offset) / self.column.scale, 6)
        counts = np.diff(starts, append=len(self.known))
        return (values, counts) if self.column.scale > 0 else (values[::-1], counts[::-1])

    @functools.cached_property
    def written(self) -> Values:
        """`(R,)` as the site wrote them, before scale and offset."""
        return np.round((self.values - self.column.offset) / self.column.scale, 6)
