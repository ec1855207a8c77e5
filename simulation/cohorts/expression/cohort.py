"""Synthetic gene expression and histology of five hospitals: PAM50 subtypes.

    folder/A/A.yaml                    what hospital A says of its data, and so on to E
    folder/A/patients.csv              the PAM50 subtype
    folder/A/expression.csv            a row for each patient: the 50 genes and 50 that say nothing
    folder/A/histology/PATIENT/        tile_00.png and so on, 6 to 12 of them
    folder/truth.csv                   every patient's subtype, factors and latents

Four factors, luminal, HER2 amplicon, proliferation and basal, are Gaussian about the subtype's mean with deviation 1;
each PAM50 gene (Parker 2009, 10.1200/JCO.2008.18.1370) is kappa times its factor plus N(0, 1). Two latents of the
tissue, the density and the size of nuclei, are Gaussian about the subtype's mean as well and independent of the genes
given the subtype; each tile has the patient's plus N(0, .5^2).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from simulation.cohorts.expression.dialects import FACTOR_GENES, GENES, NOISE_GENES, SUBTYPES, WORDS
from simulation.cohorts.expression.tiles import Stain, draw_tile
from simulation.cohorts.files import Patient, Progress, SyntheticPatient, Tables, partly_known, write_hospitals
from simulation.cohorts.sites import SITES, SyntheticSite
from simulation.cohorts.tables import Field, in_words, write_table

Array = NDArray[np.float64]

SUBTYPE_SHARES = np.array([0.52, 0.22, 0.09, 0.17])  # of SUBTYPES, about those of TCGA-BRCA
KAPPA = 0.7
# Mean factors by subtype: luminal, HER2 amplicon, proliferation, basal. At kappa .7 they give the ceiling .970.
FACTOR_MEANS = np.array(
    [[1.0, -0.3, -1.0, -0.5], [0.8, 0.0, 0.6, -0.6], [-0.6, 1.8, 0.6, -0.2], [-1.4, -0.4, 1.0, 1.7]]
)
# Mean density and size of nuclei by subtype; they give the ceiling .85.
TISSUE_MEANS = np.array([[-0.7, -0.5], [0.0, 0.2], [0.5, 0.7], [0.8, 0.7]])
TILE_SD = 0.5  # of a tile's latents about its patient's
TILES = (6, 12)
# Genes by factors `(50, 4)`: each gene has one.
LOADINGS: Array = np.repeat(np.eye(len(FACTOR_GENES)), [len(genes) for genes in FACTOR_GENES.values()], axis=0)

_LOG2_LEVEL, _LOG2_UNIT = 8.0, 1.2  # of a gene: its mean, and one standard deviation of its noise


@dataclass(frozen=True)
class Population:
    """N patients.

    Attributes:
        subtype: `(N,)` position in `SUBTYPES`.
        factors: `(N, 4)`.
        genes: `(N, 50)` PAM50 genes by factor, in standard deviations of their noise.
        tissue: `(N, 2)` density and size of nuclei.
    """

    subtype: NDArray[np.int64]
    factors: Array
    genes: Array
    tissue: Array


def subtype_shares(her2_factor: float = 1.0) -> Array:
    """The shares `(4,)` of the subtypes; `her2_factor` multiplies that of Her2."""
    shares, her2 = SUBTYPE_SHARES.copy(), SUBTYPES.index("Her2")
    shares *= (1 - her2_factor * shares[her2]) / (1 - shares[her2])
    shares[her2] = her2_factor * SUBTYPE_SHARES[her2]
    return shares


def draw(patients: int, rng: np.random.Generator, her2_factor: float = 1.0, kappa: float = KAPPA) -> Population:
    """Draws patients."""
    subtype = rng.choice(len(SUBTYPES), patients, p=subtype_shares(her2_factor))
    factors = FACTOR_MEANS[subtype] + rng.standard_normal((patients, 4))
    genes = kappa * factors @ LOADINGS.T + rng.standard_normal((patients, len(LOADINGS)))
    return Population(subtype, factors, genes, TISSUE_MEANS[subtype] + rng.standard_normal((patients, 2)))


def write_cohort(
    folder: Path,
    sites: Sequence[SyntheticSite] = SITES,
    seed: int = 0,
    images: bool = True,
    scale: float = 1.0,
    weights: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes the hospitals' files and returns their YAML files.

    Args:
        folder: As `write_hospitals`, and so are the arguments not named here.
        sites: The hospitals.
        seed: Equal seeds give equal bytes.
        images: Whether to write the tiles.
        scale: Multiplies the number of patients of each hospital.
        weights: A pretrained network's, for the features of tiles; every hospital with tiles gets a copy.
        workers: Processes to draw patients in.
        progress: Called with the number of patients done and of all.
    """
    write = partial(_write, images=images, weights=weights)
    return write_hospitals(folder, sites, partial(_draw, images=images), write, seed, scale, workers, progress)


