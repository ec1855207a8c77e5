"""Files of the phantom of `subtype_histology`: sixteen tiles for each patient, and a table of genes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from simulation.cohorts.files import Patient, SyntheticPatient, Tables
from simulation.cohorts.tables import Field, Row
from simulation.phantoms.patients import task_table
from simulation.phantoms.sites import PhantomSite
from simulation.phantoms.slides import CLASSES, PAM50, TARGET, draw_patient
from simulation.phantoms.tables import PATIENTS, feature_fields, reader, write_tables


def draw(patient: Patient[PhantomSite], kind: str, ceiling: float) -> SyntheticPatient:
    """Draws a patient and writes its tiles."""
    (person,) = patient.generators(1)
    phantom, folder = draw_patient(person, kind, ceiling), patient.folder / "histology" / patient.identifier
    folder.mkdir(parents=True, exist_ok=True)
    for number, tile in enumerate(phantom.tiles):
        pixels = (255 * np.clip(tile * (1 + np.array(patient.site.stain)), 0, 1)).round().astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), folder / f"tile_{number:02d}.png")
    row: Row = {"patient_id": patient.identifier, "pam50": phantom.subtype, **phantom.genes}
    return SyntheticPatient({PATIENTS: [row]}, {"pam50": phantom.subtype, TARGET: int(phantom.group)})


def write(folder: Path, site: PhantomSite, tables: Tables) -> Mapping[str, Any]:
    """Writes the table of subtypes and genes and returns what the YAML says."""
    genes = feature_fields(task_table("subtype_histology", "expression"))
    subtype = Field("pam50", {name: name for name in CLASSES})
    group = {name: int(name in PAM50[True]) for name in CLASSES}
    return {
        "tables": write_tables(folder, site, tables, {PATIENTS: {"pam50": subtype, **genes}}),
        "modalities": {
            "tiles": {"reader": "tiles", "tiles": "histology/{patient}/*.png"},
            "expression": reader(genes),
        },
        "targets": {TARGET: {"label": subtype.entry(read_as=group)}, "pam50": {"label": subtype.entry()}},
    }
