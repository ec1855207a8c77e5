"""Share of Duke's annotated tumours that the grid of `recurrence_mri` shows, by field of view, and the rule before it.

    python benchmarks/duke_boxes.py ../shared/data/duke                # 922 tumours, about three minutes
    python benchmarks/duke_boxes.py ../shared/data/duke --patients 100

The boxes are those of Duke-Breast-Cancer-MRI (Saha 2018, 10.7937/TCIA.e3sv-re93); the exams' geometry is what its sheet
says: rows, columns, field of view and slice thickness. The number of slices it does not say: an exam ends at the box's
last slice here, and the rule before, a cube about the middle of the exam, is only asked within the slices' plane.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

from client.config.site import SiteConfig, load_site
from client.contract.columns import TableSource
from client.contract.paths import Instance
from client.imaging.boxes import Box, MaskBox, boxes
from client.imaging.exams import Exam
from client.imaging.field_of_view import MAX_CUT_OFF, coverage, place
from client.imaging.masks import tumour_mask
from client.tables.read import Table, read_table
from shared_models.study_settings import StudySettings
from shared_models.task import Volume, load_task

CODED = ("Rows", "FOV Computed (Field of View) in cm", "Slice Thickness")
POSITION, SIDE = "Image Position of Patient", "Tumor Location"
BOX = Box(
    table="boxes",
    rows=("Start Row", "End Row"),
    columns=("Start Column", "End Column"),
    slices=("Start Slice", "End Slice"),
)


@dataclass(frozen=True)
class Shown:
    """What one volume shows: whether the tumour's centre, which share of it, and whether its side is the sheet's."""

    centre: bool
    share: float
    side_agrees: bool | None = None


def main() -> None:
    """Prints a line for each field of view."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of Duke's two workbooks")
    parser.add_argument("--patients", type=int, default=0, help="a seeded sample instead of all")
    options = parser.parse_args()
    kind = load_task(StudySettings(task="recurrence_mri")).modalities["mri"]
    assert isinstance(kind, Volume)
    by_view: dict[str, list[Shown]] = {}
    for exam in exams(options.data, options.patients):
        for name, shown in measured(exam, kind).items():
            by_view.setdefault(name, []).append(shown)
    grid = Grid(title=f"{len(by_view['before'])} tumours, grid of {kind.shape[1:]} voxels of {kind.spacing_mm} mm")
    for head in ("field of view", "centres", "mean share", "whole tumours", "refused", "side as in the sheet"):
        grid.add_column(head)
    for name, all_shown in by_view.items():
        grid.add_row(name, *summary(all_shown))
    Console().print(grid)


def summary(shown: list[Shown]) -> list[str]:
    """A row of the table; the earlier rule refused none and asked for no share."""
    share = np.asarray([one.share for one in shown])
    sides = [one.side_agrees for one in shown if one.side_agrees is not None]
    centres = f"{np.mean([one.centre for one in shown]):.1%}"
    if np.isnan(share).all():
        return [centres, "", "", "", ""]
    refused = int((share < 1 - MAX_CUT_OFF).sum())
    agree = f"{np.mean(sides):.1%} of {len(sides)}" if sides else ""
    return [centres, f"{share.mean():.1%}", f"{(share > 1 - 1e-9).mean():.1%}", str(refused), agree]


def measured(exam: Exam, kind: Volume) -> dict[str, Shown]:
    """By field of view, and of the rule before; the side that the mask gives is compared with the sheet's."""
    tumour, image = exam.tumour_mm.mean(axis=0), exam.phases[0]
    middle = np.asarray(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    half_mm = np.multiply(kind.shape[:0:-1], kind.spacing_mm[::-1]) / 2
    by_view = {"before": Shown(bool((np.abs(tumour - middle) <= half_mm)[:2].all()), np.nan)}
    for view in ("tumour", "breast", "whole"):
        volume = replace(kind, field_of_view=view)
        placed = place(exam, volume)
        shown = coverage(exam, volume, placed)
        inside = np.abs(tumour - placed.centre_mm) <= placed.spacing_mm * kind.shape[:0:-1] / 2
        agrees = not shown.other_side if view == "breast" and exam.side else None
        by_view[view] = Shown(bool(inside.all()), shown.tumour, agrees)
    return by_view


def exams(data: Path, sample: int = 0) -> Iterator[Exam]:
    """Images without voxels' values but with Duke's geometry, and the box as the mask, as a site reads it."""
    site = duke(data)
    table = read_table(site, "clinical", [*CODED, POSITION, SIDE])
    codes = {name: legend(data / str(site.tables["clinical"].file), name) for name in CODED}
    boxes_by_key = sorted(boxes(site, BOX).items())
    if sample:
        chosen = np.random.default_rng(0).permutation(len(boxes_by_key))[:sample]
        boxes_by_key = [boxes_by_key[index] for index in sorted(chosen)]
    positions = table.positions()
    for key, box in boxes_by_key:
        assert isinstance(box, MaskBox)
        yield exam_of(key, box, table, positions[key.patient], codes)


def exam_of(key: Instance, box: MaskBox, table: Table, row: int, codes: Mapping[str, Mapping[str, float]]) -> Exam:
    """One patient's exam."""
    import SimpleITK as sitk

    rows, field_mm, thickness_mm = (codes[name][table.cells[name][row]] for name in CODED)
    spacing = (field_mm / rows, field_mm / rows, thickness_mm)
    corner = [float(part) for part in re.findall(r"-?[\d.]+", table.cells[POSITION][row])]
    towards = [-np.sign(corner[0]), -np.sign(corner[1])]  # from its corner, an axial image goes to the other side
    image = sitk.Image([int(rows), int(rows), box.ends[2][1]], sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin([*corner[:2], 0.0])
    image.SetDirection(np.diag([*towards, np.prod(towards)]).ravel().tolist())
    mask, share = tumour_mask(box, image)
    side = {"L": "left", "R": "right"}.get(table.cells[SIDE][row], "")
    return Exam(Path(key.patient), (image,), mask=mask, mask_share=share, side=side)


def duke(data: Path) -> SiteConfig:
    """The project's own settings for Duke, and its table of boxes."""
    site = load_site(Path(__file__).parents[1] / "site_configs/duke.yaml", data)
    source = TableSource(file=Path("Annotation_Boxes.xlsx"), patient_id="Patient ID")
    return site.model_copy(update={"tables": {**site.tables, "boxes": source}})


def legend(workbook: Path, name: str) -> dict[str, float]:
    """What the codes of a column mean, from the header `320=0,448=1`."""
    import openpyxl

    sheet: Any = openpyxl.load_workbook(workbook, read_only=True)["Data"]
    heads = list(zip(*sheet.iter_rows(min_row=1, max_row=3, values_only=True), strict=True))
    (note,) = (str(notes) for _, title, notes in heads if str(title).strip() == name)
    return {code: float(value) for value, code in re.findall(r"([\d.]+)=(\d+)", note)}


if __name__ == "__main__":
    main()