def _draw(patient: Patient[SyntheticSite], images: bool) -> SyntheticPatient:
    site, identifier = patient.site, patient.identifier
    person, image, record = patient.generators(3)
    population = draw(1, person, site.her2_factor)
    stain = WORDS[site.name].stain
    if images and stain and not site.lacks_imaging(patient.number):
        _write_tiles(patient.folder / "histology" / identifier, population.tissue[0], stain, image)
    subtype = SUBTYPES[population.subtype[0]]
    genes = _LOG2_LEVEL + _LOG2_UNIT * np.concatenate([population.genes[0], person.standard_normal(len(NOISE_GENES))])
    return SyntheticPatient(
        {
            "patients": [{"patient_id": identifier, **partly_known({"pam50": subtype}, record)}],
            "expression": [{"patient_id": identifier, **dict(zip(GENES, map(float, genes), strict=True))}],
        },
        {
            "pam50": subtype,
            **dict(zip(FACTOR_GENES, map(float, population.factors[0]), strict=True)),
            **dict(zip(("nuclear_density", "nuclear_size"), map(float, population.tissue[0]), strict=True)),
        },
    )


def _write_tiles(folder: Path, tissue: Array, stain: Stain, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(int(rng.integers(TILES[0], TILES[1] + 1))):
        density, size = tissue + TILE_SD * rng.standard_normal(2)
        tile = sitk.GetImageFromArray(draw_tile(density, size, stain, rng), isVector=True)
        sitk.WriteImage(tile, folder / f"tile_{index:02d}.png")


def _write(folder: Path, site: SyntheticSite, tables: Tables, images: bool, weights: Path | None) -> Mapping[str, Any]:
    words, style = WORDS[site.name], site.dialect.style
    subtype = {"pam50": Field(words.subtype, dict(zip(SUBTYPES, words.codes, strict=True)))}
    patients = f"patients.{style.suffix}"
    write_table(folder / patients, in_words(subtype, tables["patients"], style), style)
    files = {"patients": {**style.table(patients), "missing": [style.missing]}}
    modalities: dict[str, Any] = {}
    if words.expression:
        genes = words.genes()
        write_table(folder / words.expression, in_words(genes, tables["expression"], style), style)
        files["expression"] = style.table(words.expression)
        entries = {name: gene.entry() for name, gene in genes.items()}
        modalities["expression"] = {"reader": "table", "table": "expression", "features": entries}
    if images and words.stain:
        tiles = {"reader": "tiles", "tiles": "histology/{patient}/*.png"}
        modalities["tiles"] = tiles
        if weights:
            shutil.copyfile(weights, folder / weights.name)
            modalities["tile_features"] = {**tiles, "weights": weights.name}
    basal_or_her2 = {name: int(name in ("Her2", "Basal")) for name in SUBTYPES}
    return {
        "tables": files,
        "modalities": modalities,
        "targets": {
            "basal_or_her2": {"label": subtype["pam50"].entry(read_as=basal_or_her2)},
            "pam50": {"label": subtype["pam50"].entry()},
        },
    }
