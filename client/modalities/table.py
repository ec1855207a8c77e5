"""A tabular modality: the site's columns as the study's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from client.records import Records
from client.site import TableReader
from client.values import categories, numbers, within
from shared_models.features import Feature


@dataclass(frozen=True)
class TableValues:
    """A tabular modality of N patients and F features.

    Attributes:
        values: `(N, F)`: a category stands as its index, a missing value as NaN.
        mapped: Whether the site's YAML maps each feature.
        out_of_range: Values of each feature outside its range, which count as missing.
    """

    values: NDArray[np.float64]
    mapped: tuple[bool, ...]
    out_of_range: tuple[int, ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """`(N,)`: who has at least one value."""
        return np.asarray(~np.isnan(self.values).all(axis=1))


def read_features(records: Records, reader: TableReader, features: Sequence[Feature]) -> TableValues:
    """Reads the study's features; those that the site does not map are missing for everyone.

    Raises:
        SiteError: If a cell cannot be read, or a mapped feature has no value at all.
    """
    values = np.full((len(records.patients), len(features)), np.nan)
    outside = [0] * len(features)
    for index, feature in enumerate(features):
        if feature.name in reader.features:
            values[:, index], outside[index] = _read(records, reader, feature)
    return TableValues(values, tuple(feature.name in reader.features for feature in features), tuple(outside))


def _read(records: Records, reader: TableReader, feature: Feature) -> tuple[NDArray[np.float64], int]:
    column = reader.features[feature.name]
    cells = records.cells(column, reader.table)
    if feature.categories:
        values, outside = categories(cells, column, feature.categories), 0
    else:
        values, outside = within(numbers(cells, column), column)
    if np.isnan(values).all():
        low, high = column.range or (None, None)
        raise SiteError(
            what=f"the feature {feature.name!r} is missing for every patient",
            where=cells.where,
            found=f"{outside} values outside its range" if outside else "empty cells and missing codes only",
            expected=f"values between {low} and {high}" if outside else "a value for at least one patient",
            fix="check its `scale` and `range`"
            if outside
            else "take it out of `features` if the site does not record it",
            public="a feature that the site maps is missing for all of its patients",
        )
    return values, outside
