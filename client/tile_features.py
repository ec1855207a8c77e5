"""Features of histology tiles: the global average of ResNet-50's last maps (He 2016, arXiv:1512.03385).

The network's weights come from a file that the site names; nothing is downloaded. Features are kept on disk by the
content of the tiles and the weights, so that a change elsewhere computes none of them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError  # raised by what refuses to unpickle
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.errors import ExitCode, SiteError
from client.paths import inside_data_root

if TYPE_CHECKING:
    from torch import nn

    from client.site import SiteConfig

# What ImageNet's networks were trained with, by colour.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TileFeatures:
    """ResNet-50 with the site's weights, and the features it made before.

    Args:
        network: Maps `(T, 3, H, W)` to `(T, 2048)`.
        folder: Where features are kept; its name holds the weights' digest.
    """

    def __init__(self, network: nn.Module, folder: Path) -> None:
        self._network, self._folder = network, folder
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, site: SiteConfig, weights: Path | None, name: str) -> TileFeatures:
        """The network with a site's weights.

        Raises:
            SiteError: If the site names none, or they are not ResNet-50's.
        """
        if weights is None:
            raise SiteError(
                what="the study needs features of tiles, and the site has no network for them",
                where=f"modalities.{name}.weights",
                found="nothing",
                expected="a file with ResNet-50's weights",
                fix="ask the center which weights the study uses, and put the file under data_root",
                public="the site's settings do not fit the study",
                exit_code=ExitCode.STUDY,
            )
        path = inside_data_root(site, weights, f"modalities.{name}.weights")
        network = load_resnet50(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return cls(network, site.state_dir / "tile_features" / digest)

    def bag(self, tiles: Sequence[Path]) -> NDArray[np.float16]:
        """Features `(T, 2048)`; the same tile is computed once."""
        distinct = list(dict.fromkeys(tiles))
        stamp = "\n".join(hashlib.sha256(tile.read_bytes()).hexdigest() for tile in distinct)
        kept = self._folder / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.npy"
        if kept.exists():
            features = np.load(kept, allow_pickle=False)
        else:
            features = self._compute([read_tile(tile) for tile in distinct])
            draft = kept.with_suffix(".draft.npy")
            np.save(draft, features, allow_pickle=False)
            draft.rename(kept)
        order = {tile: index for index, tile in enumerate(distinct)}
        return np.asarray(features[[order[tile] for tile in tiles]])

    def _compute(self, tiles: Sequence[NDArray[np.float32]]) -> NDArray[np.float16]:
        import torch

        mean, deviation = (np.asarray(by_colour, np.float32)[:, None, None] for by_colour in (_MEAN, _DEVIATION))
        with torch.inference_mode():  # tiles of one patient may differ in size
            found = [self._network(torch.from_numpy((tile - mean) / deviation)[None])[0].numpy() for tile in tiles]
        return np.stack(found).astype(np.float16)


def load_resnet50(path: Path) -> nn.Module:
    """MONAI's ResNet-50 without its classifier, with weights as torchvision and timm name them.

    Raises:
        SiteError: If the file is missing, no file of weights, or of another network.
    """
    import torch
    from monai.networks.nets import resnet50
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network: nn.Module = resnet50(
        spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False, feed_forward=False
    )
    try:
        # weights_only: a pickle may run code, and this one came from somewhere
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        weights = {name.removeprefix("module."): value for name, value in state.items()}
        weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        network.load_state_dict(weights)
    except FileNotFoundError:
        raise _bad_weights(path, "no such file") from None
    except (SafetensorError, OSError, EOFError, ValueError, AttributeError, TypeError) as error:
        raise _bad_weights(path, f"no weights: {type(error).__name__}") from None
    except UnpicklingError:
        raise _bad_weights(path, "a pickle with more in it than weights") from None
    except RuntimeError as error:
        raise _bad_weights(path, str(error).splitlines()[-1].strip()[:200]) from None
    return network.eval()


def _bad_weights(path: Path, found: str) -> SiteError:
    return SiteError(
        what="the weights of the tiles' network cannot be used",
        where=f"weights: {path.name}",
        found=found,
        expected="ResNet-50's, a state_dict of torchvision or timm, as .safetensors or .pth",
        fix="put the right file there",
        public="the weights of the site's tile network cannot be used",
    )


def read_tile(path: Path, size: Sequence[int] | None = None) -> NDArray[np.float32]:
    """A tile `(3, H, W)` in 0 to 1, brought to `size` `(H, W)` if given."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in {"RGB", "RGBA"}:
                raise _bad_tile(path, f"pixels of mode {image.mode}")
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _bad_tile(path, f"{type(error).__name__}: {error}") from None
    tile: NDArray[np.float32] = np.moveaxis(pixels, 2, 0).astype(np.float32) / np.float32(255)
    if size is not None and tile.shape[1:] != tuple(size):
        import torch

        resized = torch.nn.functional.interpolate(
            torch.from_numpy(tile)[None], size=tuple(size), mode="bilinear", antialias=True
        )
        tile = resized[0].numpy()
    return tile


def _bad_tile(path: Path, found: str) -> SiteError:
    return SiteError(
        what="a tile cannot be read",
        where=f"tiles: {path}",
        found=found,
        expected="a colour image with 8 bits a colour",
        fix="write the tile anew, or move it out of data_root",
        public="an image of the site cannot be used",
    )
