"""Tumours' boxes in a table for `init`: rows, columns and slices from one to another, as the mask of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from client.onboarding.image_discovery import Guesses
from client.onboarding.table_discovery import DiscoveredTable
from client.onboarding.vocabulary import words

_FIRST = frozenset(("start", "first", "min", "from", "begin"))
_LAST = frozenset(("end", "last", "max", "to", "stop"))
_AXES = {"rows": frozenset(("row", "rows", "y")), "columns": frozenset(("column", "columns", "col", "x")),
         "slices": frozenset(("slice", "slices", "z"))}  # fmt: skip


def box_columns(table: DiscoveredTable) -> dict[str, list[str]]:
    """The first and the last column of each axis of a box, where the table has all six; else nothing."""
    ends_by_axis = {}
    for axis, names in _AXES.items():
        ends = [
            next((name for name in table.columns if set(words(name)) & side and set(words(name)) & names), "")
            for side in (_FIRST, _LAST)
        ]
        if not all(ends):
            return {}
        ends_by_axis[axis] = ends
    return ends_by_axis


def with_boxes(images: Guesses, tables: Sequence[DiscoveredTable]) -> Guesses:
    """The image modalities, those without a mask with the boxes of a table where there are some."""
    boxed = [(table, box) for table in tables if (box := box_columns(table))]
    if not boxed:
        return images
    table, box = boxed[0]
    guesses: dict[str, tuple[dict[str, Any], str]] = {}
    for name, (entry, why) in images.items():
        takes = entry["reader"] in {"dicom", "image_files"} and "mask" not in entry
        mask = {"mask": {"box": {"table": table.name, **box}}}
        guesses[name] = ({**entry, **mask}, f"{why}; that the box is the tumour's") if takes else (entry, why)
    return guesses
