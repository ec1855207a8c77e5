"""Benchmark of the data path at a site: cached epochs, parallel radiomics, peak memory, warm-start imports.

    python benchmarks/data.py                         # all five; exits nonzero where one falls short
    python benchmarks/data.py --cache --patients 40   # one: --cache, --batches, --radiomics, --memory, --start

Cache: an epoch's batches from the warm cache against the same with every file decoded again, on synthetic DCE MRI as
NIfTI and as DICOM; target 20 times. Batches: volumes with one file per row against the same in one memory-mapped file,
in CPU time; target at most a quarter more. Radiomics: two processes against one, without their start; target 1.7 times,
on two idle cores: the load average is in the title, and CPU seconds show the cost of the second process. Memory: the
peak of preprocessing, with its processes, at N and at 4 N patients; target within a tenth. Start: the libraries for
files that a process with a warm cache imports; target none. All figures that are compared come from one run.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table as Grid

from client.cache.row_files import RowFiles
from client.cohort.load import Cohort, load_cohort
from client.config.site import SiteConfig, load_site
from client.training.dataset import feature_statistics, make_loader, select_patients
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import Modality, Table, Task, Volume

SHAPE, PHASES = (24, 96, 96), 3
MRI = Volume((PHASES, 16, 48, 48), (4.0, 2.0, 2.0))
RADIOMICS = Table((Feature("original_shape_VoxelVolume"), Feature("original_firstorder_Mean")))
CONFIG = StudySettings(study="data", validation_fraction=0.1, test_fraction=0.1)
READERS = {"SimpleITK", "pydicom", "highdicom", "PIL", "pandas", "pyarrow", "openpyxl", "radiomics"}
FASTER, SIDE_BY_SIDE, SAME, AS_FAST = 20.0, 1.7, 1.1, 1.25
BATCH, REPEATS = 16, 20


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    what: str
    figures: str
    measured: str
    aim: str
    reached: bool


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"cache": cache, "batches": batches, "radiomics": radiomics, "memory": memory, "start": start}
    for name in parts:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--patients", type=int, default=24, help="N")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    chosen = [part for name, part in parts.items() if getattr(options, name)] or list(parts.values())
    with tempfile.TemporaryDirectory() as folder:
        results = [result for part in chosen for result in part(Path(folder), options.patients)]
    grid = Grid(title=f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", title_justify="left")
    for head in ("", "measured", "", "target"):
        grid.add_column(head)
    for one in results:
        grid.add_row(one.what, one.figures, one.measured, one.aim, style="" if one.reached else "red")
    Console().print(grid)
    return int(not all(one.reached for one in results))


def write_site(folder: Path, patients: int, form: str, workers: int = 1) -> Path:
    """A hospital of synthetic DCE MRI with a tumour, as `nifti` or `dicom`, and returns its YAML."""
    folder.mkdir(parents=True)
    lines = ["id,event,days", *(f"p{index:03d},{index % 2},{400 + 30 * index}" for index in range(patients))]
    (folder / "clinical.csv").write_text("\n".join(lines), encoding="utf-8")
    mri: dict[str, Any] = {"reader": "dicom", "folder": "mri/{patient}"}
    if form == "nifti":
        phases = [f"mri/{{patient}}/{phase}.nii.gz" for phase in range(PHASES)]
        mri = {"reader": "image_files", "phases": phases, "mask": "mri/{patient}/mask.nii.gz"}
    for index in range(patients):
        write_exam(folder / f"mri/p{index:03d}", index, form)
    settings = {
        "site": "oak",
        "data_root": ".",
        "workers": workers,
        "tables": {"clinical": {"file": "clinical.csv", "patient_id": "id"}},
        "modalities": {"mri": mri, "radiomics": {"reader": "extracted", "images": "mri"}},
        "targets": {"recurrence": {"event": "event", "event_days": ["days"], "followup_days": ["days"]}},
    }
    path = folder / "oak.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def write_exam(folder: Path, seed: int, form: str) -> None:
    """Phases of noise with a ball of 10 mm that takes up contrast."""
    import SimpleITK as sitk

    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).normal(100, 15, SHAPE)
    ball = sum(
        (at - size / 2) ** 2 for at, size in zip(np.indices(SHAPE) * [[[[2]]]], np.multiply(SHAPE, 2), strict=True)
    )
    mask = ball < 20.0**2
    for phase in range(PHASES):
        values = (noise + 80 * phase * mask).astype(np.int16)
        if form == "dicom":
            write_slices(folder, values, phase)
            continue
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((1.0, 1.0, 2.0))
        sitk.WriteImage(image, str(folder / f"{phase}.nii.gz"))
    if form == "nifti":
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing((1.0, 1.0, 2.0))
        sitk.WriteImage(image, str(folder / "mask.nii.gz"))


def write_slices(folder: Path, values: np.ndarray, phase: int) -> None:
    """One phase `(D, H, W)` as DICOM files, a slice each."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    for place, pixels in enumerate(values):
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.SOPClassUID, file.SOPInstanceUID = MRImageStorage, generate_uid()
        file.StudyInstanceUID, file.SeriesInstanceUID, file.SeriesNumber = "1.2.3", "1.2.5", 5
        file.Modality, file.ImageType, file.SeriesDescription = "MR", ["ORIGINAL", "PRIMARY"], "dyn"
        file.TemporalPositionIdentifier, file.InstanceNumber = phase + 1, phase * len(values) + place + 1
        file.Rows, file.Columns, file.SamplesPerPixel = *pixels.shape, 1
        file.PhotometricInterpretation, file.PixelRepresentation = "MONOCHROME2", 1
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
        file.ImagePositionPatient, file.ImageOrientationPatient = [0.0, 0.0, 2.0 * place], [1, 0, 0, 0, 1, 0]
        file.PixelSpacing, file.SliceThickness = [1.0, 1.0], 2.0
        file.PixelData = pixels.tobytes()
        file.save_as(folder / f"{phase}-{place:02d}.dcm", enforce_file_format=True)


