"""Files of the phantom of `relapse_mammogram`: one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulation.cohorts.files import Patient, SyntheticPatient, Tables
from simulation.phantoms.mammograms import KINDS, TARGET, draw_row
from simulation.phantoms.patients import task_table
from simulation.phantoms.sites import PhantomSite
from simulation.phantoms.tables import PATIENTS, coin_fields, feature_fields, labels, reader, write_tables


def draw(patient: Patient[PhantomSite], kind: str, ceiling: float) -> SyntheticPatient:
    """Draws a patient."""
    (person,) = patient.generators(1)
    row = draw_row(person)
    risk = KINDS[kind](row, ceiling)
    relapse = int(person.random() < risk)
    return SyntheticPatient(
        {PATIENTS: [{"patient_id": patient.identifier, **row, TARGET: relapse}]}, {TARGET: relapse, "risk": risk}
    )


def write(folder: Path, site: PhantomSite, tables: Tables) -> Mapping[str, Any]:
    """Writes the table and returns what the YAML says."""
    features = feature_fields(task_table("relapse_mammogram", "mammography"))
    outcomes = coin_fields(site, [TARGET])
    return {
        "tables": write_tables(folder, site, tables, {PATIENTS: {**features, **outcomes}}),
        "modalities": {"mammography": reader(features)},
        "targets": labels(outcomes),
    }
