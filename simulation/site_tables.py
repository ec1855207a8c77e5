"""How each synthetic hospital writes its tables, and the YAML in which it says so.

The hospitals name, separate, measure and code the same facts differently on purpose: a study that reads them all
through their YAML has met German decimals, centimetres, numeric codes and workbooks.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from openpyxl import Workbook

from simulation.kinetics import FEATURES
from simulation.population import GENES, RECEPTORS

Value = str | int | float | None
Row = Mapping[str, Value]

PHASES = 4
_MEANINGS = ("negative", "positive")


@dataclass(frozen=True)
class Dialect:
    """A hospital's way of writing its tables.

    Attributes:
        columns: `the study's name: its own`, of the clinical table.
        receptors: Its codes for a negative and for a positive receptor.
        nodes: Its codes for negative nodes, and for positive ones.
        events: Its codes for no recurrence and for one.
        missing: What stands for a value not known, in every other such cell; the rest are empty.
        clinical: The clinical table's file, a CSV or an XLSX.
        separator: Of CSV files.
        decimal: Of CSV files.
        mm_per_unit: The unit of the tumour's size.
        genes: Its names of `GENES`, in that order; empty without expression.
    """

    columns: Mapping[str, str]
    receptors: tuple[str | int, str | int]
    nodes: tuple[tuple[str | int, ...], tuple[str | int, ...]]
    events: tuple[str | int, str | int]
    missing: str | int
    clinical: str = "clinical.csv"
    separator: str = ","
    decimal: str = "."
    mm_per_unit: float = 1.0
    genes: tuple[str, ...] = GENES


def write_tables(
    folder: Path, dialect: Dialect, clinical: Sequence[Row], genomic: Sequence[Row], radiomics: Sequence[Row]
) -> None:
    """Writes a hospital's tables from rows in the study's names and units."""
    cells = [_clinical_row(dialect, row, number) for number, row in enumerate(clinical)]
    if dialect.clinical.endswith(".xlsx"):
        _write_xlsx(folder / dialect.clinical, cells)
    else:
        _write_csv(folder / dialect.clinical, dialect, cells)
    identifier = dialect.columns["patient_id"]
    if dialect.genes:
        names = {"patient_id": identifier, **dict(zip(GENES, dialect.genes, strict=True))}
        _write_xlsx(folder / "genomic.xlsx", [{names[key]: row[key] for key in names} for row in genomic])
    names = {"patient_id": identifier, **{name: name for name in FEATURES}}
    _write_csv(folder / "radiomics.csv", dialect, [{names[key]: row[key] for key in names} for row in radiomics])


def settings(site: str, role: str, dialect: Dialect, images: bool) -> dict[str, Any]:
    """The hospital's `SiteConfig` as it stands in its YAML; it lies beside its data."""
    features = {name: name for name in FEATURES}
    return {
        "site": site,
        "role": role,
        "data_root": ".",
        "state_dir": "state",
        "tables": _tables(dialect),
        "patients": "clinical",
        "modalities": {
            "clinical": {"reader": "table", "table": "clinical", "features": _clinical_features(dialect)},
            "radiomics": {"reader": "table", "table": "radiomics", "features": features},
            **({"genomic": _genomic(dialect)} if dialect.genes else {}),
            **({"mri": _phases()} if images else {}),
        },
        "targets": _targets(dialect),
    }


def _clinical_features(dialect: Dialect) -> dict[str, Any]:
    names = dialect.columns
    node = {code: meaning for codes, meaning in zip(dialect.nodes, _MEANINGS, strict=True) for code in codes}
    unit = {"scale": dialect.mm_per_unit} if dialect.mm_per_unit != 1 else {}
    return {
        "age_years": {"column": names["age_years"], "range": [18, 100]},
        "size_mm": {"column": names["size_mm"], **unit, "range": [1, 200]},
        "nodes": {"column": names["nodes"], "codes": node},
        **{
            name: {"column": names[name], "codes": dict(zip(dialect.receptors, _MEANINGS, strict=True))}
            for name in RECEPTORS
        },
    }


def _targets(dialect: Dialect) -> dict[str, Any]:
    names = dialect.columns
    return {
        "recurrence": {
            "event": {"column": names["recurrence"], "codes": dict(zip(dialect.events, (0, 1), strict=True))},
            "event_days": [names["recurrence_days"]],
            "followup_days": [names["followup_days"]],
        },
        **{
            name: {"label": {"column": names[name], "codes": dict(zip(dialect.receptors, (0, 1), strict=True))}}
            for name in RECEPTORS
        },
        "ki67_percent": {"label": {"column": names["ki67_percent"], "range": [0, 100]}},
    }


def _tables(dialect: Dialect) -> dict[str, Any]:
    text = {"separator": dialect.separator} if dialect.separator != "," else {}
    text |= {"decimal": dialect.decimal} if dialect.decimal != "." else {}
    identifier = {"patient_id": dialect.columns["patient_id"]}
    workbook = dialect.clinical.endswith(".xlsx")
    clinical = {"file": dialect.clinical, **identifier, **({} if workbook else text), "missing": [dialect.missing]}
    genomic = {"genomic": {"file": "genomic.xlsx", **identifier}} if dialect.genes else {}
    return {"clinical": clinical, "radiomics": {"file": "radiomics.csv", **identifier, **text}, **genomic}


def _genomic(dialect: Dialect) -> dict[str, Any]:
    return {"reader": "table", "table": "genomic", "features": dict(zip(GENES, dialect.genes, strict=True))}


def _phases() -> dict[str, Any]:
    return {"reader": "nifti_phases", "phases": [f"mri/{{patient}}/phase{index}.nii.gz" for index in range(PHASES)]}


def _clinical_row(dialect: Dialect, row: Row, number: int) -> Row:
    cells: dict[str, Value] = {}
    for name, ours in dialect.columns.items():
        value = row[name]
        if value is None:
            # A day that never came is empty; a value not known is empty or has the site's code.
            cells[ours] = dialect.missing if number % 2 and not name.endswith("_days") else None
        elif name in RECEPTORS:
            cells[ours] = dialect.receptors[int(value)]
        elif name == "nodes":
            codes = dialect.nodes[int(value)]
            cells[ours] = codes[number % len(codes)]
        elif name == "recurrence":
            cells[ours] = dialect.events[int(value)]
        elif name == "size_mm":
            cells[ours] = round(float(value) / dialect.mm_per_unit, 1 if dialect.mm_per_unit == 1 else 2)
        else:
            cells[ours] = value
    return cells


def _write_csv(path: Path, dialect: Dialect, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=dialect.separator, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_text(value, dialect.decimal) for value in row.values()] for row in rows)


def _text(value: Value, decimal: str) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.7g}".replace(".", decimal) if isinstance(value, float) else str(value)


def _write_xlsx(path: Path, rows: Sequence[Row]) -> None:
    book = Workbook()
    sheet = book.active
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append([round(value, 6) if isinstance(value, float) else value for value in row.values()])
    written = io.BytesIO()
    book.save(written)
    path.write_bytes(_without_clock(written.getvalue()))


def _without_clock(workbook: bytes) -> bytes:
    """The same workbook, in which neither the archive nor the document says when it was written."""
    stamp = datetime(2020, 1, 1).isoformat().encode() + b"Z"
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp, content)
            new.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return copy.getvalue()
