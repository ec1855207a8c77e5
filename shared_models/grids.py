"""Image grids that a study chooses instead of the task's, `mri: 16x32x32 at 4x2x2 mm; ...`; other choices of images."""

from __future__ import annotations

import re
from typing import Literal

from shared_models.settings import SettingsError

TileNetwork = Literal["file", "resnet14-seeded"]
FieldOfView = Literal["tumour", "breast", "whole"]
Grid = tuple[tuple[int, int, int], tuple[float, float, float]]

_SIZE = r"(\d{1,5})x(\d{1,5})x(\d{1,5})"
_STEP = r"(\d{1,5}\.?\d{0,9})x(\d{1,5}\.?\d{0,9})x(\d{1,5}\.?\d{0,9})"
_GRID = re.compile(rf"\s*(?P<name>\w+)\s*:\s*{_SIZE}\s+at\s+{_STEP}\s+mm\s*")


def parse_grids(text: str) -> dict[str, Grid]:
    """Reads `modality: DxHxW at DxHxW mm` parts, separated by `;` or newlines.

    Returns:
        Voxels and voxel size in mm along (D, H, W), by modality.

    Raises:
        SettingsError: If a part cannot be read, or a size is 0.
    """
    grids: dict[str, Grid] = {}
    for part in filter(str.strip, re.split(r"[;\n]", text)):
        match = _GRID.fullmatch(part)
        sizes = [float(number) for number in match.groups()[1:]] if match else [0.0]
        if match is None or not all(sizes):
            msg = f"grids: cannot read {part.strip()!r}; expected `modality: 16x32x32 at 4x2x2 mm`"
            raise SettingsError(msg)
        depth, height, width = (int(size) for size in sizes[:3])
        grids[match["name"]] = ((depth, height, width), (sizes[3], sizes[4], sizes[5]))
    return grids
