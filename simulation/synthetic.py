"""A cohort of five synthetic hospitals with known ceilings, in the files that real ones have.

    folder/A/A.yaml          what hospital A says of its data, and so on to E
    folder/A/                its clinical table, genomic.xlsx, radiomics.csv
    folder/A/mri/PATIENT/    phase0.nii.gz to phase3.nii.gz, mask.nii.gz
    folder/truth.csv         the true risk of each patient, which no hospital has

A patient depends on the seed, the hospital and its number only: other hospitals, fewer patients or more processes
change nothing. Time to recurrence is exponential with the patient's own five-year risk.
"""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
import SimpleITK as sitk
import yaml

from simulation import population as who
from simulation.kinetics import measure
from simulation.phantom import SPACING_MM, Exam, acquire
from simulation.site_tables import Row, Value, settings, write_tables
from simulation.synthetic_sites import SITES, SyntheticSite

HORIZON_DAYS = 1826.25
MISSING = 0.03


@dataclass(frozen=True)
class _Recipe:
    site: SyntheticSite
    number: int
    seed: int
    prevalence: float
    censored: float
    mri: Path | None


@dataclass(frozen=True)
class _Patient:
    site: str
    clinical: Row
    genomic: Row
    radiomics: Row | None
    truth: Row


def write_cohort(
    folder: Path,
    sites: Sequence[SyntheticSite] = SITES,
    seed: int = 0,
    prevalence: float = 0.25,
    images: bool = True,
    scale: float = 1.0,
    censored: float = 0.0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
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
    sites = [replace(site, patients=max(round(site.patients * scale), 1)) for site in sites]
    for site in sites:
        if _settings_path(folder, site).exists():
            message = f"{folder}: there is a cohort already; choose another folder"
            raise FileExistsError(message)
        (folder / site.name).mkdir(parents=True, exist_ok=True)
    recipes = [
        _Recipe(site, number, seed, prevalence, censored, folder / site.name / "mri" if images else None)
        for site in sites
        for number in range(site.patients)
    ]
    patients = []
    for patient in _draw_all(recipes, workers):
        patients.append(patient)
        if progress:
            progress(len(patients), len(recipes))
    for site in sites:
        own = [patient for patient in patients if patient.site == site.name]
        radiomics = [patient.radiomics for patient in own if patient.radiomics]
        write_tables(folder / site.name, site.dialect, [p.clinical for p in own], [p.genomic for p in own], radiomics)
    _write_truth(folder / "truth.csv", patients)
    return [_write_settings(folder, site, images) for site in sites]


def _draw_all(recipes: Sequence[_Recipe], workers: int) -> Iterator[_Patient]:
    if workers <= 1:
        yield from map(_draw, recipes)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_draw, recipes, chunksize=4)


def _draw(recipe: _Recipe) -> _Patient:
    site, number = recipe.site, recipe.number
    streams = np.random.SeedSequence(recipe.seed, spawn_key=(crc32(site.name.encode()), number)).spawn(3)
    person, image, record = (np.random.default_rng(stream) for stream in streams)
    drawn = who.draw(1, person, site.her2_factor)
    identifier = site.identifier.format(10_007 + 61 * number)
    logit = who.intercept(recipe.prevalence) + float(drawn.risk[0])
    truth, outcome = _outcome(logit, recipe.censored, record)
    radiomics: Row | None = None
    if not (site.skips_mri and number % site.skips_mri == site.skips_mri // 4):
        exam = acquire(drawn.z[0], site.scanner, image)
        radiomics = {"patient_id": identifier, **measure(exam)}
        if recipe.mri:
            _write_exam(recipe.mri / identifier, exam)
    head: Row = {"site": site.name, "patient_id": identifier}
    latents = dict(zip(who.LATENTS, map(float, drawn.z[0]), strict=True))
    return _Patient(
        site.name,
        {"patient_id": identifier, **_clinical(drawn, record), **outcome},
        {"patient_id": identifier, **_genomic(drawn)},
        radiomics,
        {**head, "logit": logit, **truth, **latents, "genomic_score": float(drawn.genomic_score[0])},
    )


def _clinical(drawn: who.Population, rng: np.random.Generator) -> dict[str, Value]:
    diameter = who.DIAMETER_MM * np.exp(who.SIZE_ON_LOG_DIAMETER * drawn.measured_size[0])
    values: dict[str, Value] = {
        "age_years": round(float(np.clip(who.AGE_MEAN + who.AGE_SD * drawn.age[0], 20, 95)), 1),
        "size_mm": float(np.clip(diameter, 2, 150)),
        "nodes": int(drawn.node[0]),
        **dict(zip(who.RECEPTORS, map(int, drawn.receptors[0]), strict=True)),
        "ki67_percent": round(float(drawn.ki67_percent[0]), 1),
    }
    return {name: None if rng.random() < MISSING else value for name, value in values.items()}


def _genomic(drawn: who.Population) -> dict[str, Value]:
    # As log2 expression: the four genes about 8 with deviation 1.2, proliferation about 0.
    genes = [*(8 + 1.2 * drawn.expression[0]), drawn.proliferation[0]]
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
    folder.mkdir(parents=True, exist_ok=True)
    for name, volume in (*((f"phase{i}", phase) for i, phase in enumerate(exam.phases)), ("mask", exam.mask)):
        image = sitk.GetImageFromArray(volume.astype(np.int16 if name != "mask" else np.uint8))
        image.SetSpacing(SPACING_MM[::-1])  # SimpleITK counts width, height, depth
        sitk.WriteImage(image, folder / f"{name}.nii.gz", useCompression=True)


def _settings_path(folder: Path, site: SyntheticSite) -> Path:
    return folder / site.name / f"{site.name}.yaml"


def _write_settings(folder: Path, site: SyntheticSite, images: bool) -> Path:
    path = _settings_path(folder, site)
    values = settings(site.name, site.role, site.dialect, images)
    path.write_text(yaml.safe_dump(values, sort_keys=False, width=120), encoding="utf-8")
    return path


def _write_truth(path: Path, patients: Sequence[_Patient]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(patients[0].truth), lineterminator="\n")
        writer.writeheader()
        writer.writerows(patient.truth for patient in patients)
