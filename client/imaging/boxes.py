"""Boxes about tumours: rows, columns and slices from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.contract.paths import Instance
from client.errors import SiteError
from shared_models.settings import Settings

if TYPE_CHECKING:
    from client.contract.protocols import Site
    from client.tables.read import Table

Ends = tuple[str, str]


class Box(Settings):
    """A box about the tumour, in a table with a row a patient; counted from 1, both ends within.

    Rows, columns and slices are those of the files: a slice's number is its place by InstanceNumber in the first phase
    of a DICOM exam, and along the third axis of any other file, whose rows run along the second axis and columns along
    the first.
    """

    table: str = Field("", description="a name under `tables`; empty takes the patients table")
    rows: Ends = Field(description="the columns that hold the first and the last row: [Start Row, End Row]")
    columns: Ends = Field(description="the same for columns")
    slices: Ends = Field(description="the same for slices")


@dataclass(frozen=True)
class MaskBox:
    """A box: first and last column, row and slice, from 1 and both within.

    Attributes:
        where: Its row, for messages.
        ends: `((column, column), (row, row), (slice, slice))`.
    """

    where: str
    ends: tuple[tuple[int, int], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """None: a table belongs to all patients."""
        return ()

    @property
    def cache_key_extra(self) -> str:
        """The box."""
        return str(self.ends)


def boxes(site: Site, box: Box) -> dict[Instance, MaskBox | SiteError]:
    """Each patient's box; a patient whose cells are empty has none."""
    from client.tables.read import read_table

    name = box.table or site.patients_table
    table = read_table(site, name, [*box.columns, *box.rows, *box.slices])
    sources: dict[Instance, MaskBox | SiteError] = {}
    for patient, row in table.positions().items():
        texts = [[table.cells[column][row] for column in ends] for ends in (box.columns, box.rows, box.slices)]
        if any(text for ends in texts for text in ends):
            sources[Instance(patient)] = _box(texts, table, row)
    return sources


def _box(texts: Sequence[Sequence[str]], table: Table, row: int) -> MaskBox | SiteError:
    where = f"{table.where}, row {table.rows[row]}"
    try:
        ends = tuple((int(first), int(last)) for first, last in texts)
    except ValueError:
        ends = ()
    if ends and all(1 <= first <= last for first, last in ends):
        return MaskBox(where, ends)
    found, expected = f"columns, rows and slices {texts}", "whole numbers from 1, the first not above the last"
    return _bad_box(where, "a tumour's box cannot be read", found, expected)


def _bad_box(where: str, what: str, found: str, expected: str) -> SiteError:
    fix = "correct the row, or empty its cells"
    return SiteError(what, where=where, found=found, expected=expected, fix=fix, public="a tumour's box cannot be used")


def filled(box: MaskBox, image: Any, instances: NDArray[np.int64] | None) -> Any:
    """The box as 1 on the grid of `image`, whose slices `instances` may bring into the box's order.

    Raises:
        SiteError: If it lies outside the image in part.
    """
    import SimpleITK as sitk

    size = image.GetSize()
    if any(last > length for (_, last), length in zip(box.ends, size, strict=True)):
        found = f"columns, rows and slices up to {tuple(last for _, last in box.ends)}"
        raise _bad_box(box.where, "a tumour's box lies outside its image", found, f"within {size}")
    order = np.arange(size[2]) if instances is None else instances
    (left, right), (top, bottom), (first, last) = box.ends
    voxels = np.zeros(size[::-1], dtype=np.uint8)
    voxels[order[first - 1 : last], top - 1 : bottom, left - 1 : right] = 1
    mask = sitk.GetImageFromArray(voxels)
    mask.CopyInformation(image)
    return mask
