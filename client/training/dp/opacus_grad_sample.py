"""Patients' gradients by Opacus's own hooks (Yousefpour 2021, arXiv:2109.12298), where a study asks for them.

`hooks` has a formula for each kind of layer, `functorch` differentiates each layer for each patient, and `ghost` finds
only the norm of a patient's gradient and lets a second backward pass add up what is clipped (Li 2022,
arXiv:2110.05679), which takes the least memory.

A training loop has one backward pass, and ghost clipping needs two. So the network's outputs are cut off from it: the
loop's pass ends at them, with the loss's slope, and `take` passes that slope back through the network as often as it
has to.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from torch import Tensor, nn

from client.training.dp.per_sample import join_weights

Outputs = dict[str, Tensor]


class OpacusGradients:
    """Opacus's hooks on a network whose batches have one row a patient; used as `PatientGradients` are.

    Args:
        model: Gives `{target: (N, K)}`; mixes nothing between the rows of a batch. Ghost clipping takes no linear layer
            that is used twice.
        way: How.
        clip_norm: The largest norm of a patient's gradient; only ghost clipping needs to know it.

    Attributes:
        weights: All weights, `(P,)`.
        clipped: Whether `take` gives clipped gradients.

    Raises:
        NotImplementedError: If a layer has buffers, which would hold what no noise covers.
    """

    def __init__(self, model: nn.Module, way: Literal["hooks", "functorch", "ghost"], clip_norm: float) -> None:
        self.weights = join_weights(model)
        self.clipped = way == "ghost"
        self._parameters = list(model.parameters())
        self._outputs: list[Tensor] = []
        self._ends: list[Tensor] = []
        if self.clipped:
            self._hooks = GradSampleHooksFastGradientClipping(model, max_grad_norm=clip_norm)
            for layer in model.modules():
                if isinstance(layer, nn.Embedding):  # Opacus 1.6 takes a view of its rows
                    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        else:
            self._hooks = GradSampleHooks(model, force_functorch=way == "functorch")
        model.register_forward_hook(self._cut_off)

    def take(self) -> Tensor:
        """The gradients `(N, P)` of the last backward pass of a loss that is the mean over N patients; N may be 0.

        Ghost clipping gives their clipped sum `(P,)`.
        """
        if not self._outputs:
            shape = self.weights.shape if self.clipped else (0, *self.weights.shape)
            return self.weights.new_zeros(shape)
        slopes = [torch.zeros_like(end) if end.grad is None else end.grad for end in self._ends]
        with warnings.catch_warnings():
            # that a first layer's inputs need no gradient, and that integers have no mixed precision
            warnings.simplefilter("ignore", UserWarning)
            torch.autograd.backward(self._outputs, slopes, retain_graph=self.clipped)
            found = self._clipped_sum(slopes) if self.clipped else self._of_each(len(slopes[0]))
        self._outputs, self._ends = [], []
        for parameter in self._parameters:
            parameter.grad = parameter.grad_sample = parameter._norm_sample = None  # type: ignore[attr-defined]
        return found.float()

    def _of_each(self, patients: int) -> Tensor:
        found = (p.grad_sample for p in self._parameters)  # type: ignore[attr-defined]
        parts = zip(found, self._parameters, strict=True)
        return torch.cat([p.new_zeros(patients, p.numel()) if g is None else g.flatten(1) for g, p in parts], dim=1)

    def _clipped_sum(self, slopes: list[Tensor]) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        factors = self._hooks.get_clipping_coef()  # (N,)
        self._hooks.disable_hooks()
        # the loss is a mean: each patient's own gradient is as many times larger as there are patients
        torch.autograd.backward(self._outputs, [len(factors) * factors[:, None] * slope for slope in slopes])
        self._hooks.enable_hooks()
        return torch.cat([p.grad.flatten() for p in self._parameters])  # type: ignore[union-attr]

    def _cut_off(self, model: nn.Module, inputs: tuple[object, ...], outputs: Outputs) -> Outputs | None:
        if not (model.training and torch.is_grad_enabled()):
            return None
        ends = {name: output.detach().requires_grad_() for name, output in outputs.items()}
        self._outputs, self._ends = list(outputs.values()), list(ends.values())
        return ends
