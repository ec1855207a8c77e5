"""Exams of a phantom as files: grids that differ from patient to patient, and brightness as a scanner counts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simulation.cohorts.files import write_volume
from simulation.phantoms.patients import Grid
from simulation.phantoms.sites import PhantomSite
from simulation.phantoms.waves import Array

_MOST = 32_000.0  # of 16 bits


def draw_exam_grid(rng: np.random.Generator, field_mm: float, through_mm: float, within_mm: float) -> Grid:
    """The grid of an exam about `field_mm` wide along all axes, whose voxels are about so large."""
    through, within = (round(float(size * rng.uniform(0.85, 1.15)), 3) for size in (through_mm, within_mm))
    wide = field_mm * float(rng.uniform(0.95, 1.1))
    deep, across = round(wide / through), round(wide / within)
    return Grid((deep, across, across), (through, within, within))


def write_exam(path: Path, image: Array, grid: Grid, site: PhantomSite, rng: np.random.Generator) -> None:
    """Writes an image `(D, H, W)`, where tissue is about 1, as this hospital's scanner would."""
    noisy = image + site.noise * rng.standard_normal(image.shape)
    write_volume(path, np.clip(site.level * noisy, 0, _MOST).astype(np.int16), grid.spacing_mm)
