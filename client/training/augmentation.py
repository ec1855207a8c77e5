"""Augmentation of images in training: mirroring, small rotations and zooms, brightness; of tiles, their colours.

MONAI's transforms, with numbers that each patient draws by herself: in private training nothing about one patient may
depend on who else is in the batch. An image is turned within its slices alone, where voxels are square, and mirrored
from left to right alone, which makes of a patient another one that could be; the other way round, a breast would hang
from the skin. Tiles have no up or left, and the colours of their stain are those of a day in the laboratory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shared_models.task import Task, Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEGREES, MAX_ZOOM = 10.0, 0.1
MAX_GAIN, MAX_SHIFT = 0.1, 0.05  # of an image that was divided by its own 95th percentile
MAX_COLOUR = 0.2  # brightness, contrast and saturation of a tile, up and down (ColorJitter's usual numbers)
NUMBERS = 10  # uniform numbers in [0, 1) that an image of a patient takes


def images_of(task: Task) -> dict[str, Volume]:
    """The modalities that are augmented."""
    return {name: kind for name, kind in task.modalities.items() if isinstance(kind, Volume)}


def augment(inputs: Mapping[str, Tensor], present: Tensor, task: Task, draws: Tensor) -> dict[str, Tensor]:
    """The inputs of N patients with their images changed; tables and features of tiles stay.

    Args:
        inputs: `{modality: (N, ...)}`.
        present: `(N, M)`; what a patient lacks stays zero.
        task: Which modalities are images.
        draws: `(N, I, NUMBERS)` uniform numbers in [0, 1) for the task's I images.
    """
    changed = dict(inputs)
    names = list(task.modalities)
    for index, (name, kind) in enumerate(images_of(task).items()):
        here = present[:, names.index(name)] > 0
        rows = zip(inputs[name], here.tolist(), draws[:, index].tolist(), strict=True)
        images = [_changed(image, kind, numbers) if there else image for image, there, numbers in rows]
        changed[name] = torch.stack(images) if images else inputs[name]
    return changed


def _changed(image: Tensor, kind: Volume, numbers: list[float]) -> Tensor:
    """One patient's image `(C, D, H, W)`."""
    draws = iter(numbers)
    if kind.tiles:
        return _colours(_turned(image, draws), draws)
    if next(draws) < 1 / 2:
        image = _flip(-1)(image)
    degrees, zoom = _between(draws, MAX_DEGREES), 1 + _between(draws, MAX_ZOOM)
    image = _plain(_resampler(degrees, zoom, tuple(kind.spacing_mm[1:]))(image))
    gain, shift = 1 + _between(draws, MAX_GAIN), _between(draws, MAX_SHIFT)
    if not kind.tumour:
        return image * gain + shift
    # a lesion that is drawn larger is thicker by as much: its distances are in mm
    return torch.cat([image[:-1] * gain + shift, image[-1:] * zoom])


def _turned(tiles: Tensor, draws: Iterator[float]) -> Tensor:
    """All of a patient's tiles `(3, T, H, W)` in one of the square's eight positions, or four where they are none."""
    from monai.transforms import Rotate90

    for axis in (-1, -2):
        if next(draws) < 1 / 2:
            tiles = _flip(axis)(tiles)
    square = tiles.shape[-1] == tiles.shape[-2]
    return _plain(Rotate90(k=1, spatial_axes=(1, 2))(tiles)) if next(draws) < 1 / 2 and square else tiles


def _colours(tiles: Tensor, draws: Iterator[float]) -> Tensor:
    """Brightness, contrast and saturation of colours in 0 to 1, the same for all tiles of a patient."""
    brightness, contrast, saturation = (1 + _between(draws, MAX_COLOUR) for _ in range(3))
    tiles = tiles * brightness
    middle = tiles.mean()
    tiles = middle + contrast * (tiles - middle)
    grey = tiles.mean(dim=0, keepdim=True)
    return (grey + saturation * (tiles - grey)).clamp(0.0, 1.0)


def _flip(axis: int) -> Any:
    from monai.transforms import Flip

    return lambda image: _plain(Flip(spatial_axis=axis)(image))


def _resampler(degrees: float, zoom: float, spacing_mm: tuple[float, ...]) -> Any:
    """Turns and zooms within slices of voxels `(H, W)`; outside the image its border is continued.

    The matrix leads from the new image's voxels to the old one's, hence one over the zoom.
    """
    from monai.transforms import Affine

    height, width = spacing_mm
    cosine, sine = math.cos(math.radians(degrees)) / zoom, math.sin(math.radians(degrees)) / zoom
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[1:3, 1:3] = torch.tensor([[cosine, -sine * width / height], [sine * height / width, cosine]])
    return functools.partial(Affine(affine=matrix, padding_mode="border", image_only=True))


def _plain(image: Tensor) -> Tensor:
    """Without what MONAI's tensors carry beside their numbers."""
    return image.as_tensor() if hasattr(image, "as_tensor") else image


def _between(draws: Iterator[float], most: float) -> float:
    """A number from `-most` to `most`."""
    return (2 * next(draws) - 1) * most
