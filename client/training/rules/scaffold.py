"""SCAFFOLD at a site: control variates against drift (Karimireddy 2020, arXiv:1910.06378).

The site's control variate is the mean gradient of its steps in a round, at the weights as they were: what option II of
the paper's algorithm 1 gives for plain gradient descent, (x - y) / (K eta) - c + c_i, and what it means with any other
optimizer. Each step adds the mean of all sites' and takes away its own. In private training the gradients have their
noise already, so that the variate tells nothing that the weights do not.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from client.errors import ExitCode, SiteError
from client.private_files import write_private
from client.training.rule import OwnState
from shared_models.messages import Arrays
from shared_models.messages.fields import MAX_WEIGHT
from shared_models.secure_aggregation.groups import modality_of
from shared_models.trained_parts import trained_state

CONTROL, COUNTED, BEFORE, CHANGE = "control/", "counted/", "before/", "change/"


def check(received: Arrays, network: nn.Module) -> None:
    """Holds names, shapes and types against the network's, and rounds and shares against what they may be.

    Raises:
        ValueError: If anything is missing, or not as it should be.
    """
    shapes = {name: value.shape for name, value in _floating(network).items()}
    control, counted = _named(received, CONTROL), _named(received, COUNTED)
    if len(control) + len(counted) < len(received) or (received and {n: a.shape for n, a in control.items()} != shapes):
        msg = "the control variate is not one of the study's network"
        raise ValueError(msg)
    if any(array.dtype != np.float32 for array in control.values()):
        msg = "the control variate is not in float32"
        raise ValueError(msg)
    for array in counted.values():
        if array.shape != (2,) or array[0] < 1 or array[0] != round(array[0]) or not 0 <= array[1] <= 1:
            msg = "what counted of a site's control variate is not a round and a share of it"
            raise ValueError(msg)


def begin(received: Arrays, network: nn.Module, own: OwnState) -> Correction:
    """The correction of a round's gradients; before any round counted, an earlier run's variates are deleted.

    Raises:
        SiteError: If the site's own control variate, which the mean has, is not there any longer, or is not the one
            that the sums had.
    """
    if not received:
        shutil.rmtree(own.folder, ignore_errors=True)
    _require_agreed(_named(received, COUNTED), own)
    values = _floating(network)
    mean = {name: torch.zeros_like(value) for name, value in values.items()}
    mean |= {name: torch.from_numpy(a.copy()).to(mean[name].device) for name, a in _named(received, CONTROL).items()}
    before = _own_variate(values, _named(received, COUNTED), own)
    names = [name for name, weight in network.named_parameters() if weight.requires_grad]
    shift = torch.cat([(mean[name] - before[name]).flatten() for name in names])
    return Correction(own, before, names, shift, torch.zeros_like(shift))


@dataclass
class Correction:
    """A round at this site.

    Attributes:
        own: Where variates are stored.
        before: The site's own by name, as the center's mean has it.
        names: Of the P trained weights, in their order.
        shift: What each gradient is moved by, `(P,)`.
        total: Sum of the gradients, before they were moved, `(P,)`.
        steps: How many.
    """

    own: OwnState
    before: Mapping[str, Tensor]
    names: Sequence[str]
    shift: Tensor
    total: Tensor
    steps: int = 0

    def correct(self, weights: Sequence[nn.Parameter]) -> None:
        """See `Half`."""
        start = 0
        for weight in weights:
            part = slice(start, start := start + weight.numel())
            if weight.grad is not None:
                self.total[part] += weight.grad.flatten()
                weight.grad.add_(self.shift[part].view_as(weight))
        self.steps += 1

    def finish(self, server_round: int) -> Arrays:
        """See `Half`; numbers that are not finite, or larger than any that a message may hold, are cut."""
        mean = self.total / max(self.steps, 1)
        parts = torch.split(mean, [self.before[name].numel() for name in self.names])
        after = {name: torch.zeros_like(value) for name, value in self.before.items()}
        after |= {
            name: part.view_as(self.before[name])
            for name, part in zip(self.names, parts, strict=True)
            if name not in self.own.local
        }
        change = {
            name: torch.nan_to_num(value - self.before[name]).clamp(-MAX_WEIGHT, MAX_WEIGHT).cpu()
            for name, value in after.items()
        }
        _store(self.own.folder, server_round, self.before, change)
        return {name: value.numpy() for name, value in change.items()}


def _require_agreed(counted: Arrays, own: OwnState) -> None:
    """With secure aggregation, takes its own control variate to be what the sums had of it, and nothing else.

    A site takes its variate away from what it adds. A center that chose site by site whose variate is taken away would
    have one site's by the difference of two sums. Where the site has not seen how a round ended, the center says it.

    Raises:
        SiteError: If the center says something else.
    """
    for modality, rounds in (own.summed or {}).items():
        centers = counted.get(f"{own.site}/{modality}", np.zeros(2))
        if int(centers[0]) not in rounds or centers[1] != (centers[0] > 0):
            raise SiteError(
                what="the center counts this site's control variate otherwise than the sums that were opened",
                where=f"SCAFFOLD, {modality or 'what all sites share'}",
                found=f"round {centers[0]:g}, share {centers[1]:g}",
                expected=" or ".join(f"all of round {last}" if last else "none" for last in rounds),
                fix="nothing: it could show this site's own part; ask the center",
                public="the center counts the site's control variate otherwise than the sums that were opened",
                exit_code=ExitCode.STUDY,
            )


def _own_variate(values: Mapping[str, Tensor], counted: Arrays, own: OwnState) -> dict[str, Tensor]:
    """The site's own variate as far as the center counted its changes; older files are deleted."""
    mine = {key.rpartition("/")[2]: array for key, array in counted.items() if key.rpartition("/")[0] == own.site}
    rounds = {modality: int(array[0]) for modality, array in mine.items()}
    stored = {server_round: _load(own.folder, server_round) for server_round in sorted(set(rounds.values()))}
    variate = {}
    for name, value in values.items():
        modality = modality_of(name)
        if modality in rounds:
            known = stored[rounds[modality]]
            share = float(mine[modality][1])
            variate[name] = (known[f"{BEFORE}{name}"] + share * known[f"{CHANGE}{name}"]).to(value.device)
        else:
            variate[name] = torch.zeros_like(value)
    for path in own.folder.glob("*.safetensors"):
        if rounds and int(path.stem) < min(rounds.values()):
            path.unlink(missing_ok=True)
    return variate


def _file(folder: Path, server_round: int) -> Path:
    return folder / f"{server_round:05d}.safetensors"


def _store(folder: Path, server_round: int, before: Mapping[str, Tensor], change: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    tensors = {f"{BEFORE}{name}": value.cpu().contiguous() for name, value in before.items()}
    tensors |= {f"{CHANGE}{name}": value.contiguous() for name, value in change.items()}
    write_private(_file(folder, server_round), save(tensors))


def _load(folder: Path, server_round: int) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(_file(folder, server_round))
    except (OSError, SafetensorError) as error:
        raise SiteError(
            what="the site's control variate, which the center's mean has, cannot be read",
            where=str(_file(folder, server_round)),
            found=str(error) or type(error).__name__,
            expected=f"the one that was stored in round {server_round}",
            fix="bring the folder back from a backup; otherwise the study continues without this site",
            public="the site has lost its control variate of SCAFFOLD, and cannot train in this study any longer",
            exit_code=ExitCode.STUDY,
        ) from None


def _floating(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in trained_state(network).items() if value.is_floating_point()}


def _named(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
