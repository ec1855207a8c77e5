"""Files of the phantom of `receptors_brain_metastasis`: an image and a mask for each lesion, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simulation.cohorts.files import Patient, SyntheticPatient, Tables, write_volume
from simulation.cohorts.tables import Field, Row
from simulation.phantoms.brain import TARGETS, draw_patient
from simulation.phantoms.patients import task_table
from simulation.phantoms.sites import PhantomSite
from simulation.phantoms.tables import PATIENTS, coin_fields, feature_fields, labels, reader, write_tables
from simulation.phantoms.volumes import draw_exam_grid, write_exam

FIELD_MM, THROUGH_MM, WITHIN_MM = 60.0, 1.8, 1.5
LESIONS = "lesions"
_OFF_CENTRE_MM = 8.0


def draw(patient: Patient[PhantomSite], kind: str, ceiling: float) -> SyntheticPatient:
    """Draws a patient and writes its lesions."""
    person, image = patient.generators(2)
    phantom, identifier = draw_patient(person, kind, ceiling), patient.identifier
    rows: list[Row] = []
    for number, one in enumerate(phantom.lesions, 1):
        grid = draw_exam_grid(image, FIELD_MM, THROUGH_MM, WITHIN_MM)
        deep, high, wide = (axis - image.uniform(-_OFF_CENTRE_MM, _OFF_CENTRE_MM) for axis in grid.axes())
        axes, folder = (deep, high, wide), patient.folder / "mri" / identifier
        inside = one.lesion.surface.depth(axes)[0] > 0
        write_exam(folder / f"lesion{number}.nii.gz", one.image(axes, image), grid, patient.site, image)
        write_volume(folder / f"lesion{number}_mask.nii.gz", inside.astype(np.uint8), grid.spacing_mm)
        volume = round(float(inside.sum() * np.prod(grid.spacing_mm)), 1)
        place = {"hemisphere": one.hemisphere, "region": one.region}
        rows.append({"patient_id": identifier, "lesion": f"lesion{number}", "volume_cu_mm": volume, **place})
    truth = {name: int(phantom.truth[name]) for name in TARGETS}
    return SyntheticPatient(
        {PATIENTS: [{"patient_id": identifier, **truth}], LESIONS: rows}, {**truth, "lesions": len(rows)}
    )


def write(folder: Path, site: PhantomSite, tables: Tables) -> Mapping[str, Any]:
    """Writes the tables of outcomes and lesions and returns what the YAML says."""
    outcomes = coin_fields(site, TARGETS)
    places = feature_fields(task_table("receptors_brain_metastasis", "anatomical_position"))
    lesions = {"lesion": Field("lesion"), "volume_cu_mm": Field("volume_cu_mm"), **places}
    exam = {
        "reader": "image_files",
        "phases": ["mri/{patient}/{instance}.nii.gz"],
        "mask": "mri/{patient}/{instance}_mask.nii.gz",
    }
    return {
        "tables": write_tables(folder, site, tables, {PATIENTS: outcomes, LESIONS: lesions}),
        "patients": PATIENTS,
        "instances": {"table": LESIONS, "column": "lesion", "volume": "volume_cu_mm"},
        "modalities": {
            "brain_mri": exam,
            "radiomics": {"reader": "extracted", "images": "brain_mri"},
            "anatomical_position": reader(places, LESIONS),
        },
        "targets": labels(outcomes),
    }
