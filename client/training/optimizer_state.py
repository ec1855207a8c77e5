"""The optimizer's state of a site, stored by round: moments of its own gradients, which never leave it.

Without it AdamW begins each round again, and takes some first steps of full size in whatever direction the first
batches say. In private training the gradients have their noise before the optimizer sees them, so that nothing here
costs privacy.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from client.private_files import write_private

Moments = torch.optim.Optimizer
KEPT_ROUNDS = 2  # the last, and the one before it: a round may be asked again


@contextlib.contextmanager
def stored_moments(optimizer: Moments, folder: Path | None, server_round: int) -> Iterator[None]:
    """Trains a round with the moments of the last one before, and keeps those it ends with; without a folder, neither.

    The first round forgets an earlier run's. Moments of other weights, or of another kind of optimizer, are left alone.
    """
    if folder is None:
        yield
        return
    if server_round == 1:
        shutil.rmtree(folder, ignore_errors=True)
    _restore(optimizer, folder, server_round - 1)
    yield
    _store(optimizer, folder, server_round)


def _store(optimizer: Moments, folder: Path, server_round: int) -> None:
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    values = {f"{index}/{name}": value for index, moments in state.items() for name, value in moments.items()}
    # plain SGD has none; those of a round that diverged would spoil all later ones
    if not values or not all(bool(value.isfinite().all()) for value in values.values()):
        return
    content = save({name: value.detach().cpu().contiguous() for name, value in values.items()})
    write_private(folder / f"{server_round:05d}.safetensors", content)
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT_ROUNDS]:
        old.unlink(missing_ok=True)  # a round that is asked again may overtake one that is still running


def _restore(optimizer: Moments, folder: Path, server_round: int) -> None:
    paths = [path for path in sorted(folder.glob("*.safetensors")) if int(path.stem) <= server_round]
    if not paths:
        return
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(paths[-1]).items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if len(state) == len(weights) and all(
        value.shape in (weights[index].shape, torch.Size([])) for index, of in state.items() for value in of.values()
    ):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