def cohort_of(site: SiteConfig, **modalities: Modality) -> tuple[Cohort, Task]:
    """The site's cohort with some modalities."""
    task = Task(modalities, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)  # type: ignore[arg-type, return-value]
    return load_cohort(site, task, CONFIG, store_split=False), task


def epoch_s(site: SiteConfig) -> float:
    """Seconds of an epoch's batches, from the files or the cache."""
    began = time.perf_counter()
    cohort, task = cohort_of(site, mri=MRI)
    patients = select_patients(cohort, "train", task, feature_statistics(cohort, task))
    for batch in make_loader(patients, CONFIG, 0):
        del batch
    return time.perf_counter() - began


def cache(folder: Path, patients: int) -> list[Result]:
    """An epoch, cold and warm; the cold one does not write the first time that libraries are imported."""
    results = []
    for form in ("nifti", "dicom"):
        site = load_site(write_site(folder / f"cache-{form}", patients, form))
        epoch_s(site)
        shutil.rmtree(site.state_dir)
        cold = epoch_s(site)
        warm = float(np.median([epoch_s(site) for _ in range(5)]))
        figures = f"{patients} patients: {cold:.2f} s uncached, {1000 * warm:.0f} ms cached"
        results.append(Result(f"epoch, {form}", figures, f"{cold / warm:.0f}x", f"{FASTER:g}x", cold / warm >= FASTER))
    return results


