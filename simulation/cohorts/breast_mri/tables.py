"""Site-specific tables of the synthetic breast MRI cohort, and the YAML that describes them.

The hospitals name, separate, measure and code the same facts differently on purpose: a study that reads them all
through their YAML has met German decimals, centimetres, numeric codes and workbooks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.cohorts.breast_mri.kinetics import FEATURES
from simulation.cohorts.population import GENES, RECEPTORS
from simulation.cohorts.tables import Row, Style, Value, write_table

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

    @property
    def style(self) -> Style:
        """How it writes any table."""
        suffix = self.clinical.rpartition(".")[2]
        return Style(self.columns["patient_id"], self.missing, self.separator, self.decimal, suffix)


def write_tables(
    folder: Path, dialect: Dialect, clinical: Sequence[Row], genomic: Sequence[Row], radiomics: Sequence[Row]
) -> None:
    """Writes a hospital's tables from rows in the study's names and units."""
    style, identifier = dialect.style, dialect.columns["patient_id"]
    cells = [_clinical_row(dialect, row, number) for number, row in enumerate(clinical)]
    write_table(folder / dialect.clinical, cells, style)
    if dialect.genes:
        names = {"patient_id": identifier, **dict(zip(GENES, dialect.genes, strict=True))}
        write_table(folder / "genomic.xlsx", [{names[key]: row[key] for key in names} for row in genomic], style)
    names = {"patient_id": identifier, **{name: name for name in FEATURES}}
    write_table(folder / "radiomics.csv", [{names[key]: row[key] for key in names} for row in radiomics], style)


def settings(dialect: Dialect, images: bool) -> dict[str, Any]:
    """What the hospital's YAML says of its data, beside which it lies."""
    features = {name: name for name in FEATURES}
    return {
        "tables": _tables(dialect),
        "patients": "clinical",
        "modalities": {
            "clinical": {"reader": "table", "table": "clinical", "features": _clinical_features(dialect)},
            "radiomics": {"reader": "table", "table": "radiomics", "features": features},
            **({"genomic": _genomic(dialect)} if dialect.genes else {}),
            **(_images() if images else {}),
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
    style = dialect.style
    genomic = {"genomic": style.table("genomic.xlsx")} if dialect.genes else {}
    clinical = {**style.table(dialect.clinical), "missing": [dialect.missing]}
    return {"clinical": clinical, "radiomics": style.table("radiomics.csv"), **genomic}


def _genomic(dialect: Dialect) -> dict[str, Any]:
    return {"reader": "table", "table": "genomic", "features": dict(zip(GENES, dialect.genes, strict=True))}


def _images() -> dict[str, Any]:
    phases = {
        "reader": "image_files",
        "phases": [f"mri/{{patient}}/phase{index}.nii.gz" for index in range(PHASES)],
    }
    return {"mri": phases, "dce_mri": {**phases, "mask": "mri/{patient}/mask.nii.gz"}}


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
