"""Planes of a patient's image as PNGs, with the outline of the tumour's mask, and with a map over it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.task import Volume

MAX_TILES = 3
LONGER_SIDE_PX = 240
OUTLINE = (255, 72, 0)
HEAT, MAX_HEAT = (40, 130, 255), 0.75
_PLANES = ("axial", "coronal", "sagittal")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """One plane of one patient.

    Attributes:
        plane: Its name.
        source: The PNG as a data: URI.
        width: In pixels.
        height: In pixels.
        outlined: Whether a mask's outline is drawn.
    """

    plane: str
    source: str
    width: int
    height: int
    outlined: bool = False


def planes(array: Floats, kind: Volume, heat: Floats | None = None) -> Iterator[Picture]:
    """Three planes through the middle of the tumour, or of the volume, seen from the front or from the feet; or tiles.

    Args:
        array: `(C, D, H, W)`; of a tumour, the last channel is the distance to its surface in mm.
        kind: Its voxels, and whether it has that channel, or is of tiles.
        heat: `(D, H, W)` what is drawn over it in blue, from 0 on; its largest hundredth looks alike.
    """
    if kind.tiles:
        yield from _tiles(array, heat)
        return
    taken = _taken(array)
    array, heat = array[:, *taken], None if heat is None else heat[taken]
    strength = None if heat is None else _strength(heat)
    images = array[:-1] if kind.tumour else array
    image = images[min(1, len(images) - 1)]  # the first phase after contrast
    inside = array[-1] >= 0 if kind.tumour else np.zeros(image.shape, dtype=bool)
    outlined = bool(inside.any() and not inside.all())
    centre = np.argwhere(inside).mean(axis=0) if outlined else np.asarray(image.shape) / 2
    low, high = np.percentile(image, [1, 99])
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    for axis, plane in enumerate(_PLANES):
        spacing = [size for other, size in enumerate(kind.spacing_mm) if other != axis]
        over = np.zeros_like(grey) if strength is None else strength
        layers = [np.take(layer, int(centre[axis]), axis) for layer in (grey, array[-1], over)]
        if min(layers[0].shape) == 1:
            continue  # a mammogram has one plane
        if axis:
            layers = [layer[::-1] for layer in layers]  # the head is up
        name = plane if image.shape[0] > 1 else "image"  # a mammogram's
        yield _plane(name, layers[0], layers[1] if outlined else None, layers[2], spacing)


def _tiles(array: Floats, heat: Floats | None) -> Iterator[Picture]:
    """The first tiles of a slide in their colours, or those with most heat."""
    colours, order = np.moveaxis(array, 0, -1), np.arange(array.shape[1])
    weight = np.zeros((*colours.shape[:-1], 1))
    if heat is not None:
        order, weight = np.argsort(-heat.mean(axis=(1, 2)), kind="stable"), MAX_HEAT * _strength(heat)[..., None]
    for index in order[:MAX_TILES].tolist():
        shown = (1 - weight[index]) * colours[index] + weight[index] * np.asarray(HEAT) / 255
        yield _png(f"tile {index + 1}", shown)


def _strength(heat: Floats) -> Floats:
    return np.clip(heat / max(float(np.percentile(heat, 99)), 1e-12), 0, 1)


def _taken(array: Floats) -> tuple[slice, ...]:
    """Where the volume was taken: without the margins in which the first image is 0."""
    taken = np.argwhere(array[0])
    if not len(taken):
        return (slice(None),) * 3
    first, last = taken.min(axis=0), taken.max(axis=0) + 1
    return tuple(slice(int(start), int(end)) for start, end in zip(first, last, strict=True))


def _plane(name: str, grey: Floats, distance: Floats | None, heat: Floats, spacing_mm: list[float]) -> Picture:
    size_mm = np.asarray(grey.shape) * spacing_mm
    height, width = np.maximum(1, np.round(size_mm * LONGER_SIDE_PX / size_mm.max())).astype(int)
    weight = MAX_HEAT * np.clip(_resized(heat, height, width), 0, 1)[..., None]
    shown = (1 - weight) * _resized(grey, height, width)[..., None] + weight * np.asarray(HEAT) / 255
    if distance is not None:
        inside = _resized(distance, height, width) >= 0
        padded = np.pad(inside, 1)
        near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        deep = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        shown[(near | inside) & ~(inside & deep)] = np.asarray(OUTLINE) / 255
    return _png(name, shown, outlined=distance is not None)


def _resized(layer: Floats, height: int, width: int) -> Floats:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(layer, dtype=np.float32))
    return np.asarray(image.resize((int(width), int(height)), Image.Resampling.BILINEAR))


def _png(plane: str, shown: NDArray[Any], *, outlined: bool = False) -> Picture:
    """A picture of `(H, W, 3)` from 0 to 1."""
    from PIL import Image

    image = Image.fromarray(np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Picture(plane, source, image.width, image.height, outlined)
