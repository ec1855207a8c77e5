"""Reader of a tabular modality: the site's columns as the study's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.contract.cells import Cells
from client.contract.columns import Column, ColumnOrName, Genes
from client.errors import ExitCode, SiteError
from client.readers.modality_data import ModalityData
from client.tables.values import categories, mask_out_of_range, numbers, text_categories
from shared_models.features import Feature, expand
from shared_models.settings import Settings
from shared_models.task import Modality, Table

# No logarithm of an expression reaches it; counts, TPM and FPKM do.
MAX_LOGARITHM = 50.0

Values = NDArray[np.float64]

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site


@dataclass(frozen=True)
class TableValues:
    """A tabular modality of R rows and F features.

    Attributes:
        values: `(R, F)`: a category is given by its index, a missing value as NaN.
        mapped: Whether the site's YAML maps each feature.
        out_of_range: Values of each feature outside its range, which count as missing.
        cells: Of each feature the cells that it was read from, None where the site does not map it.
    """

    values: Values
    mapped: tuple[bool, ...]
    out_of_range: tuple[int, ...]
    cells: tuple[Cells | None, ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """`(R,)`: who has at least one value."""
        return np.asarray(~np.isnan(self.values).all(axis=1))


class TableReader(Settings):
    """A tabular modality: the study's feature names and this site's columns."""

    supported_kinds: ClassVar[tuple[type[Modality], ...]] = (Table,)

    reader: Literal["table"] = Field(description="chooses this reader")
    table: str = Field("", description="a name under `tables`; empty takes the patients table")
    features: dict[str, ColumnOrName] = Field({}, description="the study's name: this site's column")
    same_names: bool = Field(
        False, description="every other feature of the study is in the column of its own name, as in a gene matrix"
    )
    lacks: tuple[str, ...] = Field((), description="with `same_names`: features that this site does not have")

    def preview_kind(self) -> Table | None:
        """Its features; a column with codes to texts is a category. None where they are all the study's to name."""
        return (
            None
            if not self.features
            else Table(tuple(Feature(name, text_categories(column)) for name, column in self.features.items()))
        )

    def columns(self, kind: Table) -> list[tuple[str, str]]:
        """The columns of those features that the study lists."""
        mapped = map(self.column, kind.features)
        return [place for column in mapped if column for place in column.places(self.table)]

    def column(self, feature: Feature) -> Column | None:
        """Where a feature is, or None if this site does not have it."""
        if feature.name in self.features:
            return self.features[feature.name]
        return Column(column=feature.name) if self.same_names and feature.name not in self.lacks else None

    def files(self, site: Site) -> list[Path]:
        """None: the site's tables are known already."""
        return []

    def read(self, rows: Rows, name: str, kind: Table, exams: object) -> ModalityData:
        """`(R, C)` input columns, NaN where missing."""
        return self.of_values(rows, name, kind, self.values(rows, kind.features))

    def of_values(self, rows: Rows, name: str, kind: Table, read: TableValues) -> ModalityData:
        """What `read` gives, of values that are read already."""
        warnings = self._warnings(rows, name, kind.features, read.values)
        return ModalityData(expand(kind.features, read.values), read.present, warnings=warnings)

    def _warnings(self, rows: Rows, name: str, features: Sequence[Feature], values: Values) -> list[str]:
        """Expression that looks like counts where the study may mean logarithms."""
        suspects = [
            feature.name
            for feature, column, column_values in zip(features, map(self.column, features), values.T, strict=True)
            if column and not feature.log and (genes := self._genes(rows, column)) and genes.transform == "none"
            if (column_values > MAX_LOGARITHM).any()
        ]
        text = f"{name}: {len(suspects)} genes have values above {MAX_LOGARITHM:g}, as counts and TPM have"
        return [f"{text}; if the study means logarithms, set the table's `genes.transform`"] if suspects else []

    def _genes(self, rows: Rows, column: Column) -> Genes | None:
        """How the table of a column is read, if it is a gene matrix."""
        return rows.site.tables[column.table or self.table or rows.site.patients_table].genes

    def values(self, rows: Rows, features: Sequence[Feature]) -> TableValues:
        """Reads the study's features; those that the site does not map are missing for everyone.

        Raises:
            SiteError: If a cell cannot be read, or a mapped feature has no value at all.
        """
        values = np.full((len(rows), len(features)), np.nan)
        outside = [0] * len(features)
        columns = [self.column(feature) for feature in features]
        cells = [rows.cells(column, self.table) if column else None for column in columns]
        for index, (feature, column, texts) in enumerate(zip(features, columns, cells, strict=True)):
            if column is not None and texts is not None:
                values[:, index], outside[index] = self._feature(rows, feature, column, texts)
        return TableValues(values, tuple(column is not None for column in columns), tuple(outside), tuple(cells))

    def _feature(self, rows: Rows, feature: Feature, column: Column, cells: Cells) -> tuple[Values, int]:
        if feature.log and (genes := self._genes(rows, column)) and genes.transform != "none":
            raise _twice_logarithm(feature, cells.where, genes.transform)
        if feature.categories:
            values, outside = categories(cells, column, feature.categories), 0
        else:
            values, outside = mask_out_of_range(numbers(cells, column), column)
        if np.isnan(values).all() and not rows.may_lack:
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


def _twice_logarithm(feature: Feature, where: str, transform: str) -> SiteError:
    return SiteError(
        what="a logarithm would be taken twice",
        where=where,
        found=f"`genes.transform: {transform}`, and the study lists {feature.name}:log",
        expected="the values as they were measured, of which the study takes the logarithm",
        fix="leave `genes.transform` out",
        public="the site's settings do not fit the study",
        exit_code=ExitCode.STUDY,
    )
