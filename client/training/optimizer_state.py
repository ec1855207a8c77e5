"""The optimizer's state of a site, stored by round: moments of its own gradients, which never leave it.

Without it AdamW begins each round anew, and takes some first steps of full size in whatever direction the first
batches say. In private training the gradients have their noise before the optimizer sees them, so that nothing here
costs privacy.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from client.private_files import write_private

KEPT_ROUNDS = 2  # the last, and the one before it: a round may be asked again


def keep(optimizer: torch.optim.Optimizer, folder: Path, server_round: int) -> None:
    """Keeps the state after a round; the first round forgets an earlier run's."""
    if server_round == 1:
        shutil.rmtree(folder, ignore_errors=True)
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    values = {f"{index}/{name}": value for index, moments in state.items() for name, value in moments.items()}
    if not values:  # plain SGD has none
        return
    write_private(
        _file(folder, server_round), save({name: v.detach().cpu().contiguous() for name, v in values.items()})
    )
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT_ROUNDS]:
        old.unlink()


def restore(optimizer: torch.optim.Optimizer, folder: Path, server_round: int) -> None:
    """Puts back the state of a round, or of the last one before; one of other weights or another kind is left alone."""
    kept = [path for path in sorted(folder.glob("*.safetensors")) if int(path.stem) <= server_round]
    if server_round < 1 or not kept:
        return
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(kept[-1]).items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    fits = set(state) <= set(range(len(weights))) and all(
        value.shape in (weights[index].shape, torch.Size([])) for index, of in state.items() for value in of.values()
    )
    if fits:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _file(folder: Path, server_round: int) -> Path:
    return folder / f"{server_round:05d}.safetensors"
