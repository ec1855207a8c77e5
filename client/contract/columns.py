"""Column specifications of a site's YAML: table, column, unit, codes, dates."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from client.contract.paths import with_slashes
from shared_models.settings import Settings

# A table's TRUE is a text or a truth value, depending on its format: here it is always the text `true`.
Code = Annotated[str | int | float, BeforeValidator(lambda code: str(code).lower() if isinstance(code, bool) else code)]


def _one_group(expression: str) -> str:
    try:
        groups = re.compile(expression).groups if expression else 1
    except re.error as error:
        msg = f"{expression!r} is no regular expression: {error}"
        raise ValueError(msg) from None
    if not groups:
        msg = f"{expression!r} has no group; put brackets round the part that is the value"
        raise ValueError(msg)
    return expression


def _known_encoding(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        msg = f"{encoding!r} is no encoding; try utf-8-sig, cp1252 (older Excel in Western Europe) or utf-16"
        raise ValueError(msg) from None
    return encoding


Extract = Annotated[str, AfterValidator(_one_group)]
TablePath = Annotated[Path, BeforeValidator(lambda path: with_slashes(path) if isinstance(path, str) else path)]
Encoding = Annotated[str, AfterValidator(_known_encoding)]


class Genes(Settings):
    """What makes a table a matrix of numbers by patient and gene. A gene is found by its symbol in any case."""

    orientation: Literal["genes_in_columns", "genes_in_rows"] = Field(
        "genes_in_columns",
        description="`genes_in_rows`: a row a gene, a column a patient, the first header row names them",
    )
    gene_id: str = Field("", description="with `genes_in_rows`: the column of symbols; empty takes the first")
    aliases: dict[str, str] = Field({}, description="a symbol in the table: the gene's present symbol")
    aliases_file: TablePath | None = Field(
        None, description="two columns with a header, alias and symbol, as HGNC exports"
    )
    duplicates: Literal["error", "mean", "max", "first"] = Field("error", description="of a duplicate gene")
    transform: Literal["none", "log2p1", "log1p"] = Field("none", description="log2(1 + x) or ln(1 + x) of each value")
    sets: TablePath | None = Field(
        None, description="GMT file: a set's name is a feature, the mean of its genes that the table holds"
    )


class TableSource(Settings):
    """A file or a query with a row a patient, or, where `instances` names it, several."""

    file: TablePath | None = Field(
        None, description="CSV, TSV, XLSX, Parquet or a folder of Parquet files, relative to data_root"
    )
    sql: str = Field("", description="instead of a file: one SELECT, with `database`")
    database: str = Field("", description="sqlite:///FILE under data_root, or postgresql://USER@HOST/NAME")
    password_file: Path | None = Field(None, description="PostgreSQL only: a file that holds the password")
    password_env: str = Field("", description="PostgreSQL only: an environment variable that holds the password")
    timeout_s: float = Field(60.0, gt=0, le=3600, description="a query that takes longer is cancelled")
    patient_id: str = Field("", description="the column that holds the patient's identifier")
    patient_extract: Extract = Field(
        "", description="a regular expression; its first group is the identifier, rows without a match are left out"
    )
    sheet: str | int | None = Field(None, description="XLSX only: name or position; may be left out for the only one")
    skip_rows: int = Field(
        0,
        ge=0,
        le=50,
        description="CSV, TSV and XLSX: rows above the header that are left out, as a title and a blank row",
    )
    header_rows: int = Field(1, ge=1, le=5, description="with several, name a column by any row or as `Group / Name`")
    separator: str = Field("", max_length=1, description='empty: a tab, "\\t", in .tsv, and a comma in .csv and .txt')
    decimal: Literal[".", ","] = Field(
        ".", description="decimal mark of a text file, and of texts among a workbook's cells"
    )
    encoding: Encoding = Field("utf-8-sig", description="of a CSV without a byte order mark")
    missing: tuple[Code, ...] = Field((), description="codes for a missing value in any column, besides an empty cell")
    genes: Genes | None = Field(None, description="the table is a matrix of numbers by patient and gene")

    @model_validator(mode="after")
    def _file_or_query(self) -> Self:
        if (self.file is None) == (not self.sql):
            msg = "expected either `file`, or `sql` with `database`"
            raise ValueError(msg)
        if self.sql:
            _check_query(self)
        if not self.patient_id and not self.genes_in_rows:
            msg = "`patient_id` is missing: the column that holds the patient's identifier"
            raise ValueError(msg)
        if self.genes_in_rows and self.header_rows > 1:
            msg = "with `genes_in_rows` there is one header row, which names the patients"
            raise ValueError(msg)
        return self

    @property
    def genes_in_rows(self) -> bool:
        """Whether patients are in columns."""
        return self.genes is not None and self.genes.orientation == "genes_in_rows"

    @property
    def name(self) -> str:
        """The file, or the database, for messages."""
        return str(self.file) if self.file else f"query of {self.database}"

    @property
    def delimiter(self) -> str:
        """What separates two cells of a text file."""
        return self.separator or ("\t" if self.file and self.file.suffix.lower() == ".tsv" else ",")


def _check_query(table: TableSource) -> None:
    # The values are in no message: a URL may hold a password.
    statement = table.sql.strip().removesuffix(";")
    if not re.match(r"(?is)(select|with)\b", statement) or ";" in statement:
        msg = "`sql`: expected one SELECT or WITH ... SELECT; for more, make a view in the database"
        raise ValueError(msg)
    if re.match(r"postgresql://[^/@]*:[^/@]*@|postgresql://.*[?&](password|passfile|options)=", table.database):
        msg = "`database`: leave the password and options out of the URL; set `password_file` or `password_env`"
        raise ValueError(msg)
    if not re.match(r"sqlite:///[^?]+$|postgresql://.+/.+", table.database):
        msg = "`database`: expected sqlite:///FILE, with FILE under data_root, or postgresql://USER@HOST:PORT/NAME"
        raise ValueError(msg)


class Column(Settings):
    """Where one of the study's values is in this site's tables, and in which unit or code."""

    column: str = Field(description="the column's name; a text in place of this section is short for it")
    table: str = Field("", description="a name under `tables`; empty takes the modality's, or the patients table")
    extract: Extract = Field("", description="a regular expression; its first group is the value, missing if none fits")
    since: str = Field("", description="the column of the date from which days are counted")
    since_table: str = Field("", description="the table of `since`; empty takes that of `column`")
    date: str = Field("iso", description="how dates are written, as %d.%m.%Y; a date cell and `iso` need nothing")
    scale: float = Field(1.0, ge=-1e6, le=1e6, description="multiplied first: from the site's unit to the study's")
    offset: float = Field(0.0, ge=-1e6, le=1e6, description="added after `scale`")
    codes: dict[Code, Code] | None = Field(None, description="this site's code: the study's category or number")
    missing: tuple[Code, ...] = Field((), description="codes for a missing value in this column")
    range: tuple[float, float] | None = Field(None, description="in the study's unit; values outside count as missing")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.codes is not None and (self.scale, self.offset) != (1.0, 0.0):
            msg = "`codes` already give the study's value: leave `scale` and `offset` out"
            raise ValueError(msg)
        if self.scale == 0.0 or (self.range and self.range[0] >= self.range[1]):
            msg = "expected a `scale` other than 0 and a `range` of [low, high]"
            raise ValueError(msg)
        if self.codes is not None and self.since:
            msg = "a date has no `codes`: leave them or `since` out"
            raise ValueError(msg)
        if self.since_table and not self.since:
            msg = "`since_table` goes with `since`: the column of the date from which days are counted"
            raise ValueError(msg)
        if self.date != "iso" and not (self.since and _is_date_form(self.date)):
            msg = (
                "`date` is `iso` or a form such as %d.%m.%Y, and goes with `since`: the column of the date from which "
                "days are counted"
            )
            raise ValueError(msg)
        return self

    def places(self, table: str) -> tuple[tuple[str, str], ...]:
        """The tables and names of all columns that it reads; `table` is the one that counts where it names none."""
        own = self.table or table
        return ((own, self.column), *([(self.since_table or own, self.since)] if self.since else []))


def _is_date_form(form: str) -> bool:
    day = datetime.date(2020, 12, 31)
    try:
        return datetime.datetime.strptime(day.strftime(form), form).date() == day
    except ValueError:
        return False


def _column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


ColumnOrName = Annotated[Column, BeforeValidator(_column)]
