"""ResNet-50 features of histology tiles: global average of the last maps (He 2016, arXiv:1512.03385).

The network's weights come from a file that the site names; nothing is downloaded.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # raised by what refuses to unpickle
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from client.imaging.histology.stain import macenko
from client.imaging.histology.tile_look import Pixels, tile_look

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

SEEDED = 1  # raise it when the same tiles give other features in `seeded_network`
Stain = Literal["none", "macenko"]

FORMATS = ("PNG", "JPEG", "TIFF")
MAX_PIXELS = 4096 * 4096  # of a tile, and not of a whole slide

# What ImageNet's networks were trained with, by colour.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tile_features(
    tiles: Sequence[Path], network: Callable[[], nn.Module], stain: Stain = "none"
) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Features `(T, 2048)` of tiles, and the look of each; one that appears twice is computed once.

    Args:
        tiles: T files, which may differ in size.
        network: Makes the network, once.
        stain: How the tiles' stains are normalised.

    Raises:
        SiteError: If a tile or the weights cannot be used.
    """
    import torch

    resnet = network()
    mean, deviation = (np.asarray(by_colour, np.float32)[:, None, None] for by_colour in (_MEAN, _DEVIATION))

    def features(pixels: Pixels) -> NDArray[np.float32]:
        tile = (_prepared(pixels, None, stain) - mean) / deviation
        with torch.inference_mode():
            return np.asarray(resnet(torch.from_numpy(tile)[None])[0].numpy())

    made, looks = _each(tiles, features)
    return np.stack(made).astype(np.float16), looks


def tile_volume(
    tiles: Sequence[Path], size: Sequence[int], stain: Stain = "none"
) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """The tiles themselves, `(3, T, H, W)`, each resized to `size` `(H, W)`, and the look of each.

    Raises:
        SiteError: If a tile cannot be used.
    """
    made, looks = _each(tiles, functools.partial(_prepared, size=size, stain=stain))
    return np.stack(made, axis=1).astype(np.float16), looks


def _each(
    tiles: Sequence[Path], make: Callable[[Pixels], NDArray[np.float32]]
) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
    """What is made of each tile, and the looks `(D, L)` of the D different ones; each is read once."""
    made, looks = {}, {}
    for tile in dict.fromkeys(tiles):
        pixels = tile_pixels(tile)
        made[tile], looks[tile] = make(pixels), tile_look(pixels)
    return [made[tile] for tile in tiles], np.array(list(looks.values()), dtype=np.float64)


@functools.cache
def load_resnet50(path: Path) -> nn.Module:
    """MONAI's ResNet-50 without its classifier, with weights as torchvision and timm name them.

    Raises:
        SiteError: If the file is missing, no file of weights, or of another network.
    """
    import torch
    from monai.networks.nets import resnet50
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():  # a pipe would never end
        raise _bad_weights(path, "no such file")
    network: nn.Module = resnet50(
        spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False, feed_forward=False
    )
    try:
        # weights_only: a pickle may run code, and this one came from somewhere
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        weights = {name.removeprefix("module."): value for name, value in state.items()}
        weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        network.load_state_dict(weights)
    except (SafetensorError, OSError, EOFError, ValueError, AttributeError, TypeError) as error:
        raise _bad_weights(path, f"no weights: {type(error).__name__}") from None
    except UnpicklingError:
        raise _bad_weights(path, "no weights, or a pickle with more in it than weights") from None
    except RuntimeError as error:
        raise _bad_weights(path, str(error).splitlines()[-1].strip()[:200]) from None
    return network.eval()


@functools.cache
def seeded_network() -> nn.Module:
    """A ResNet of one bottleneck a stage with random weights, the same at every site: for want of trained ones.

    Random convolutions tell textures apart (Saxe 2011, ICML), but know nothing of tissue.
    """
    import torch

    from shared_models.networks.pretrained import Backbone

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Backbone("resnet14", 2, 3)
    return torch.nn.Sequential(backbone, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()


def _bad_weights(path: Path, found: str) -> SiteError:
    return SiteError(
        what="the weights of the tiles' network cannot be used",
        where=f"weights: {path.name}",
        found=found,
        expected="ResNet-50's, a state_dict of torchvision or timm, as .safetensors or .pth",
        fix="put the right file there",
        public="the weights of the site's tile network cannot be used",
    )


def tile_pixels(path: Path) -> Pixels:
    """A tile `(H, W, 3)`: red, green, blue.

    Raises:
        SiteError: If it cannot be used.
    """
    with _opened(path) as image:
        return np.asarray(image.convert("RGB"))


def _prepared(pixels: Pixels, size: Sequence[int] | None, stain: Stain) -> NDArray[np.float32]:
    """A tile `(3, H, W)` in 0 to 1, normalised as a whole, then resized to `size` `(H, W)` if given."""
    tile: NDArray[np.float32] = np.moveaxis(pixels, 2, 0).astype(np.float32) / np.float32(255)
    if stain == "macenko":
        tile = macenko(tile)
    if size is not None and tile.shape[1:] != tuple(size):
        import torch

        resized = torch.nn.functional.interpolate(
            torch.from_numpy(tile)[None], size=tuple(size), mode="bilinear", antialias=True
        )
        tile = resized[0].numpy()
    return tile


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A tile whose header is sound; its pixels are not read yet."""
    from PIL import Image

    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path, formats=FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise _bad_tile(path, f"{image.height} rows of {image.width} pixels", f"at most {MAX_PIXELS:,} pixels")
            if image.mode not in {"RGB", "RGBA"}:
                raise _bad_tile(path, f"pixels of mode {image.mode}")
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _bad_tile(path, f"{type(error).__name__}: {error}") from None


def _bad_tile(path: Path, found: str, expected: str = "a colour image with 8 bits a colour") -> SiteError:
    return SiteError(
        what="a tile cannot be read",
        where=f"tiles: {path}",
        found=found,
        expected=expected,
        fix="write the tile again, or move it out of data_root",
        public="an image of the site cannot be used",
    )
