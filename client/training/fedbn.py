"""FedBN: normalisation layers local to a site, stored by round (Li 2021, arXiv:2102.07623).

Scale and shift of GroupNorm and LayerNorm adapt to a site's scanner or stain. They travel with the other weights, so
that a site that never trained has their mean; a site that trained puts its own in their place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from client.private_files import write_private
from shared_models.trained_parts import normalisation_names


def store_local_layers(model: nn.Module, folder: Path, server_round: int) -> None:
    """Keeps the site's own values after its training in a round; the first round forgets an earlier run's."""
    if server_round == 1:
        shutil.rmtree(folder, ignore_errors=True)
    values = model.state_dict()
    own = {name: values[name].detach().cpu().contiguous() for name in normalisation_names(model)}
    write_private(folder / f"{server_round:05d}.safetensors", save(own))


def restore(model: nn.Module, folder: Path, server_round: int) -> bool:
    """Puts the site's own values of a round, or of its last one before, into the global weights of that round.

    Returns:
        Whether there were any.
    """
    paths = [path for path in sorted(folder.glob("*.safetensors")) if int(path.stem) <= server_round]
    if server_round == 0 or not paths:
        return False
    with torch.no_grad():
        values = dict(model.named_parameters())
        for name, value in load_file(paths[-1]).items():
            values[name].copy_(value)
    return True
