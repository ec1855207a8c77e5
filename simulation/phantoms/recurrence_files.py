"""Files of the phantom of `recurrence_mri`: four phases and a mask for each patient, clinical and genomic tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulation.cohorts.files import Patient, SyntheticPatient, Tables, write_volume
from simulation.cohorts.tables import Field
from simulation.phantoms.anatomy import draw_grid
from simulation.phantoms.patients import Grid, task_table
from simulation.phantoms.recurrence import FIELDS, TARGET, draw_patient
from simulation.phantoms.sites import PhantomSite
from simulation.phantoms.tables import PATIENTS, coin_fields, feature_fields, reader, write_tables
from simulation.phantoms.volumes import write_exam

PHASES = 4


def draw(patient: Patient[PhantomSite], kind: str, ceiling: float, field: str) -> SyntheticPatient:
    """Draws a patient and writes its exam."""
    person, image = patient.generators(2)
    phantom = draw_patient(person, kind, ceiling, FIELDS[field])
    grid = Grid(*draw_grid(image, FIELDS[field]))
    axes, folder = grid.axes(), patient.folder / "mri" / patient.identifier
    for number, phase in enumerate(phantom.phases(axes, image)):
        write_exam(folder / f"phase{number}.nii.gz", phase, grid, patient.site, image)
    write_volume(folder / "mask.nii.gz", phantom.mask(axes), grid.spacing_mm)
    outcome = {
        TARGET: int(phantom.recurs),
        "recurrence_days": phantom.days if phantom.recurs else None,
        "followup_days": phantom.days,
    }
    places = dict(zip(("deep_mm", "high_mm", "wide_mm"), map(float, phantom.centre_mm), strict=True))
    row = {"patient_id": patient.identifier, **phantom.clinical, **phantom.genomic, **outcome}
    return SyntheticPatient({PATIENTS: [row]}, {TARGET: int(phantom.recurs), **places})


def write(folder: Path, site: PhantomSite, tables: Tables) -> Mapping[str, Any]:
    """Writes the table of patients and returns what the YAML says."""
    clinical, genomic = (feature_fields(task_table("recurrence_mri", name)) for name in ("clinical", "genomic"))
    event = coin_fields(site, [TARGET])[TARGET]
    days = {name: Field(name, digits=0) for name in ("recurrence_days", "followup_days")}
    exam = {
        "reader": "image_files",
        "phases": [f"mri/{{patient}}/phase{number}.nii.gz" for number in range(PHASES)],
        "mask": "mri/{patient}/mask.nii.gz",
    }
    outcome = {"event": event.entry(), "event_days": ["recurrence_days"], "followup_days": ["followup_days"]}
    return {
        "tables": write_tables(folder, site, tables, {PATIENTS: {**clinical, **genomic, TARGET: event, **days}}),
        "modalities": {
            "mri": exam,
            "radiomics": {"reader": "extracted", "images": "mri"},
            "clinical": reader(clinical),
            "genomic": reader(genomic),
        },
        "targets": {TARGET: outcome},
    }
