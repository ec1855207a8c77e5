"""First weights of a study: seeded, or those of a file as far as they fit, with outputs at the pooled base rates."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.study.weights.weight_files import ADAPTERS, Weights, read_weights
from shared_models.messages.arrays import Arrays, hash_arrays
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.task import Task
from shared_models.trained_parts import BACKBONE, build_network

if TYPE_CHECKING:
    from torch import Tensor, nn


OTHER_FILE = "the initial weights are not those of the study"
NO_PLACE = "the network has no place for such weights"
OTHER_NETWORK = "the file of initial weights is of another network"


@dataclass(frozen=True)
class Fitted:
    """What of a file fits a network.

    Attributes:
        weights: By the network's names.
        expected: How many arrays the file could have fitted.
        share: Of their numbers, from 0 to 1.
        left_over: Arrays of the file, as of a deeper network, for which there is no place.
    """

    weights: Weights
    expected: int
    share: float
    left_over: tuple[str, ...] = ()

    @property
    def arrays(self) -> Arrays:
        """The weights as the network has them."""
        return {name: value.numpy() for name, value in self.weights.items()}


def initial_model(task: Task, config: StudySettings, counts: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """The first weights: training does not start from saturated outputs, whatever the rest starts from."""
    import torch

    from shared_models.networks.standardisation import standardise_on_made_up_patients

    model = _seeded(task, config)
    weights = from_file(task, config).weights
    model.load_state_dict(weights, strict=False)
    standardise_on_made_up_patients(model, task)
    model.load_state_dict(weights, strict=False)  # a study's own constants are among them
    with torch.no_grad():
        for name, layer in model.output_layers().items():  # type: ignore[operator]
            layer.bias.copy_(task.targets[name].base_logits(counts[name]))
    return {name: value.numpy() for name, value in model.state_dict().items()}


def start_of(task: Task, config: StudySettings) -> dict[str, Any]:
    """What the network started from, for the checkpoint: which arrays are of a file, and how many could have been.

    Raises:
        SettingsError: If the file cannot be used, is another one than the study's, or too little of it fits.
    """
    if config.initial_weights == "seeded":
        return {}
    fitted = from_file(task, config)
    digest = hash_arrays(fitted.arrays)
    if digest != config.initial_weights_sha256:
        raise SettingsError(
            OTHER_FILE,
            where="initial-weights-sha256",
            found=f"{config.initial_weights_sha256 or 'none'}; {len(fitted.weights)} of {fitted.expected} arrays fit",
            expected=f"{digest}, if this is the right file",
            fix="set it, so that hospitals approve these very weights, or correct initial-weights-file",
        )
    return {"names": sorted(fitted.weights), "expected": fitted.expected, "share": round(fitted.share, 4)}


def from_file(task: Task, config: StudySettings) -> Fitted:
    """What of the study's file fits its network; nothing where it starts from seeded weights.

    Raises:
        SettingsError: If the file cannot be used, or less than `initial_weights_share` of it fits.
    """
    if config.initial_weights == "seeded":
        return Fitted({}, 0, 0.0)
    path = Path(config.initial_weights_file)
    arrays = ADAPTERS[config.initial_weights_format](_read_once(path, path.stat().st_mtime_ns if path.exists() else 0))
    network = _seeded(task, config)
    state = _fillable(network, config)
    weights: Weights = {}
    for name, value in state.items():
        fits = _as_ours(arrays.get(_name_in_file(name, config)), value)
        if fits is not None:
            weights[name] = fits
    used = {_name_in_file(name, config) for name in weights}
    left_over = () if config.initial_weights_format == "study" else tuple(_weights_of(arrays, used))
    fitted = Fitted(weights, len(state), _numbers(weights) / max(_numbers(state), 1), left_over)
    there = _numbers({name: arrays[name] for name in left_over})
    if min(fitted.share, 1 - there / max(_numbers(arrays), 1)) < config.initial_weights_share:
        raise _too_little(fitted, state, arrays, config)
    return fitted


_read_once = functools.lru_cache(maxsize=1)(lambda path, written: read_weights(path))


def _numbers(arrays: Weights) -> int:
    return sum(value.numel() for value in arrays.values())


def _weights_of(arrays: Weights, used: Collection[str]) -> Iterator[str]:
    """The arrays of a file that are not used, but for counters."""
    return (name for name in arrays if name not in used and not name.endswith("num_batches_tracked"))


def _seeded(task: Task, config: StudySettings) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_network(task, config)


def _fillable(network: nn.Module, config: StudySettings) -> Weights:
    """The arrays that a file of this format could fill: all but the base rates, or those of published backbones."""
    layers = network.output_layers().values()  # type: ignore[operator]
    rates = {id(layer.bias) for layer in layers}
    rated = {name for name, weight in network.named_parameters() if id(weight) in rates}
    state = {name: value for name, value in network.state_dict().items() if name not in rated}
    if config.initial_weights_format == "study":
        return state
    state = {name: value for name, value in state.items() if BACKBONE in name.split(".") and config.backbone != "task"}
    if not state:
        raise SettingsError(
            NO_PLACE,
            where=f"initial-weights-format {config.initial_weights_format}",
            found=f"backbone {config.backbone}",
            expected="a published architecture",
            fix="set backbone, as resnet18, to the one that the file was saved from",
        )
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _name_in_file(name: str, config: StudySettings) -> str:
    return name if config.initial_weights_format == "study" else name.partition(f"{BACKBONE}.")[2]


def _as_ours(value: Tensor | None, ours: Tensor) -> Tensor | None:
    """A file's array as one of ours; None where it is of another shape.

    A kernel of photographs becomes one of volumes by going on along the depth, at 1 / depth (Carreira 2017,
    arXiv:1705.07750); of colours by their sum, one of a grey image.
    """
    if value is None or value.is_floating_point() != ours.is_floating_point():
        return None
    value = value.detach().to(ours.dtype)
    if value.ndim == 4 and ours.ndim == 5:
        value = value[:, :, None].repeat(1, 1, ours.shape[2], 1, 1) / ours.shape[2]
    if value.ndim > 2 and ours.ndim > 2 and value.shape[1] == 3 and ours.shape[1] == 1:
        value = value.sum(dim=1, keepdim=True)
    return value.contiguous() if value.shape == ours.shape and bool(value.isfinite().all()) else None


def _too_little(fitted: Fitted, state: Weights, arrays: Weights, config: StudySettings) -> SettingsError:
    part = "network" if config.initial_weights_format == "study" else f"backbone {config.backbone}"
    found = f"{len(fitted.weights)} of {fitted.expected} arrays of the {part} fit, {fitted.share:.0%} of its numbers"
    if missing := next((name for name in state if name not in fitted.weights), ""):
        theirs, ours = arrays.get(_name_in_file(missing, config)), tuple(state[missing].shape)
        found += (
            f"; {missing} is {'not in the file' if theirs is None else f'{tuple(theirs.shape)} there, {ours} here'}"
        )
    if fitted.left_over:
        found += f"; {len(fitted.left_over)} arrays of the file have no place, as {fitted.left_over[0]}"
    return SettingsError(
        OTHER_NETWORK,
        where=f"initial-weights-file {config.initial_weights_file}, as {config.initial_weights_format}",
        found=found,
        expected=f"at least {config.initial_weights_share:.0%} of both (initial-weights-share)",
        fix="name the format and the backbone that the file was saved from, or another file",
    )
