"""Files of network weights: reading them without unpickling, and adapters of the names that others give to arrays.

An adapter is one function from a file's arrays to arrays by the names of our network, or, of a published ResNet's
weights, of its backbone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # raised by what refuses to unpickle
from typing import TYPE_CHECKING, Any

from shared_models.settings import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

Weights = dict[str, "Tensor"]
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # under which programs save arrays beside other things


def read_weights(path: Path) -> Weights:
    """The arrays of a file of safetensors, or of one that torch saved; no code in it is run.

    Raises:
        SettingsError: If there is no such file, or it holds something else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():  # a pipe would never end
        raise _unusable(path, "no such file")
    try:
        safe = path.suffix == ".safetensors"
        content: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise _unusable(path, "no weights, or a pickle with more in it than weights, which is not opened") from None
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _unusable(path, f"no weights ({type(error).__name__})") from None
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    arrays = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)} if content else {}
    if not arrays:
        raise _unusable(path, "no arrays")
    return arrays


def from_study(arrays: Weights) -> Weights:
    """A checkpoint of a study of ours: what it holds besides the network is left out."""
    return {name.removeprefix("model:"): value for name, value in arrays.items() if name.startswith("model:")}


def from_medicalnet(arrays: Weights) -> Weights:
    """MedicalNet (Chen 2019, arXiv:1904.00625): saved from several GPUs, with a head of segmentation."""
    return _without(arrays, "module.", ("conv_seg.", "fc."))


def from_monai(arrays: Weights) -> Weights:
    """MONAI's ResNet, by itself or as the encoder of another network of MONAI's."""
    return _without(arrays, r"(module\.)?(model\.)?(encoder\.|backbone\.)?", ("fc.",))


def from_torchvision(arrays: Weights) -> Weights:
    """A ResNet of torchvision's, by itself or as another network's backbone."""
    return _without(arrays, r"(module\.)?(backbone\.)?(body\.)?", ("fc.",))


def from_timm(arrays: Weights) -> Weights:
    """A ResNet of timm's, whose classifier has one of three names."""
    return _without(arrays, r"(module\.)?(model\.)?", ("fc.", "head.", "classifier."))


ADAPTERS: Mapping[str, Callable[[Weights], Weights]] = {
    "study": from_study,
    "medicalnet": from_medicalnet,
    "monai": from_monai,
    "torchvision": from_torchvision,
    "timm": from_timm,
}


def _without(arrays: Weights, prefix: str, heads: tuple[str, ...]) -> Weights:
    """The arrays without a prefix of their names, and without those of a head."""
    stripped = {re.sub(f"^{prefix}", "", name): value for name, value in arrays.items()}
    return {name: value for name, value in stripped.items() if not name.startswith(heads)}


def _unusable(path: Path, found: str) -> SettingsError:
    return SettingsError(
        "the file of initial weights cannot be used",
        where=f"initial-weights-file {path}",
        found=found,
        expected="weights as .safetensors, or as torch saves a state_dict",
        fix="correct the path, or save the network's state_dict again",
    )
