"""Training loop and scoring of one site's patients, whatever wraps model, optimizer and loader."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from client.training.augmentation import NUMBERS, augment, images_of
from client.training.dataset import PatientDataset
from client.training.dp.dropout import use_draws
from client.training.dp.randomness import PatientDraws
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("client")
MAX_OUTPUT = 1e6


class Optimizer(Protocol):
    """What the loop needs of one, private or not."""

    def zero_grad(self) -> None:
        """Forgets the last step's gradients."""
        ...

    def step(self) -> object:
        """Changes the weights by the gradients."""
        ...


def choose_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_optimizer(
    weights: Iterable[nn.Parameter],
    config: StudySettings,
    correct: Callable[[Sequence[nn.Parameter]], None] | None = None,
    wide: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """A fresh optimizer; its state never travels (`client/training/optimizer_state.py` keeps it at the site).

    The proximal term of FedProx (Li 2020, arXiv:1812.06127) pulls the weights to where they are now: its gradient
    mu (w - w_global) is added in each step. It depends on no patient, so private training needs no noise for it.

    Args:
        weights: To be trained, but for those that are frozen: they take no gradient.
        config: The study's settings.
        correct: Changes the gradients of each step first (`client/training/rule.py`).
        wide: Those of `weights` that take steps `wide_learning_rate_factor` times as large.
    """
    _leave_compiler_out()
    held, apart = [weight for weight in weights if weight.requires_grad], {id(weight) for weight in wide}
    kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weight in held:
        factor = _wide_factor(weight, config) if id(weight) in apart else 1.0
        # a bias is a base rate, and a normalisation's scale 1: decay would pull both to 0
        groups.setdefault((factor, config.weight_decay if weight.dim() > 1 else 0.0), []).append(weight)
    optimizer = kind(
        [{"params": each, "factor": factor, "weight_decay": decay} for (factor, decay), each in groups.items()],
        lr=config.learning_rate,
    )
    set_learning_rate(optimizer, config.learning_rate)
    # `step` itself also imports the compiler, in a wrapper that otherwise only switches gradients off
    plain_step = functools.partial(inspect.unwrap(type(optimizer).step), optimizer)
    start = [weight.detach().clone() for weight in held] if config.mu else []
    clips = config.clip_gradients if config.privacy == "none" else 0.0  # private training has clipped each patient's

    def step() -> None:
        if clips:
            nn.utils.clip_grad_norm_(held, clips)
        if correct is not None:
            correct(held)
        for weight, origin in zip(held, start, strict=False):
            if weight.grad is not None:
                weight.grad.add_(weight - origin, alpha=config.mu)
        plain_step()

    optimizer.step = torch.no_grad()(step)  # type: ignore[method-assign,assignment]
    return optimizer


def _wide_factor(weight: nn.Parameter, config: StudySettings) -> float:
    """Of a linear path: AdamW moves each of C columns as far as it would move one, and their sum C times as far."""
    if config.optimizer != "adamw":
        return 1.0
    columns = weight.shape[-1] if weight.dim() > 1 else 1
    return float(config.wide_learning_rate_factor / columns**0.5)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate; the linear paths keep their multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def wide_weights(model: nn.Module) -> Iterable[nn.Parameter]:
    """The weights of a network's linear paths from tables; none where it has none."""
    paths = getattr(model, "wide", None)
    return paths.parameters() if isinstance(paths, nn.Module) else ()


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


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    loader: Iterable[tuple[Any, ...]],
    task: Task,
    config: StudySettings,
    seed: int,
    class_weights: Mapping[str, Tensor] | None = None,
) -> float:
    """Passes over the loader, private or not, and returns the mean loss of a patient in the last one.

    Batches of private training bring each patient's own draws as their fourth part; nothing else is random then, and
    the seed goes unused.
    """
    device = next(model.parameters()).device
    private = config.privacy == "patient"
    model.train()
    mean_loss = float("nan")
    with full_precision() if private else reproducible(seed) as rng:
        for _ in range(config.local_epochs):
            total, patients = 0.0, 0
            for batch in loader:
                own = batch[3] if private else None
                read = augmented(batch[:2], task, own, rng) if config.augmentation == "standard" else batch[:2]
                inputs, present = _to(device, read)
                truths = {name: value.to(device) for name, value in batch[2].items()}
                draw = _own_draw(model, present, own) if own else torch.rand(present.shape, generator=rng)
                present = drop_modalities(present, config.modality_dropout, draw.to(device))
                optimizer.zero_grad()
                if len(present):  # a Poisson-sampled batch may be empty; a step's noise is added all the same
                    with contextlib.nullcontext() if private else mixed_precision(device):
                        loss = task.loss(model(inputs, present), truths, class_weights)  # (N,)
                    loss.mean().backward()  # type: ignore[no-untyped-call]
                    total, patients = total + loss.sum().item(), patients + len(loss)
                optimizer.step()
            mean_loss = total / max(patients, 1)
    return mean_loss


