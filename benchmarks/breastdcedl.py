"""BreastDCEDL's slices written as the files of three hospitals: a NIfTI a phase, a table, a YAML.

The set has the three middle slices of each tumour, 96 x 96 pixels over 80 mm, with pre-contrast, early and late phase
as colours. Every hospital is a cohort: Duke, I-SPY1, I-SPY2.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Rows = list[tuple[int, dict[str, str]]]

PHASES = ("pre", "early", "late")
TABLE = "patients.csv"
# "HR positive" is ER or PR positive, and HER2-positive tumours come without a word on hormone receptors.
RECEPTORS = {
    "er": {"column": "label_name", "codes": {"HRposHER2neg": 1, "TripleNeg": 0}, "missing": ["HER2pos"]},
    "her2": {"column": "label_name", "codes": {"HRposHER2neg": 0, "TripleNeg": 0, "HER2pos": 1}},
}


def write_sites(data: Path, folder: Path) -> dict[str, Path]:
    """Writes a folder a cohort, and returns each one's settings file.

    Args:
        data: Holds `index.csv`, a row a slice, and the slices in its order.
        folder: Where to.
    """
    with np.load(data / "dce_3mid_96.npz") as arrays:
        slices = arrays["x"]  # (804, 96, 96, 3)
    cohorts: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
    with (data / "index.csv").open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file)):
            cohorts[row["cohort"]][row["pid"]].append((number, row))
    return {f"breastdcedl-{name}": _write_site(folder / name, name, cohorts[name], slices) for name in sorted(cohorts)}


def _write_site(folder: Path, name: str, patients: dict[str, Rows], slices: np.ndarray[Any, Any]) -> Path:
    folder.mkdir(parents=True)
    for patient, rows in patients.items():
        _write_phases(folder / "mri" / patient, rows, slices)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        labels = [(patient, rows[0][1]["label_name"]) for patient, rows in patients.items()]
        csv.writer(file).writerows([("pid", "label_name"), *labels])
    settings = {
        "site": f"breastdcedl-{name}",
        "data_root": ".",
        "tables": {"patients": {"file": TABLE, "patient_id": "pid"}},
        "modalities": {
            "dce_mri": {"reader": "image_files", "phases": [f"mri/{{patient}}/{phase}.nii.gz" for phase in PHASES]}
        },
        "targets": {receptor: {"label": label} for receptor, label in RECEPTORS.items()},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def _write_phases(folder: Path, rows: Rows, slices: np.ndarray[Any, Any]) -> None:
    """A thin volume a phase. Its slices are as far from each other as they were in the whole image."""
    import SimpleITK as sitk

    folder.mkdir(parents=True)
    rows = sorted(rows, key=lambda row: int(row[1]["slice_index"]))
    first, last = rows[0][1], rows[-1][1]
    gap = (int(last["slice_index"]) - int(first["slice_index"])) / (len(rows) - 1) * float(first["slice_thick"])
    # not `mm_per_px`, which is of the 224-pixel pictures these were made from
    pixel = float(first["crop_mm"]) / slices.shape[1]
    for channel, phase in enumerate(PHASES):
        image = sitk.GetImageFromArray(slices[[number for number, _ in rows], :, :, channel])
        image.SetSpacing((pixel, pixel, gap))
        sitk.WriteImage(image, str(folder / f"{phase}.nii.gz"))
