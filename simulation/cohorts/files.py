"""Files of a synthetic cohort: a folder a hospital, patients written in parallel, the YAML last.

A patient depends on the seed, the hospital and its number only: other hospitals, fewer patients or more processes
change nothing.
"""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar
from zlib import crc32

import numpy as np
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray

from simulation.cohorts.tables import Row, Value

MISSING = 0.03  # share of a hospital's cells that it does not know
Progress = Callable[[int, int], None]


class Hospital(Protocol):
    """What is written of a hospital whatever its patients have; a frozen dataclass."""

    @property
    def name(self) -> str:
        """Its name, folder and YAML."""

    @property
    def patients(self) -> int:
        """How many it has."""

    @property
    def identifier(self) -> str:
        """A format for a patient's identifier, of a number with up to six digits."""

    @property
    def role(self) -> Literal["train", "evaluate"]:
        """`evaluate` for one that never trains."""


S = TypeVar("S", bound=Hospital)


@dataclass(frozen=True)
class Patient(Generic[S]):
    """A patient yet to be drawn.

    Attributes:
        site: Its hospital.
        number: Which of the hospital's patients it is.
        seed: Of the cohort.
        folder: The hospital's.
    """

    site: S
    number: int
    seed: int
    folder: Path

    @property
    def identifier(self) -> str:
        """As its hospital writes it."""
        return self.site.identifier.format(10_007 + 61 * self.number)

    def generators(self, count: int) -> list[np.random.Generator]:
        """Its own independent streams of random numbers."""
        key = (crc32(self.site.name.encode()), self.number)
        streams = np.random.SeedSequence(self.seed, spawn_key=key).spawn(count)
        return [np.random.default_rng(stream) for stream in streams]


@dataclass(frozen=True)
class SyntheticPatient:
    """What was drawn of a patient.

    Attributes:
        rows: Its rows in each of the hospital's tables, none, one or several, in the study's names and units.
        truth: What no hospital knows.
    """

    rows: Mapping[str, Sequence[Row]]
    truth: Row


Tables = Mapping[str, Sequence[Row]]


def write_hospitals(
    folder: Path,
    sites: Sequence[S],
    draw: Callable[[Patient[S]], SyntheticPatient],
    write: Callable[[Path, S, Tables], Mapping[str, Any]],
    seed: int = 0,
    scale: float = 1.0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes the hospitals' files and returns their YAML files.

    Args:
        folder: Where to write. The YAML files come last, so what an interrupted run left is written again.
        sites: The hospitals.
        draw: Draws a patient and writes its images; it must be picklable where there are several workers.
        write: Writes a hospital's tables of all its patients and returns what its YAML says beyond its own name.
        seed: Equal seeds give equal bytes.
        scale: Multiplies the number of patients of each hospital.
        workers: Processes to draw patients in.
        progress: Called with the number of patients done and of all.
    """
    sites = [_scaled(site, scale) for site in sites]
    for site in sites:
        if _settings_path(folder, site).exists():
            message = f"{folder}: there is a cohort already; choose another folder"
            raise FileExistsError(message)
        (folder / site.name).mkdir(parents=True, exist_ok=True)
    patients = [Patient(site, number, seed, folder / site.name) for site in sites for number in range(site.patients)]
    synthetic: list[SyntheticPatient] = []
    for one in _draw_all(draw, patients, workers):
        synthetic.append(one)
        if progress:
            progress(len(synthetic), len(patients))
    settings = [
        write(
            folder / site.name, site, _tables([d for p, d in zip(patients, synthetic, strict=True) if p.site == site])
        )
        for site in sites
    ]
    _write_truth(folder / "truth.csv", patients, synthetic)
    return [_write_settings(folder, site, values) for site, values in zip(sites, settings, strict=True)]


def partly_known(values: Mapping[str, Value], rng: np.random.Generator) -> dict[str, Value]:
    """The values, each unknown with probability `MISSING`."""
    return {name: None if rng.random() < MISSING else value for name, value in values.items()}


def write_volume(path: Path, volume: NDArray[Any], spacing_mm: Sequence[float]) -> None:
    """Writes a volume `(D, H, W)` with voxels of `spacing_mm` along `(D, H, W)` as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(tuple(spacing_mm)[::-1])  # SimpleITK counts width, height, depth
    sitk.WriteImage(image, path, useCompression=True)


def _scaled(site: S, scale: float) -> S:
    scaled: S = replace(site, patients=max(round(site.patients * scale), 1))  # type: ignore[type-var]
    return scaled


def _draw_all(
    draw: Callable[[Patient[S]], SyntheticPatient], patients: Sequence[Patient[S]], workers: int
) -> Iterator[SyntheticPatient]:
    if workers <= 1:
        yield from map(draw, patients)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(draw, patients, chunksize=4)


def _tables(synthetic: Sequence[SyntheticPatient]) -> Tables:
    return {name: [row for one in synthetic for row in one.rows[name]] for name in synthetic[0].rows}


def _settings_path(folder: Path, site: Hospital) -> Path:
    return folder / site.name / f"{site.name}.yaml"


def _write_settings(folder: Path, site: Hospital, values: Mapping[str, Any]) -> Path:
    path = _settings_path(folder, site)
    whole = {"site": site.name, "role": site.role, "data_root": ".", "state_dir": "state", **values}
    path.write_text(yaml.safe_dump(whole, sort_keys=False, width=120), encoding="utf-8")
    return path


def _write_truth(path: Path, patients: Sequence[Patient[S]], synthetic: Sequence[SyntheticPatient]) -> None:
    rows = [
        {"site": patient.site.name, "patient_id": patient.identifier, **one.truth}
        for patient, one in zip(patients, synthetic, strict=True)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
