"""Files of the phantom of `receptors_dce_mri`: an image and a mask for each patient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simulation.cohorts.files import Patient, SyntheticPatient, Tables, write_volume
from simulation.cohorts.tables import Field
from simulation.phantoms.receptors import COINS, NUMBER, draw_tumour
from simulation.phantoms.sites import PhantomSite
from simulation.phantoms.tables import PATIENTS, coin_fields, labels, write_tables
from simulation.phantoms.volumes import draw_exam_grid, write_exam

FIELD_MM, THROUGH_MM, WITHIN_MM = 110.0, 2.8, 1.9
_OFF_CENTRE_MM = 18.0


def draw(patient: Patient[PhantomSite], kind: str, ceiling: float) -> SyntheticPatient:
    """Draws a patient and writes its exam."""
    person, image = patient.generators(2)
    tumour = draw_tumour(person, kind, ceiling)
    grid = draw_exam_grid(image, FIELD_MM, THROUGH_MM, WITHIN_MM)
    deep, high, wide = (axis - image.uniform(-_OFF_CENTRE_MM, _OFF_CENTRE_MM) for axis in grid.axes())
    axes = (deep, high, wide)
    folder = patient.folder / "mri" / patient.identifier
    write_exam(folder / "early.nii.gz", tumour.image(axes, image), grid, patient.site, image)
    inside = tumour.lesion.surface.depth(axes)[0] > 0
    write_volume(folder / "mask.nii.gz", inside.astype(np.uint8), grid.spacing_mm)
    known = {name: int(tumour.truth[name]) for name in COINS} | {NUMBER: round(tumour.truth[NUMBER], 2)}
    return SyntheticPatient({PATIENTS: [{"patient_id": patient.identifier, **known}]}, known)


def write(folder: Path, site: PhantomSite, tables: Tables) -> Mapping[str, Any]:
    """Writes the table of outcomes and returns what the YAML says."""
    fields = {**coin_fields(site, COINS), NUMBER: Field(NUMBER)}
    exam = {"reader": "image_files", "phases": ["mri/{patient}/early.nii.gz"], "mask": "mri/{patient}/mask.nii.gz"}
    return {
        "tables": write_tables(folder, site, tables, {PATIENTS: fields}),
        "modalities": {"dce_mri": exam},
        "targets": labels(fields),
    }
