"""Tables of a phantom's cohort: one table of patients with outcomes and features, in a hospital's own codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared_models.task import Table
from simulation.cohorts.files import Tables
from simulation.cohorts.tables import Field, in_words, write_table
from simulation.phantoms.sites import PhantomSite

PATIENTS = "patients"


def feature_fields(table: Table) -> dict[str, Field]:
    """How every hospital writes a table's features: under their own names, categories as they are."""
    return {one.name: Field(one.name, {word: word for word in one.categories}, digits=6) for one in table.features}


def reader(fields: Mapping[str, Field], table: str = PATIENTS) -> dict[str, Any]:
    """The YAML entry of a modality that is read from a table."""
    return {"reader": "table", "table": table, "features": {name: one.entry() for name, one in fields.items()}}


def coin_fields(site: PhantomSite, names: Sequence[str]) -> dict[str, Field]:
    """How a hospital writes outcomes that are 0 or 1."""
    return {name: Field(name, dict(enumerate(site.signs))) for name in names}


def labels(fields: Mapping[str, Field]) -> dict[str, Any]:
    """The YAML entries of outcomes."""
    return {name: {"label": one.entry()} for name, one in fields.items()}


def write_tables(
    folder: Path, site: PhantomSite, tables: Tables, fields: Mapping[str, Mapping[str, Field]]
) -> dict[str, Any]:
    """Writes the tables that `fields` names and returns their YAML entries."""
    entries = {}
    for name, columns in fields.items():
        file = f"{name}.{site.style.suffix}"
        write_table(folder / file, in_words(columns, tables[name], site.style), site.style)
        entries[name] = {**site.style.table(file), "missing": [site.style.missing]}
    return entries
