"""Synthetic mammography of five hospitals: findings in two views, and relapse.

    folder/A/A.yaml        what hospital A says of its data, and so on to E
    folder/A/patients.csv  molecular subtype; relapse, its day and the last day of follow-up
    folder/A/views.csv     a row for each view: size, shape, margin, density
    folder/truth.csv       the true risk of each patient, which no hospital has

Size, shape, margin, density and subtype stand for the columns of 10.3389/fonc.2025.1593806. Shape and margin are cut
from two normals with correlation .5008; density, subtype and size are independent. Relapse in five years is Bernoulli
with

    logit = -3.966 + 1.109 z + 2.197 (0, .35, 1, 1)[subtype] + .5 [shape >= 1] + .4 [margin >= 2]

and the size is 13 e^{.5 z} mm. This gives that paper's Kendall taus, of shape with margin and of size and of subtype
with relapse, and its share of relapses. Time to relapse is exponential with the patient's own five-year risk. Patients
are followed for 2 to 10 years, whatever their risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from simulation.cohorts.files import Patient, Progress, SyntheticPatient, Tables, partly_known, write_hospitals
from simulation.cohorts.mammography.dialects import CATEGORIES, fields
from simulation.cohorts.sites import SITES, SyntheticSite
from simulation.cohorts.tables import Row, in_words, write_table

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

SHARES = {
    "shape": (0.20, 0.55, 0.05, 0.20),
    "margin": (0.08, 0.32, 0.30, 0.30),
    "density": (0.18, 0.58, 0.20, 0.04),
    "subtype": (0.42, 0.33, 0.12, 0.13),
}
HORIZON_DAYS = 1826.25
FOLLOW_UP_DAYS = (730, 3652)
CORRELATION = 0.5008  # of the normals behind shape and margin
SIZE_MM, SIZE_ON_LOG, SIZE_RANGE_MM = 13.0, 0.5, (3.0, 80.0)

INTERCEPT, SIZE_WEIGHT, SHAPE_WEIGHT, MARGIN_WEIGHT = -3.966, 1.109, 0.5, 0.4
SUBTYPE_WEIGHTS = 2.197 * np.array([0.0, 0.35, 1.0, 1.0])

VIEWS = ("CC", "MLO")
_DESCRIPTORS = ("shape", "margin", "density")
_SIZE_ERROR = 0.04  # of the logarithm of the second view's size
_DIFFERENT = 0.05  # how often a descriptor of the second view is a neighbouring category


@dataclass(frozen=True)
class Population:
    """N patients.

    Attributes:
        z: `(N,)` the size latent.
        shape: `(N,)` position in `CATEGORIES`, as are margin, density and subtype.
        margin: `(N,)`.
        density: `(N,)`.
        subtype: `(N,)`.
    """

    z: Array
    shape: Codes
    margin: Codes
    density: Codes
    subtype: Codes

    @property
    def size_mm(self) -> Array:
        """`(N,)` diameter of the finding."""
        return np.asarray(np.clip(SIZE_MM * np.exp(SIZE_ON_LOG * self.z), *SIZE_RANGE_MM))

    @property
    def risk(self) -> Array:
        """`(N,)` the probability of relapse within five years."""
        described = SHAPE_WEIGHT * (self.shape >= 1) + MARGIN_WEIGHT * (self.margin >= 2)
        return np.asarray(expit(INTERCEPT + SIZE_WEIGHT * self.z + SUBTYPE_WEIGHTS[self.subtype] + described))


def draw(patients: int, rng: np.random.Generator) -> Population:
    """Draws patients."""
    z, shape, other, density, subtype = rng.standard_normal((5, patients))
    margin = CORRELATION * shape + np.sqrt(1 - CORRELATION**2) * other
    latents = {"shape": shape, "margin": margin, "density": density, "subtype": subtype}
    return Population(z, **{name: np.digitize(value, cut_points(name)) for name, value in latents.items()})


def cut_points(name: str) -> Array:
    """The three values `(3,)` between which a standard normal falls into the categories of `name`."""
    return np.asarray(ndtri(np.cumsum(SHARES[name])[:-1]))


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
    person, record = patient.generators(2)
    population = draw(1, person)
    hazard = -np.log1p(-float(population.risk[0])) / HORIZON_DAYS
    day, end = int(np.ceil(record.exponential() / hazard)), int(record.integers(*FOLLOW_UP_DAYS, endpoint=True))
    subtype = CATEGORIES["subtype"][population.subtype[0]]
    row: Row = {
        "patient_id": patient.identifier,
        **partly_known({"subtype": subtype, "relapse": int(day <= end)}, record),
        "relapse_days": day if day <= end else None,
        "followup_days": end,
    }
    views = [{"patient_id": patient.identifier, "view": view, **_read(population, view, record)} for view in VIEWS]
    relapse = int(day <= HORIZON_DAYS)
    truth: Row = {
        "relapse": relapse,
        "relapse_days": day,
        "risk": float(population.risk[0]),
        "z": float(population.z[0]),
    }
    return SyntheticPatient({"patients": [row], "views": views}, truth)


def _read(population: Population, view: str, rng: np.random.Generator) -> Row:
    """What a radiologist reads in a view: the finding itself in the first, nearly the same in the second."""
    size, codes = float(population.size_mm[0]), {name: int(getattr(population, name)[0]) for name in _DESCRIPTORS}
    if view != VIEWS[0]:
        size = float(np.clip(size * np.exp(_SIZE_ERROR * rng.standard_normal()), *SIZE_RANGE_MM))
        for name, code in codes.items():
            step = int(rng.choice([-1, 1])) * int(rng.random() < _DIFFERENT)
            codes[name] = int(np.clip(code + step, 0, len(CATEGORIES[name]) - 1))
    return partly_known({"size_mm": size, **{name: CATEGORIES[name][code] for name, code in codes.items()}}, rng)


def _write(folder: Path, site: SyntheticSite, tables: Tables) -> Mapping[str, Any]:
    style = site.dialect.style
    of_patients, of_views = fields(site)
    patients = f"patients.{style.suffix}"
    write_table(folder / patients, in_words(of_patients, tables["patients"], style), style)
    write_table(folder / "views.csv", in_words(of_views, tables["views"], style), style)
    features = {name: of_views[name].entry() for name in ("size_mm", *_DESCRIPTORS)}
    features["subtype"] = of_patients["subtype"].entry("patients")
    return {
        "tables": {
            "patients": {**style.table(patients), "missing": [style.missing]},
            "views": {**style.table("views.csv"), "missing": [style.missing]},
        },
        "instances": {"table": "views", "column": of_views["view"].column},
        "modalities": {"mammography": {"reader": "table", "table": "views", "features": features}},
        "targets": {
            "relapse": {
                "event": of_patients["relapse"].entry("patients"),
                "event_days": [of_patients["relapse_days"].entry("patients")],
                "followup_days": [of_patients["followup_days"].entry("patients")],
            }
        },
    }
