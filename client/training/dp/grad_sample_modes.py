"""Per-sample gradient modes: which one a study takes, and a trial of it before anything is charged."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from client.errors import ExitCode, SiteError
from client.training.dp.clipping import clip_and_sum
from client.training.dp.dropout import replace_dropout, use_draws
from client.training.dp.per_sample import PatientGradients, trained_parameters, unknown_layers
from client.training.dp.randomness import fingerprints, patient_draws, standard_normals
from shared_models.study_settings import StudySettings
from shared_models.task import Table, Task, load_task
from shared_models.trained_parts import build_network

GradSampleMode = Literal["auto", "hooks", "functorch", "ghost"]
GRAD_SAMPLE_MODES: tuple[GradSampleMode, ...] = get_args(GradSampleMode)
Batch = tuple[dict[str, Tensor], Tensor]  # inputs `{modality: (N, ...)}`, presence `(N, M)`
PATIENTS = 3
CLIP_NORMS, TOLERANCE = (1e-3, 1e9), 2e-3  # of the trial: one clips, one does not; an error relative to the sum


class Gradients(Protocol):
    """The clipped sum of the patients' per-sample gradients, in one of the modes.

    Attributes:
        weights: All of the network's, `(P,)`.
    """

    weights: nn.Parameter

    def clipped_sum(self, clip_norm: float) -> Tensor:
        """`(P,)` of the last backward pass, whose loss is the mean over N patients; who has no finite one counts 0."""
        ...


def make_gradients(model: nn.Module, mode: GradSampleMode) -> Gradients:
    """The gradients of a mode; `auto` is ours, or Opacus's hooks where the network has a layer that ours does not know.

    From here on the network's dropout follows from each patient's own draws.
    """
    replace_dropout(model)
    if mode == "auto" and not unknown_layers(model):
        return PatientGradients(model)
    from client.training.dp.opacus_grad_sample import OpacusGradients

    return OpacusGradients(model, "hooks" if mode == "auto" else mode)


def require_right_gradients(config: StudySettings) -> None:
    """Takes one step of the study's network on made-up patients, and holds it against one patient at a time.

    Raises:
        SiteError: If the study's mode fails or is wrong; says which modes are right.
    """
    mode = config.patient_gradients
    if problem := _problem(config, mode):
        right = [other for other in GRAD_SAMPLE_MODES if other != mode and not _problem(config, other)]
        others = ", ".join(right) or "none"
        raise SiteError(
            what="patients' gradients cannot be found as the study asks",
            where=f"patient-gradients {mode}, task {config.task}",
            found=problem,
            expected="the gradients of one patient at a time",
            fix=f"nothing: the center may ask for another mode; those that are right for this network: {others}",
            public=f"patient-gradients = {mode} is not right for the study's network; those that are: {others}",
            exit_code=ExitCode.STUDY,
        )


@functools.lru_cache(maxsize=64)
def _problem(config: StudySettings, mode: GradSampleMode) -> str:
    """What is wrong with a mode for the study's network; empty if nothing."""
    task = load_task(config)
    try:
        with torch.random.fork_rng():
            model = build_network(task, config)
            return _wrong(model, _made_up(task), mode)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:  # what Opacus raises is not sent
        return f"{type(error).__name__}: {error}"


def _wrong(model: nn.Module, batch: Batch, mode: GradSampleMode) -> str:
    """What is wrong with a mode for a network, by the gradients of each of some patients in a batch of her own."""
    _fill(model)
    replace_dropout(model)
    before = {name: value.clone() for name, value in model.named_buffers()}
    state = torch.random.get_rng_state()
    alone = [_alone(model, _rows(batch, slice(patient, patient + 1)), patient) for patient in range(PATIENTS)]
    if not torch.equal(state, torch.random.get_rng_state()):
        return "a layer that draws random numbers of its own, which are not each patient's (of dropout: nn.Dropout is)"
    if any(not torch.equal(value, before[name]) for name, value in model.named_buffers()):
        return "a layer that keeps numbers of patients beside its weights, which no noise covers"
    gradients = make_gradients(model, mode)
    for clip_norm in CLIP_NORMS:
        use_draws(model, patient_draws(0, 0, fingerprints(map(str, range(PATIENTS)))))
        _loss(model, batch).mean().backward()  # type: ignore[no-untyped-call]
        clipped = gradients.clipped_sum(clip_norm)
        expected = clip_and_sum([torch.stack(parts) for parts in zip(*alone, strict=True)], clip_norm)
        off = (clipped - expected).norm() / expected.norm()
        if not off <= TOLERANCE:
            return f"gradients that are {off:.2g} of their size off those of each patient by herself"
    return ""


def _alone(model: nn.Module, batch: Batch, patient: int) -> list[Tensor]:
    """The gradient of one patient in a batch of her own, `(p,)` by parameter."""
    use_draws(model, patient_draws(0, 0, fingerprints([str(patient)])))
    parameters = trained_parameters(model)
    gradients = torch.autograd.grad(_loss(model, batch).sum(), parameters, allow_unused=True, materialize_grads=True)
    return [gradient.flatten() for gradient in gradients]


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    """A made-up loss `(N,)` of all outputs."""
    return torch.cat(list(model.train()(*batch).values()), dim=1).square().sum(dim=1)


def _rows(batch: Batch, chosen: slice) -> Batch:
    inputs, present = batch
    return {name: value[chosen] for name, value in inputs.items()}, present[chosen]


def _made_up(task: Task) -> Batch:
    """Patients, one of whom lacks a modality where there are several."""
    inputs = {
        name: _numbers(name, (PATIENTS, *((kind.width,) if isinstance(kind, Table) else kind.shape)))
        for name, kind in task.modalities.items()
    }
    present = torch.ones(PATIENTS, len(inputs))
    present[0, 0] = 0.0 if len(inputs) > 1 else 1.0
    return inputs, present


def _fill(model: nn.Module) -> None:
    """Gives a network weights none of which is zero: layers that start at zero would hide what lies before them."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = math.prod(parameter.shape[1:]) ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(spread * _numbers(name, parameter.shape) + (0.5 if parameter.ndim < 2 else 0.0))


def _numbers(name: str, shape: Sequence[int]) -> Tensor:
    """Gaussian numbers, the same for the same name, and none of a generator that others use."""
    return standard_normals(math.prod(shape), hashlib.sha256(name.encode()).digest()).float().view(*shape)
