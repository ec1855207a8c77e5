"""Synthetic brain metastases of five hospitals: lesion images, radiomics, position, receptors.

    folder/A/A.yaml                          what hospital A says of its data, and so on to E
    folder/A/patients.csv                    ER, PR and HER2
    folder/A/lesions.csv                     a row for each lesion: its name, which says where it lies, its radiomics
    folder/A/lesions/PATIENT/LESION.nii.gz   one phase, 90 s after the contrast agent, 40 x 40 x 40 mm about the lesion,
                                             and LESION_mask.nii.gz
    folder/truth.csv                         every patient's receptors and latents

A patient has the breast cohort's latents z; each of its 1 to 8 lesions has z + N(0, .5^2). Where a lesion lies says
nothing of the receptors. Radiomics are PyRadiomics' default features (10.1158/0008-5472.CAN-17-0339).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from shared_models.radiomics import pyradiomics_features
from simulation.cohorts import population as who
from simulation.cohorts.brain.dialects import HEMISPHERES, REGIONS, WORDS
from simulation.cohorts.files import (
    Patient,
    Progress,
    SyntheticPatient,
    Tables,
    partly_known,
    write_hospitals,
    write_volume,
)
from simulation.cohorts.phantom import BRAIN, Exam, acquire
from simulation.cohorts.population import Array
from simulation.cohorts.sites import SITES, SyntheticSite
from simulation.cohorts.tables import Field, Row, in_words, write_table

MAX_LESIONS = 8
LESION_SD = 0.5  # of a lesion's latents about its patient's
_RATIO = 0.63  # of the shares of patients with one lesion more: 2.5 lesions a patient
_REGION_SHARES = (0.29, 0.18, 0.12, 0.12, 0.20, 0.03, 0.06)  # of REGIONS; our choice
_FEATURES = tuple(feature.name for feature in pyradiomics_features())


def lesion_shares() -> Array:
    """The shares `(8,)` of patients with 1 to 8 lesions: geometric, cut off."""
    shares = _RATIO ** np.arange(MAX_LESIONS)
    return np.asarray(shares / shares.sum())


def write_cohort(
    folder: Path,
    sites: Sequence[SyntheticSite] = SITES,
    seed: int = 0,
    scale: float = 1.0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes the hospitals' files and returns their YAML files; the arguments are those of `write_hospitals`."""
    return write_hospitals(folder, sites, _draw, _write, seed, scale, workers, progress)


def _draw(patient: Patient[SyntheticSite]) -> SyntheticPatient:
    person, image, record = patient.generators(3)
    population = who.draw(1, person, patient.site.her2_factor)
    words, identifier = WORDS[patient.site.name], patient.identifier
    lesions: list[Row] = []
    for number in range(1, 1 + int(person.choice(MAX_LESIONS, p=lesion_shares()) + 1)):
        name = words.name(str(person.choice(HEMISPHERES)), str(person.choice(REGIONS, p=_REGION_SHARES)), number)
        exam = acquire(population.z[0] + LESION_SD * person.standard_normal(6), patient.site.scanner, image, BRAIN)
        features = radiomics(exam)
        folder = patient.folder / "lesions" / identifier
        write_volume(folder / f"{name}.nii.gz", exam.phases[0], BRAIN.spacing_mm)
        write_volume(folder / f"{name}_mask.nii.gz", exam.mask.astype(np.uint8), BRAIN.spacing_mm)
        lesions.append({"patient_id": identifier, "lesion": name, "volume_cu_mm": float(exam.mask.sum()), **features})
    receptors = dict(zip(who.RECEPTORS, map(int, population.receptors[0]), strict=True))
    latents = dict(zip(who.LATENTS, map(float, population.z[0]), strict=True))
    return SyntheticPatient(
        {"patients": [{"patient_id": identifier, **partly_known(receptors, record)}], "lesions": lesions},
        {**receptors, "lesions": len(lesions), **latents},
    )


def radiomics(exam: Exam) -> dict[str, float]:
    """PyRadiomics' 107 default features of the tumour on the exam's first phase."""
    images = [sitk.GetImageFromArray(volume) for volume in (exam.phases[0], exam.mask.astype(np.uint8))]
    for image in images:
        image.SetSpacing(BRAIN.spacing_mm[::-1])
    features = _extractor().execute(*images)
    return {name: float(features[name]) for name in _FEATURES}


@cache
def _extractor() -> Any:
    import radiomics  # late: only the processes that measure lesions need it
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    radiomics.setVerbosity(logging.ERROR)
    return RadiomicsFeatureExtractor()


def _write(folder: Path, site: SyntheticSite, tables: Tables) -> Mapping[str, Any]:
    words, dialect, style = WORDS[site.name], site.dialect, site.dialect.style
    codes = dict(enumerate(dialect.receptors))
    of_patients = {name: Field(dialect.columns[name], codes) for name in who.RECEPTORS}
    volume = Field(words.volume, unit=dialect.mm_per_unit**3)
    of_lesions = {
        "lesion": Field(words.lesion),
        "volume_cu_mm": volume,
        **{name: Field(name, digits=12) for name in _FEATURES},
    }
    patients = f"patients.{style.suffix}"
    write_table(folder / patients, in_words(of_patients, tables["patients"], style), style)
    write_table(folder / "lesions.csv", in_words(of_lesions, tables["lesions"], style), style)
    return {
        "tables": {
            "patients": {**style.table(patients), "missing": [style.missing]},
            "lesions": style.table("lesions.csv"),
        },
        "instances": {"table": "lesions", "column": words.lesion, "volume": volume.entry()},
        "modalities": {
            "brain_mri": {
                "reader": "image_files",
                "phases": ["lesions/{patient}/{instance}.nii.gz"],
                "mask": "lesions/{patient}/{instance}_mask.nii.gz",
            },
            "radiomics": {"reader": "table", "table": "lesions", "features": {name: name for name in _FEATURES}},
            "anatomical_position": {"reader": "table", "table": "lesions", "features": words.position()},
        },
        "targets": {name: {"label": one.entry()} for name, one in of_patients.items()},
    }
