"""How a site's YAML names a table's file and its columns, and how each becomes a value of the study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from shared_models.settings import Settings

# A table's TRUE is a text or a truth value, depending on its format: here it is always the text `true`.
Code = Annotated[str | int | float, BeforeValidator(lambda code: str(code).lower() if isinstance(code, bool) else code)]


class TableFile(Settings):
    """A CSV or XLSX file with a row a patient, or, where `instances` names it, several."""

    file: Path = Field(description="relative to data_root")
    patient_id: str = Field(description="the column that holds the patient's identifier")
    sheet: str | int = Field(0, description="XLSX only: name or position")
    header_rows: int = Field(1, ge=1, le=5, description="with several, name a column by any row or as `Group / Name`")
    separator: str = Field(",", min_length=1, max_length=1, description='CSV only; a tab is written "\\t"')
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8-sig"
    missing: tuple[Code, ...] = Field((), description="codes for a missing value in any column, besides an empty cell")


class Column(Settings):
    """Where one of the study's values stands in this site's tables, and in which unit or code."""

    column: str
    table: str = Field("", description="a name under `tables`; empty takes the modality's, or the patients table")
    extract: str = Field("", description="a regular expression; its first group is the value, or missing if none fits")
    scale: float = Field(1.0, description="multiplied first: from the site's unit to the study's")
    offset: float = 0.0
    codes: dict[Code, Code] | None = Field(None, description="this site's code: the study's category or number")
    missing: tuple[Code, ...] = Field((), description="codes for a missing value in this column")
    range: tuple[float, float] | None = Field(None, description="in the study's unit; values outside count as missing")

    @field_validator("extract")
    @classmethod
    def _one_group(cls, extract: str) -> str:
        try:
            groups = re.compile(extract).groups if extract else 1
        except re.error as error:
            msg = f"{extract!r} is no regular expression: {error}"
            raise ValueError(msg) from None
        if not groups:
            msg = f"{extract!r} has no group; put brackets round the part that is the value"
            raise ValueError(msg)
        return extract

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.codes is not None and (self.scale, self.offset) != (1.0, 0.0):
            msg = "`codes` already give the study's value: leave `scale` and `offset` out"
            raise ValueError(msg)
        if self.scale == 0.0 or (self.range and self.range[0] >= self.range[1]):
            msg = "expected a `scale` other than 0 and a `range` of [low, high]"
            raise ValueError(msg)
        return self


def _column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


ColumnOrName = Annotated[Column, BeforeValidator(_column)]