def predict(
    model: nn.Module, patients: PatientDataset, task: Task, batch_size: int = 64
) -> dict[str, np.ndarray[Any, Any]]:
    """Predictions `{target: (P,) or (P, K)}` of P patients, from the mean output over each one's lesions or views.

    An output that is no finite number counts as 0: a site that failed over it would tell a center that makes a network
    overflow for one patient whether that patient is there.
    """
    mean = mean_outputs(model, patients, task, batch_size)
    if odd := sum(int((~outputs.isfinite().all(dim=1)).sum()) for outputs in mean.values()):
        log.warning("%d predictions have no finite output: they count as an output of 0", odd)
    return {name: target.predict(bounded(mean[name])).numpy() for name, target in task.targets.items()}


def bounded(outputs: Tensor) -> Tensor:
    """A network's outputs as finite numbers of bounded size, whatever a network does to a patient's."""
    return torch.nan_to_num(outputs, nan=0.0).clamp(-MAX_OUTPUT, MAX_OUTPUT)


@torch.no_grad()
def mean_outputs(model: nn.Module, patients: PatientDataset, task: Task, batch_size: int = 64) -> dict[str, Tensor]:
    """The network's mean output `{target: (P, outputs)}` over each of P patients' lesions or views."""
    device = next(model.parameters()).device
    model.eval()
    rows, owner = patients.all_rows()
    scores: dict[str, list[Tensor]] = {name: [] for name in task.targets}
    for start in range(0, len(rows), batch_size):
        inputs, present = patients.read(rows[start : start + batch_size])
        outputs = model(*_to(device, (inputs, present)))
        for name in task.targets:
            scores[name].append(outputs[name].float().cpu())
    return {name: _mean_by_owner(torch.cat(parts), owner, len(patients)) for name, parts in scores.items()}


def _mean_by_owner(outputs: Tensor, owner: Tensor, patients: int) -> Tensor:
    """The mean `(P, K)` of `outputs` `(R, K)` over the rows of each patient."""
    total = outputs.new_zeros(patients, outputs.shape[1]).index_add_(0, owner, outputs)
    return total / torch.bincount(owner, minlength=patients)[:, None]


def augmented(
    read: tuple[dict[str, Tensor], Tensor], task: Task, own: PatientDraws | None, rng: torch.Generator | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs and presence of N patients with their images changed by each patient's own draws, or by `rng`'s."""
    inputs, present = read
    images = len(images_of(task))
    draws = own.uniform(images, NUMBERS) if own else torch.rand((len(present), images, NUMBERS), generator=rng)
    return augment(inputs, present, task, draws), present


def _own_draw(model: nn.Module, present: Tensor, own: PatientDraws) -> Tensor:
    """The patients' draws `(N, M)` for their modalities; the next are for the network's dropout."""
    draw = own.uniform(present.shape[1])
    use_draws(model, own)
    return draw


def drop_modalities(present: Tensor, drop_prob: float, draw: Tensor) -> Tensor:
    """Hides each modality of each patient where `draw` `(N, M)` is below `drop_prob`, but never a patient's last one.

    Teaches the network to do without (ModDrop, Neverova 2016, arXiv:1501.00102).
    """
    if not drop_prob:
        return present
    remaining = present * (draw >= drop_prob)
    # the one with the largest draw among those present stays when all would go
    last = torch.zeros_like(present).scatter_(1, (draw * present).argmax(dim=1, keepdim=True), 1.0) * present
    return torch.where(remaining.sum(dim=1, keepdim=True) > 0, remaining, last)


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[torch.Generator]:
    """Seeds dropout and the yielded generator for the block, and leaves the caller's random state as it was."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 where a GPU makes it fast."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def full_precision() -> contextlib.AbstractContextManager[None]:
    """32-bit convolutions on a GPU, too, for private training.

    How a shorter number is rounded depends on the kernel, and the kernel on how many are in the batch: one more patient
    would change every other patient's gradient by parts of a thousand, which is not accounted for.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _to(device: torch.device, read: tuple[dict[str, Tensor], Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    inputs, present = read
    return {name: value.to(device, non_blocking=True) for name, value in inputs.items()}, present.to(device)
