"""Training and scoring one site's patients. One loop, whatever wraps model, optimizer and loader."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from client.cohort import Cohort
from shared_models.features import FeatureStatistics
from shared_models.run_config import RunConfig
from shared_models.task import Table, Task


class Batch(TypedDict):
    """`inputs` `{modality: (N, ...)}`, `present` `(N, M)`, `truths` `{target: (N,) or (N, 2)}`."""

    inputs: dict[str, Tensor]
    present: Tensor
    truths: dict[str, Tensor]


@dataclass(frozen=True)
class Patients(Dataset[Batch]):
    """Some patients of a cohort as network input; a batch is read at once from memory-mapped arrays."""

    inputs: Mapping[str, np.ndarray[Any, Any]]
    present: np.ndarray[Any, Any]
    truths: Mapping[str, np.ndarray[Any, Any]]
    rows: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        batch = self.__getitems__([index])
        return {
            "inputs": {name: value[0] for name, value in batch["inputs"].items()},
            "present": batch["present"][0],
            "truths": {name: value[0] for name, value in batch["truths"].items()},
        }

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = self.rows[np.asarray(indices, dtype=np.int64)]
        return {
            "inputs": {name: _tensor(array, rows) for name, array in self.inputs.items()},
            "present": _tensor(self.present, rows),
            "truths": {name: _tensor(array, rows) for name, array in self.truths.items()},
        }


def _tensor(array: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.asarray(array[rows], dtype=np.float32))


def select_patients(cohort: Cohort, part: str, task: Task, statistics: Mapping[str, FeatureStatistics]) -> Patients:
    """The patients of `part`, their tables standardised by the study's frozen statistics."""
    inputs = {
        name: statistics[name].standardise(cohort.inputs[name]) if isinstance(kind, Table) else cohort.inputs[name]
        for name, kind in task.modalities.items()
    }
    return Patients(inputs, cohort.present, cohort.truths, cohort.parts[part])


def choose_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """A fresh optimizer: its state never travels, so every round starts it anew at every site."""
    _leave_compiler_out()
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    # `step` itself also imports the compiler, in a wrapper that otherwise only switches gradients off
    step = functools.partial(inspect.unwrap(type(optimizer).step), optimizer)
    optimizer.step = torch.no_grad()(step)  # type: ignore[method-assign]
    return optimizer


def _leave_compiler_out() -> None:
    """Tells torch 2.13's optimizers not to import torch's compiler, which we never use.

    They do so on first use only to switch it off for themselves, and it takes four seconds: in a deployment, four
    seconds of every message.
    """
    optimizer = torch.optim.Optimizer
    for method in (optimizer.add_param_group, optimizer.zero_grad, optimizer.state_dict, optimizer.load_state_dict):
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            plain.__dynamo_disable = plain


def make_loader(patients: Patients, config: RunConfig, seed: int) -> DataLoader[Batch]:
    """Shuffled batches, the same order for the same seed."""
    order = torch.Generator().manual_seed(seed)
    return DataLoader(patients, config.batch_size, shuffle=True, generator=order, collate_fn=_as_read)


def _as_read(batch: Any) -> Any:
    """Collates nothing: `__getitems__` has read the batch as one."""
    return batch


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[Batch],
    task: Task,
    config: RunConfig,
    seed: int,
) -> float:
    """Trains `model` for the configured local epochs and returns the mean loss of a patient in the last one.

    The proximal term of FedProx (Li 2020, arXiv:1812.06127) pulls the weights to where they started: its
    gradient mu (w - w_global) is added to each step, after the loss's own gradient.
    """
    device = next(model.parameters()).device
    start = [parameter.detach().clone() for parameter in model.parameters()] if config.mu else []
    model.train()
    mean_loss = float("nan")
    with reproducible(seed) as chance:
        for _ in range(config.local_epochs):
            total, patients = 0.0, 0
            for batch in loader:
                inputs, present, truths = _to(device, batch)
                present = drop_modalities(present, config.modality_dropout, chance)
                optimizer.zero_grad()
                with mixed_precision(device):
                    loss = task.loss(model(inputs, present), truths)  # (N,)
                loss.mean().backward()  # type: ignore[no-untyped-call]
                for parameter, origin in zip(model.parameters(), start, strict=False):
                    if parameter.grad is not None:
                        parameter.grad.add_(parameter.detach() - origin, alpha=config.mu)
                optimizer.step()
                total, patients = total + loss.sum().item(), patients + len(loss)
            mean_loss = total / max(patients, 1)
    return mean_loss


@torch.no_grad()
def predict(model: nn.Module, patients: Patients, task: Task, batch_size: int = 64) -> dict[str, np.ndarray[Any, Any]]:
    """Predictions `{target: (N,) or (N, K)}` in the order of `patients.rows`."""
    device = next(model.parameters()).device
    model.eval()
    found: dict[str, list[Tensor]] = {name: [] for name in task.targets}
    for batch in DataLoader(patients, batch_size, generator=torch.Generator(), collate_fn=_as_read):
        inputs, present, _ = _to(device, batch)
        outputs = model(inputs, present)
        for name, target in task.targets.items():
            found[name].append(target.predict(outputs[name].float()).cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def drop_modalities(present: Tensor, chance_to_drop: float, chance: torch.Generator) -> Tensor:
    """Hides each modality of each patient with the given chance, but never a patient's last one.

    Teaches the network to do without (ModDrop, Neverova 2016, arXiv:1501.00102).
    """
    if not chance_to_drop:
        return present
    draw = torch.rand(present.shape, generator=chance).to(present.device)
    kept = present * (draw >= chance_to_drop)
    # the one with the largest draw among those present stays when all would go
    last = torch.zeros_like(present).scatter_(1, (draw * present).argmax(dim=1, keepdim=True), 1.0) * present
    return torch.where(kept.sum(dim=1, keepdim=True) > 0, kept, last)


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[torch.Generator]:
    """Seeds dropout and the yielded generator for the block, and leaves the caller's random state as it was."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 where a GPU makes it fast; it needs no loss scaling, which private training could not use."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _to(device: torch.device, batch: Batch) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
    inputs = {name: value.to(device, non_blocking=True) for name, value in batch["inputs"].items()}
    truths = {name: value.to(device, non_blocking=True) for name, value in batch["truths"].items()}
    return inputs, batch["present"].to(device, non_blocking=True), truths
