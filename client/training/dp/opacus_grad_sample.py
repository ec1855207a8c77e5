"""Patients' gradients by Opacus's own hooks (Yousefpour 2021, arXiv:2109.12298), where a study asks for them.

`hooks` has a formula for each kind of layer, `functorch` differentiates each layer for each patient, and `ghost` finds
only the norm of a patient's gradient and lets a second backward pass add up what is clipped (Li 2022,
arXiv:2110.05679), which takes the least memory.

A training loop has one backward pass, and ghost clipping needs two. So the network's outputs are cut off from it: the
loop's pass ends at them, with the loss's slope, and `clipped_sum` passes that slope back through the network as often
as it has to.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from torch import Tensor, nn

from client.training.dp.clipping import MARGIN, clip_and_sum
from client.training.dp.dropout import current_draws, use_draws
from client.training.dp.per_sample import join_weights, trained_parameters

Inputs = dict[str, Tensor]


class OpacusGradients:
    """Opacus's hooks on a network whose batches have one row a patient; used as `PatientGradients` are.

    Args:
        model: Gives `{target: (N, K)}`; mixes nothing between the rows of a batch. Ghost clipping takes no linear layer
            that is used twice.
        mode: How Opacus computes them.

    Attributes:
        weights: All weights, `(P,)`.

    Raises:
        NotImplementedError: If a layer with weights has buffers, too, which would hold what no noise covers.
    """

    def __init__(self, model: nn.Module, mode: Literal["hooks", "functorch", "ghost"]) -> None:
        self.weights = join_weights(model)
        self._model = model
        self._inputs: tuple[Inputs, Tensor] = ({}, self.weights)
        self._position = 0
        self._parameters = trained_parameters(model)
        self._outputs: list[Tensor] = []
        self._ends: list[Tensor] = []
        self._ghost: GradSampleHooksFastGradientClipping | None = None
        if mode == "ghost":
            self._ghost = GradSampleHooksFastGradientClipping(model)
            for layer in model.modules():
                if isinstance(layer, nn.Embedding):  # Opacus 1.6 takes a view of its rows
                    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        else:
            GradSampleHooks(model, force_functorch=mode == "functorch")
        model.register_forward_pre_hook(self._remember)
        model.register_forward_hook(self._cut_off)

    def clipped_sum(self, clip_norm: float) -> Tensor:
        """The clipped sum `(P,)` of the gradients of the last backward pass, whose loss is the mean over N patients."""
        if not self._outputs:
            return torch.zeros_like(self.weights, dtype=torch.float64)
        slopes = [torch.zeros_like(end) if end.grad is None else end.grad for end in self._ends]
        with warnings.catch_warnings():
            # that a first layer's inputs need no gradient, and that integers have no mixed precision
            warnings.simplefilter("ignore", UserWarning)
            torch.autograd.backward(self._outputs, slopes, retain_graph=self._ghost is not None)
            if self._ghost:
                clipped = self._sum_by_norms(self._ghost, slopes, (1.0 - MARGIN) * clip_norm)
            else:
                clipped = clip_and_sum(self._of_each(len(slopes[0])), clip_norm)
        self._outputs, self._ends = [], []
        for parameter in self._parameters:
            parameter.grad = parameter.grad_sample = parameter._norm_sample = None  # type: ignore[attr-defined]
        return clipped.double()

    def _of_each(self, patients: int) -> list[Tensor]:
        gradients = (p.grad_sample for p in self._parameters)  # type: ignore[attr-defined]
        parts = zip(gradients, self._parameters, strict=True)
        return [p.new_zeros(patients, p.numel()) if g is None else g.flatten(1).float() for g, p in parts]

    def _sum_by_norms(
        self, ghost: GradSampleHooksFastGradientClipping, slopes: list[Tensor], clip_norm: float
    ) -> Tensor:
        """A second backward pass of each patient's slope times what clipping leaves of it."""
        norms = ghost.get_norm_sample()  # (N,)
        finite = norms.isfinite()
        if not bool(finite.any()):
            return torch.zeros_like(self.weights)
        factors = (clip_norm / norms).clamp(max=1.0)
        for parameter in self._parameters:
            parameter.grad = None
        ghost.disable_hooks()
        if not bool(finite.all()):  # zero times what is no number is no number: a pass without these patients
            slopes, factors = [slope[finite] for slope in slopes], factors[finite]
            self._pass_again(finite)
        # the loss is a mean: each per-sample gradient is as many times larger as there were patients
        torch.autograd.backward(self._outputs, [len(norms) * factors[:, None] * slope for slope in slopes])
        ghost.enable_hooks()
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self._parameters])

    def _pass_again(self, chosen: Tensor) -> None:
        """A forward pass of some of the last batch's patients, with the draws that they had."""
        inputs, present = self._inputs
        if draws := current_draws(self._model):
            use_draws(self._model, draws.of(chosen.cpu().numpy(), self._position))
        self._model({name: value[chosen] for name, value in inputs.items()}, present[chosen])

    def _remember(self, model: nn.Module, inputs: tuple[Inputs, Tensor]) -> None:
        draws = current_draws(model)
        self._inputs, self._position = inputs, draws.position if draws else 0

    def _cut_off(self, model: nn.Module, inputs: tuple[object, ...], outputs: Inputs) -> Inputs | None:
        if not (model.training and torch.is_grad_enabled()):
            return None
        ends = {name: output.detach().requires_grad_() for name, output in outputs.items()}
        self._outputs, self._ends = list(outputs.values()), list(ends.values())
        return ends
