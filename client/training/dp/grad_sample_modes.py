"""Which way to each patient's own gradient a study takes, and a trial of it before anything is charged."""

from __future__ import annotations

import functools
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from client.errors import ExitCode, SiteError
from client.training.dp.per_sample import PatientGradients, unknown_layers
from client.training.loop import reproducible
from shared_models.study_settings import StudySettings
from shared_models.task import Table, load_task

GradSampleMode = Literal["auto", "hooks", "functorch", "ghost"]
GRAD_SAMPLE_MODES: tuple[GradSampleMode, ...] = get_args(GradSampleMode)
CLIP_NORM, TOLERANCE = 1e-3, 1e-3  # of the trial: a norm that clips, and an error relative to the gradients


class Gradients(Protocol):
    """A way to each patient's own gradient.

    Attributes:
        weights: All of the network's, `(P,)`.
        clipped: Whether `take` gives clipped gradients.
    """

    weights: nn.Parameter
    clipped: bool

    def take(self) -> Tensor:
        """`(N, P)` of the last backward pass, whose loss is the mean over N patients; or their clipped sum `(P,)`."""
        ...


def make_gradients(model: nn.Module, way: GradSampleMode, clip_norm: float) -> Gradients:
    """A way by its name; `auto` is ours, or Opacus's hooks where the network has a layer that ours does not know."""
    if way == "auto" and not unknown_layers(model):
        return PatientGradients(model)
    from client.training.dp.opacus_grad_sample import OpacusGradients

    return OpacusGradients(model, "hooks" if way == "auto" else way, clip_norm)


def require_right_gradients(config: StudySettings) -> None:
    """Takes one step of the study's network on made-up patients, and holds it against one patient at a time.

    Raises:
        SiteError: If the study's way fails or is wrong; says which ways are right.
    """
    way = config.patient_gradients
    if problem := _problem(config, way):
        right = [other for other in GRAD_SAMPLE_MODES if other != way and not _problem(config, other)]
        others = ", ".join(right) or "none"
        raise SiteError(
            what="patients' gradients cannot be found as the study asks",
            where=f"patient-gradients {way}, task {config.task}",
            found=problem,
            expected="the gradients of one patient at a time",
            fix=f"nothing: the center may ask for another way; those that are right for this network: {others}",
            public=f"patient-gradients = {way} is not right for the study's network; those that are: {others}",
            exit_code=ExitCode.STUDY,
        )


@functools.lru_cache(maxsize=64)
def _problem(config: StudySettings, way: GradSampleMode) -> str:
    """What is wrong with a way for the study's network; empty if nothing."""
    try:
        found, expected = _trial(config, way)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:  # what Opacus raises is not told
        return f"{type(error).__name__}: {error}"
    off = (found - expected).norm() / expected.norm()
    return "" if off <= TOLERANCE else f"gradients that are {off:.2g} of their size off"


def _trial(config: StudySettings, way: GradSampleMode, patients: int = 3) -> tuple[Tensor, Tensor]:
    """Gradients by a way, and one at a time: of each patient, or, of a way that clips, their clipped sum."""
    task = load_task(config)
    with reproducible(0):
        model = task.build_model(task, config).train()
        with torch.no_grad():  # layers that start at zero would hide what lies before them
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        inputs = {
            name: torch.randn(patients, *((kind.width,) if isinstance(kind, Table) else kind.shape))
            for name, kind in task.modalities.items()
        }
        present = torch.ones(patients, len(inputs))
        present[0, 0] = 0.0 if len(inputs) > 1 else 1.0
    with reproducible(1):  # the same dropout in both passes
        expected = _one_at_a_time(model, model(inputs, present))
    gradients = make_gradients(model, way, CLIP_NORM)
    with reproducible(1):
        torch.cat(list(model(inputs, present).values()), dim=1).square().sum(dim=1).mean().backward()  # type: ignore[no-untyped-call]
    if gradients.clipped:
        shares = (CLIP_NORM / (expected.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0)  # as Opacus does
        expected = (shares * expected).sum(dim=0)
    return gradients.take(), expected


def _one_at_a_time(model: nn.Module, outputs: dict[str, Tensor]) -> Tensor:
    """`(N, P)` by a backward pass for each row of the outputs `(N, K)`."""
    parameters = list(model.parameters())
    rows = []
    for patient in range(len(next(iter(outputs.values())))):
        loss = torch.cat([output[patient] for output in outputs.values()]).square().sum()
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    return torch.stack(rows)