def batches(folder: Path, patients: int) -> list[Result]:
    """An epoch of volumes of 96 KiB to 2 MiB, each from a file of its own and all from one file; in turns."""
    results = []
    for shape in ((3, 16, 32, 32), (3, 32, 64, 64), (4, 32, 96, 96)):
        place = folder / "x".join(map(str, shape))
        place.mkdir()
        rng = np.random.default_rng(0)
        volumes = rng.random((8 * patients, *shape), dtype=np.float32).astype(np.float16)
        np.save(place / "all.npy", volumes)
        paths = [place / f"{number}.npy" for number in range(len(volumes))]
        for path, volume in zip(paths, volumes, strict=True):
            np.save(path, volume)
        spans: dict[str, list[float]] = {"one": [], "each": []}
        for _ in range(REPEATS):
            order = rng.permutation(len(volumes)).reshape(-1, BATCH)
            for name, span in spans.items():  # as a message does: it opens the cohort, and reads it
                began = time.process_time()
                array = RowFiles(paths, shape) if name == "each" else np.load(place / "all.npy", mmap_mode="r")
                for rows in order:
                    np.asarray(array[rows], dtype=np.float32)
                span.append((time.process_time() - began) / len(order))
        one, each = (1000 * float(np.median(spans[name])) for name in ("one", "each"))
        figures = f"{BATCH} of {volumes[0].nbytes // 1024} KiB: {each:.2f} ms, {one:.2f} ms from one file"
        results.append(Result("batch", figures, f"{each / one:.2f}x", f"{AS_FAST}x", each / one <= AS_FAST))
    return results


def radiomics(folder: Path, patients: int) -> list[Result]:
    """Radiomics of 4 N patients with one process and with two."""
    path = write_site(folder / "radiomics", 4 * patients, "nifti")
    seconds, processor = {}, {}
    for workers in (1, 2):
        site = load_site(path).model_copy(update={"workers": workers, "state_dir": folder / f"workers-{workers}"})
        before = processor_s()
        cohort_of(site, radiomics=RADIOMICS)
        seconds[workers], processor[workers] = writing_s(site.state_dir), processor_s() - before
    ratio = seconds[1] / seconds[2]
    figures = f"{3 * patients} patients: {seconds[1]:.1f} s with one process, {seconds[2]:.1f} s with two"
    figures += f" (CPU time of all {4 * patients}: {processor[1]:.1f} and {processor[2]:.1f} s)"
    return [Result("radiomics", figures, f"{ratio:.2f}x", f"{SIDE_BY_SIDE}x", ratio >= SIDE_BY_SIDE)]


def writing_s(folder: Path) -> float:
    """Seconds in which a run wrote the last three quarters of its per-patient results, by the files' own times.

    The first quarter covers the start of the processes. Both ends are of one run, so that other work on the machine
    cannot make the difference negative.
    """
    times = sorted(path.stat().st_mtime_ns for path in folder.rglob("artefacts/*/*.npy"))
    return (times[-1] - times[len(times) // 4 - 1]) / 1e9


def processor_s() -> float:
    """Seconds that this process and those it has ended with have worked."""
    return sum(os.times()[:4])


def child(part: str, path: str, workers: str) -> int:
    """In a process of its own: the most memory that the cohort took, in MiB, or the libraries that it imported."""
    site = load_site(Path(path)).model_copy(update={"workers": int(workers)})
    cohort_of(site, mri=MRI)
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # of children, the largest
    most = [resource.getrusage(kind).ru_maxrss / 2**10 for kind in kinds]
    print(most[0] + int(workers) * most[1] if part == "memory" else " ".join(sorted(READERS & set(sys.modules))))
    return 0


def asked(part: str, path: Path, workers: int) -> str:
    """What a child says."""
    command = [sys.executable, __file__, "--child", part, str(path), str(workers)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def memory(folder: Path, patients: int) -> list[Result]:
    """The most that preprocessing takes at N and 4 N patients."""
    most = [
        float(asked("memory", write_site(folder / f"memory-{count}", count, "nifti"), 2))
        for count in (patients, 4 * patients)
    ]
    ratio = most[1] / most[0]
    figures = f"{most[0]:.0f} MiB for {patients} patients, {most[1]:.0f} for {4 * patients}, three processes"
    return [Result("memory", figures, f"{ratio:.2f}x", f"{SAME}x", ratio <= SAME)]


def start(folder: Path, patients: int) -> list[Result]:
    """What a cold and a warm start import."""
    path = write_site(folder / "start", 4, "nifti")
    cold, warm = (asked("start", path, 1) for _ in range(2))
    return [Result("imports of a start", f"cold: {cold}; warm: {warm or 'none'}", warm or "none", "none", not warm)]


if __name__ == "__main__":
    sys.exit(main())
