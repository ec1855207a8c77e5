"""Hospitals of a phantom's cohort: what each does to images, and how it writes its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulation.cohorts.tables import Code, Style

_SIGNS = (("neg", "pos"), (0, 1), ("-", "+"), ("no", "yes"))
_STYLES = (
    Style("patient", "NA"),
    Style("ID", "k.A.", separator=";", decimal=","),
    Style("subject", "unknown", suffix="xlsx"),
)


@dataclass(frozen=True)
class PhantomSite:
    """A hospital.

    Attributes:
        name: Its name, folder and YAML.
        patients: How many it has.
        identifier: A format for a patient's identifier.
        role: `evaluate` for one that never trains.
        style: How it writes its tables.
        signs: Its codes for no and yes.
        level: What its scanner makes of brightness 1.
        noise: Standard deviation of a voxel's noise, beside the patient's own.
        stain: What its slides' red, green and blue are off, in shares.
    """

    name: str
    patients: int
    identifier: str
    role: Literal["train", "evaluate"]
    style: Style
    signs: tuple[Code, Code]
    level: float
    noise: float
    stain: tuple[float, float, float]


def phantom_sites(training: int = 4, patients: int = 80) -> tuple[PhantomSite, ...]:
    """As many hospitals that train, and `external`, which only evaluates; all have equally many patients."""
    return tuple(
        _site(number, f"site_{number + 1}" if number < training else "external", patients, number < training)
        for number in range(training + 1)
    )


def _site(number: int, name: str, patients: int, trains: bool) -> PhantomSite:
    rng = np.random.default_rng(number)  # a hospital is the same in every cohort
    red, green, blue = (float(shift) for shift in rng.normal(0, 0.03, 3))
    return PhantomSite(
        name,
        patients,
        f"P{number + 1}" + "{:06d}",
        "train" if trains else "evaluate",
        _STYLES[number % len(_STYLES)],
        _SIGNS[number % len(_SIGNS)],
        level=float(400 * np.exp(rng.normal(0, 0.6))),
        noise=float(rng.uniform(0.0, 0.03)),
        stain=(red, green, blue),
    )
