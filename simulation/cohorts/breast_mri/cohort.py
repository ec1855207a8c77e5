"""Synthetic breast MRI cohort of five hospitals, with clinical, genomic and radiomics tables.

    folder/A/A.yaml          what hospital A says of its data, and so on to E
    folder/A/                its clinical table, genomic.xlsx, radiomics.csv
    folder/A/mri/PATIENT/    phase0.nii.gz to phase3.nii.gz, mask.nii.gz
    folder/truth.csv         the true risk of each patient, which no hospital has

Tasks on recurrence and on the receptors learn from it. Time to recurrence is exponential with the patient's own
five-year risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simulation.cohorts import population as who
from simulation.cohorts.breast_mri.kinetics import measure
from simulation.cohorts.breast_mri.tables import settings, write_tables
from simulation.cohorts.files import (
    Patient,
    Progress,
    SyntheticPatient,
    Tables,
    partly_known,
    write_hospitals,
    write_volume,
)
from simulation.cohorts.phantom import BREAST, Exam, acquire
from simulation.cohorts.sites import SITES, SyntheticSite
from simulation.cohorts.tables import Row, Value

HORIZON_DAYS = 1826.25


def write_cohort(
    folder: Path,
    sites: Sequence[SyntheticSite] = SITES,
    seed: int = 0,
    prevalence: float = 0.25,
    images: bool = True,
    scale: float = 1.0,
    censored: float = 0.0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes the hospitals' files and returns their YAML files.

    Args:
        folder: Where to write. The YAML files come last, so what an interrupted run left is written again.
        sites: The hospitals.
        seed: Equal seeds give equal bytes.
        prevalence: Share of the reference population that recurs within five years.
        images: Whether to write the MRI; the radiomics table is measured on it all the same.
        scale: Multiplies the number of patients of each hospital.
        censored: Share of patients lost to follow-up between day 180 and five years, whatever their risk.
        workers: Processes to draw patients in.
        progress: Called with the number of patients done and of all.
    """
    draw = partial(_draw, prevalence=prevalence, censored=censored, images=images)
    return write_hospitals(folder, sites, draw, partial(_write, images=images), seed, scale, workers, progress)


def _write(folder: Path, site: SyntheticSite, tables: Tables, images: bool) -> Mapping[str, Any]:
    write_tables(folder, site.dialect, tables["clinical"], tables["genomic"], tables["radiomics"])
    return settings(site.dialect, images)


def _draw(patient: Patient[SyntheticSite], prevalence: float, censored: float, images: bool) -> SyntheticPatient:
    site, identifier = patient.site, patient.identifier
    person, image, record = patient.generators(3)
    population = who.draw(1, person, site.her2_factor)
    logit = who.intercept(prevalence) + float(population.risk[0])
    truth, outcome = _outcome(logit, censored, record)
    radiomics: list[Row] = []
    if not site.lacks_imaging(patient.number):
        exam = acquire(population.z[0], site.scanner, image)
        radiomics.append({"patient_id": identifier, **measure(exam)})
        if images:
            _write_exam(patient.folder / "mri" / identifier, exam)
    latents = dict(zip(who.LATENTS, map(float, population.z[0]), strict=True))
    return SyntheticPatient(
        {
            "clinical": [{"patient_id": identifier, **_clinical(population, record), **outcome}],
            "genomic": [{"patient_id": identifier, **_genomic(population)}],
            "radiomics": radiomics,
        },
        {"logit": logit, **truth, **latents, "genomic_score": float(population.genomic_score[0])},
    )


def _clinical(population: who.Population, rng: np.random.Generator) -> dict[str, Value]:
    diameter = who.DIAMETER_MM * np.exp(who.SIZE_ON_LOG_DIAMETER * population.measured_size[0])
    values: dict[str, Value] = {
        "age_years": round(float(np.clip(who.AGE_MEAN + who.AGE_SD * population.age[0], 20, 95)), 1),
        "size_mm": float(np.clip(diameter, 2, 150)),
        "nodes": int(population.node[0]),
        **dict(zip(who.RECEPTORS, map(int, population.receptors[0]), strict=True)),
        "ki67_percent": round(float(population.ki67_percent[0]), 1),
    }
    return partly_known(values, rng)


def _genomic(population: who.Population) -> dict[str, Value]:
    # As log2 expression: the four genes about 8 with deviation 1.2, proliferation about 0.
    genes = [*(8 + 1.2 * population.expression[0]), population.proliferation[0]]
    return dict(zip(who.GENES, map(float, genes), strict=True))


def _outcome(logit: float, censored: float, rng: np.random.Generator) -> tuple[dict[str, Value], dict[str, Value]]:
    """What happened, and what the hospital recorded of it."""
    hazard = np.logaddexp(0, logit) / HORIZON_DAYS  # -log(1 - risk) a horizon
    event_day = rng.exponential() / hazard
    last_day = int(rng.uniform(HORIZON_DAYS + 10, 2 * HORIZON_DAYS))
    lost_day, is_lost = int(rng.uniform(180, HORIZON_DAYS - 10)), rng.random() < censored
    recurs = event_day < HORIZON_DAYS
    day = int(np.clip(event_day, 31, HORIZON_DAYS - 1)) if recurs else None
    truth: dict[str, Value] = {"recurrence": int(recurs), "recurrence_days": day}
    end = lost_day if is_lost else last_day
    seen = day is not None and day < end
    return truth, {"recurrence": int(seen), "recurrence_days": day if seen else None, "followup_days": end}


def _write_exam(folder: Path, exam: Exam) -> None:
    for index, phase in enumerate(exam.phases):
        write_volume(folder / f"phase{index}.nii.gz", phase, BREAST.spacing_mm)
    write_volume(folder / "mask.nii.gz", exam.mask.astype(np.uint8), BREAST.spacing_mm)
