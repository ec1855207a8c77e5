"""Small sites of each kind of file, for `fuzzing.py` to spoil; each returns the file of patient `VICTIM`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import Hospital, cohort_rows, patient, write_slice, write_volume

VICTIM, PATIENTS = 1, (0, 1, 2)  # whose file is spoilt, of those with images
SHAPE = (4, 6, 6)


def volumes(suffix: str) -> Callable[[Hospital], Path]:
    def write(site: Hospital) -> Path:
        for index in PATIENTS:
            noise = np.random.default_rng(index).uniform(50, 150, size=SHAPE)
            for phase in range(2):
                write_volume(site.data / f"mri/{patient(index)}/{phase}{suffix}", noise * (1 + phase))
        site.settings["modalities"]["mri"] = {
            "reader": "image_files",
            "phases": [f"mri/{{patient}}/{phase}{suffix}" for phase in range(2)],
        }
        return site.data / f"mri/{patient(VICTIM)}/1{suffix}"

    return write


def dicom(compress: str = "") -> Callable[[Hospital], Path]:
    def write(site: Hospital) -> Path:
        for index in PATIENTS:
            noise = np.random.default_rng(index).integers(50, 150, size=SHAPE)
            for phase in range(2):
                for place in range(4):
                    path = site.data / f"dicom/{patient(index)}/{phase}{place}.dcm"
                    tags = {"TemporalPositionIdentifier": phase + 1, "InstanceNumber": 4 * phase + place + 1}
                    write_slice(path, noise[place] * (1 + phase), (0, 0, 3 * place), compress, **tags)
        site.settings["modalities"]["mri"] = {"reader": "dicom", "folder": "dicom/{patient}"}
        return site.data / f"dicom/{patient(VICTIM)}/12.dcm"

    return write


def segmentation(site: Hospital) -> Path:
    import highdicom as hd
    import pydicom
    from pydicom.sr.codedict import codes

    dicom()(site)
    for index in PATIENTS:
        images = [pydicom.dcmread(site.data / f"dicom/{patient(index)}/0{place}.dcm") for place in range(4)]
        voxels = np.zeros((4, 6, 6), dtype=np.uint8)
        voxels[1:3, 2:5, 1:4] = 1
        what = (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL")
        described = [hd.seg.SegmentDescription(1, "Tumor", *what)]
        uid = pydicom.uid.generate_uid
        seg = hd.seg.Segmentation(images, voxels, "BINARY", described, uid(), 9, uid(), 1, "ACME", "1", "1", "1")
        (site.data / "seg").mkdir(exist_ok=True)
        seg.save_as(site.data / f"seg/{patient(index)}.dcm")
    site.settings["modalities"]["mri"]["mask"] = "seg/{patient}.dcm"
    return site.data / f"seg/{patient(VICTIM)}.dcm"


def mammograms(suffix: str, compressor: str = "JPEG") -> Callable[[Hospital], Path]:
    def write(site: Hospital) -> Path:
        import SimpleITK as sitk

        (site.data / "mri").mkdir(parents=True, exist_ok=True)
        for index in PATIENTS:
            pixels = np.random.default_rng(index).integers(0, 3000, (1, 20, 16)).astype(np.uint16)
            image = sitk.GetImageFromArray(pixels if suffix == ".dcm" else pixels[0])
            image.SetSpacing((0.2, 0.1, 1.0)[: image.GetDimension()])
            image.SetMetaData("0008|0060", "MG")
            path = str(site.data / f"mri/{patient(index)}{suffix}")
            sitk.WriteImage(image, path, useCompression=bool(compressor), compressor=compressor)
        site.settings["modalities"]["mri"] = {
            "reader": "mammogram",
            "images": f"mri/{{patient}}{suffix}",
            "spacing_mm": [0.1, 0.2],
        }
        return site.data / f"mri/{patient(VICTIM)}{suffix}"

    return write


def table(name: str) -> Callable[[Hospital], Path]:
    def write(site: Hospital) -> Path:
        import sqlite3

        import pandas as pd

        rows = cohort_rows(12)
        frame, path = pd.DataFrame(rows[1:], columns=rows[0]), site.data / name
        source = site.settings["tables"]["clinical"]
        source["file"] = name
        if name.endswith(".xlsx"):
            frame.to_excel(path, index=False)
        elif name.endswith(".parquet"):
            frame.to_parquet(path)
        elif name.endswith(".db"):
            with sqlite3.connect(path) as database:
                frame.to_sql("t", database, index=False)
            database.close()
            del source["file"]
            source |= {"sql": "select * from t", "database": f"sqlite:///{name}"}
        else:
            frame.to_csv(path, index=False, encoding="utf-16" if "16" in name else "utf-8")
        return path

    return write


KINDS: dict[str, Callable[[Hospital], Path]] = {
    **{suffix[1:]: volumes(suffix) for suffix in (".nii", ".nii.gz", ".nrrd", ".mha")},
    **{"dicom": dicom(), "dicom jpeg-ls": dicom("1.2.840.10008.1.2.4.80"), "dicom seg": segmentation},
    **{
        "mg plain": mammograms(".dcm", ""),
        "mg jpeg": mammograms(".dcm"),
        "mg jpeg2000": mammograms(".dcm", "JPEG2000"),
    },
    **{"mg png": mammograms(".png", ""), "mg tiff": mammograms(".tif", "")},
    **{name: table(name) for name in ("a.csv", "utf16.csv", "a.xlsx", "a.parquet", "a.db")},
}
TABLES = ("a.csv", "utf16.csv", "a.xlsx", "a.parquet", "a.db")
