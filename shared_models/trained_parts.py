"""Trained and frozen parts of a study's network, by its setting `trained`.

A frozen array is the same in every round: it travels once, before the first, is in no optimizer, and is no part of an
update or of a secure sum. Center and site find the same names, from the same settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from shared_models.settings import SettingsError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shared_models.study_settings import StudySettings
    from shared_models.task import Task

BACKBONE = "backbone"
"""What the part of an image's encoder is called that `trained = "heads"` leaves as it is."""
T = TypeVar("T")


def build_network(task: Task, config: StudySettings) -> nn.Module:
    """The study's network, with fresh weights; the frozen ones take no gradient.

    Raises:
        SettingsError: If `trained` names nothing of it, or `normalisation` is of layers that it does not have.
    """
    network = task.build_model(task, config)
    if config.normalisation == "local" and not normalisation_names(network):
        msg = (
            f"normalisation: the network of {config.task} has no normalisation layers that could be local to a site; "
            'leave it "shared"'
        )
        raise SettingsError(msg)
    frozen = frozen_names(network, config)
    network.frozen = frozen  # type: ignore[assignment]
    for name, weight in network.named_parameters():
        weight.requires_grad_(name not in frozen)
    return network


def normalisation_names(network: nn.Module) -> list[str]:
    """The parameters of a network's normalisation layers."""
    from torch import nn

    return [
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        if isinstance(module, nn.GroupNorm | nn.LayerNorm)
        for name, _ in module.named_parameters()
    ]


def frozen_names(network: nn.Module, config: StudySettings) -> frozenset[str]:
    """The arrays of a network that a study leaves as they are before round 1.

    Raises:
        SettingsError: If `trained` is `heads` and there is no backbone, or a pattern fits no weight.
    """
    names = list(network.state_dict())
    if config.trained == "all":
        return frozenset()
    if config.trained == "heads":
        frozen = frozenset(name for name in names if BACKBONE in name.split("."))
        if not frozen:
            msg = f"trained: the network of {config.task} has no backbone in this study that heads could leave as it is"
            raise SettingsError(msg)
        return frozen
    patterns = [part.strip() for part in config.trained.split(",")]
    weights = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in weights):
            hint = nearest(pattern, ["all", "heads", *weights])
            msg = f"trained: no weight of {config.task} is called {pattern!r}; {hint}"
            raise SettingsError(msg)
    return frozenset(name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns))


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """The arrays of a network of `build_network` that travel in every round."""
    return of_trained(network.state_dict(), getattr(network, "frozen", frozenset()))


def of_trained(arrays: Mapping[str, T], frozen: frozenset[str]) -> dict[str, T]:
    """Those that are not frozen."""
    return {name: array for name, array in arrays.items() if name not in frozen}


def of_frozen(arrays: Mapping[str, T], frozen: frozenset[str]) -> dict[str, T]:
    """Those that are."""
    return {name: array for name, array in arrays.items() if name in frozen}
