"""Per-sample (per-patient) gradients from one backward pass, for private training, as one vector of all weights.

Opacus has hooks for this, too (client/training/dp/opacus_grad_sample.py). These are the fastest
(docs/privacy_cost.md), for four reasons: the weights lie in one vector, so that noise and the step are one operation
each instead of one for every layer; autograd does not compute the sum over the batch, which is not needed; a
convolution's gradients are one grouped convolution, or, where it is large and used in few places, are not made at all
(client/training/dp/outer_products.py).

The formulas are those of Goodfellow 2015 (arXiv:1510.01799) for linear layers and Rochette 2019 (arXiv:1912.06015) for
convolutions. `tests/client/training/dp/test_per_sample.py` compares every task's network with one patient at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional

from client.training.dp.clipping import Gradient, clip_and_sum
from client.training.dp.outer_products import OuterProducts, pays

LayerGradients = tuple[Gradient, ...]  # `(N, *shape)` of the layer's weight and, if it has one, bias


def join_weights(model: nn.Module) -> nn.Parameter:
    """All of a network's trained weights as one vector `(P,)`; from here on the network's own are views of it."""
    parameters = trained_parameters(model)
    weights = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    parts = torch.split(weights.data, [p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view_as(parameter)
    return weights


def trained_parameters(module: nn.Module, *, recurse: bool = True) -> list[nn.Parameter]:
    """The weights of a network, or of a layer alone, that are not frozen."""
    return [weight for weight in module.parameters(recurse=recurse) if weight.requires_grad]


def unknown_layers(model: nn.Module) -> list[str]:
    """The kinds of layers with trained weights that have no formula here."""
    own = {type(layer) for layer in model.modules() if trained_parameters(layer, recurse=False)}
    return sorted(kind.__name__ for kind in own - set(GRADIENTS))


class PatientGradients:
    """Hooks on a network whose batches have one row a patient; a layer may be used several times in a forward pass.

    From here on the network's weights are views of `weights` and have no gradient of their own.

    Args:
        model: Of layers in `GRADIENTS`; each mixes nothing between the rows of a batch.

    Attributes:
        weights: All weights, `(P,)`.

    Raises:
        TypeError: If a layer with weights has no formula here.
    """

    def __init__(self, model: nn.Module) -> None:
        if unknown := unknown_layers(model):
            msg = f"no gradients of single patients for {', '.join(unknown)}"
            raise TypeError(msg)
        self.weights = join_weights(model)
        self._parameters = trained_parameters(model)
        self._trained = frozenset(self._parameters)
        self._gradients: dict[nn.Parameter, Gradient] = {}
        for layer in model.modules():
            if trained_parameters(layer, recurse=False):
                own = tuple(layer.parameters(recurse=False))
                layer.register_forward_hook(partial(self._listen, own))
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def take(self) -> list[Tensor]:
        """The gradients of the last backward pass, `(N, p)` by parameter; its loss is the mean over N patients.

        N may be 0.
        """
        gradients = self._shares_of_mean()
        made = [gradient.made() if isinstance(gradient, OuterProducts) else gradient for gradient in gradients]
        return [len(gradient) * gradient for gradient in made]

    def clipped_sum(self, clip_norm: float) -> Tensor:
        """The clipped sum `(P,)` of the last backward pass's gradients, in float64."""
        gradients = self._shares_of_mean()
        patients = max(len(gradients[0]), 1)
        return clip_and_sum(gradients, clip_norm / patients).mul_(patients)

    def _shares_of_mean(self) -> list[Gradient]:
        """`(N, p)` by parameter: the gradients over N, since the loss is a mean."""
        patients = len(next(iter(self._gradients.values()), ()))
        zeros = (p.new_zeros(patients, p.numel()) if p not in self._gradients else None for p in self._parameters)
        gradients = [self._gradients.pop(p, zero) for p, zero in zip(self._parameters, zeros, strict=True)]
        return [one.flatten(1).float() if isinstance(one, Tensor) else one for one in gradients if one is not None]

    def _listen(self, own: tuple[nn.Parameter, ...], layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if not (layer.training and torch.is_grad_enabled()):
            return
        if not out.requires_grad:
            out.requires_grad_(True)
        out.register_hook(
            partial(  # type: ignore[no-untyped-call]
                self._add_gradient, own, layer, inputs[0].detach()
            )
        )

    def _add_gradient(self, own: tuple[nn.Parameter, ...], layer: nn.Module, inputs: Tensor, gradient: Tensor) -> None:
        gradients = GRADIENTS[type(layer)](layer, inputs, gradient)
        for parameter, one in zip(own, gradients, strict=True):
            if parameter in self._trained:
                before = self._gradients.get(parameter)
                self._gradients[parameter] = one if before is None else _added(before, one)


def _added(one: Gradient, other: Gradient) -> Gradient:
    """The gradients of a layer that is used twice."""
    if isinstance(one, OuterProducts) and isinstance(other, OuterProducts):
        return one.joined(other)
    first, second = (part.made() if isinstance(part, OuterProducts) else part.flatten(1) for part in (one, other))
    return first + second


def _linear(layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> LayerGradients:
    """Of inputs `(N, ..., I)` and outputs' gradients `(N, ..., O)`."""
    inputs, gradient = (part[:, None].flatten(1, -2) for part in (inputs.to(gradient.dtype), gradient))
    weight: Gradient = OuterProducts(gradient, inputs)
    if not pays(inputs.shape[1], layer.weight.numel()):
        weight = torch.einsum("nto,nti->noi", gradient, inputs)
    return (weight,) if layer.bias is None else (weight, gradient.sum(dim=1))


def _convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor, gradient: Tensor) -> LayerGradients:
    """Of inputs `(N, I, *size)` and outputs' gradients `(N, O, *size)`."""

    def of_one(image: Tensor, slope: Tensor) -> Tensor:
        no_padding = [0] * (image.ndim - 1)
        form = (layer.stride, layer.padding, layer.dilation, False, no_padding, layer.groups)
        only_weight = (False, True, False)
        own: Tensor = torch.ops.aten.convolution_backward(
            slope[None], image[None], layer.weight.to(slope.dtype), None, *form, only_weight
        )[1]
        return own

    inputs = inputs.to(gradient.dtype)
    plain = layer.groups == 1 and set(layer.dilation) == {1} and not isinstance(layer.padding, str)
    weight: Gradient
    if plain and pays(gradient[0, 0].numel(), layer.weight.numel()):
        weight = OuterProducts(gradient.flatten(2).transpose(1, 2), _windows(layer, inputs).flatten(2))
    elif plain and isinstance(layer, nn.Conv1d):
        weight = torch.einsum("nol,nlik->noik", gradient, _windows(layer, inputs))
    elif len(inputs):
        weight = vmap(of_one)(inputs, gradient)
    else:
        weight = gradient.new_zeros(0, *layer.weight.shape)
    return (weight,) if layer.bias is None else (weight, gradient.flatten(2).sum(dim=2))


def _windows(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor) -> Tensor:
    """`(N, L, I, *kernel_size)`: what lies under the kernel in each of its L places."""
    assert not isinstance(layer.padding, str)
    padding = [side for side in reversed(layer.padding) for _ in range(2)]
    windows, axes = functional.pad(inputs, padding), len(layer.kernel_size)
    for axis, (size, stride) in enumerate(zip(layer.kernel_size, layer.stride, strict=True), start=2):
        windows = windows.unfold(axis, size, stride)
    return windows.movedim(1, 1 + axes).flatten(1, axes)


def _group_norm(layer: nn.GroupNorm, inputs: Tensor, gradient: Tensor) -> LayerGradients:
    normal = functional.group_norm(inputs.to(gradient.dtype), layer.num_groups, eps=layer.eps)
    return (normal * gradient).flatten(2).sum(dim=2), gradient.flatten(2).sum(dim=2)


def _layer_norm(layer: nn.LayerNorm, inputs: Tensor, gradient: Tensor) -> LayerGradients:
    normal = functional.layer_norm(inputs.to(gradient.dtype), layer.normalized_shape, eps=layer.eps)
    shape = (len(gradient), -1, *layer.normalized_shape)
    return (normal * gradient).reshape(shape).sum(dim=1), gradient.reshape(shape).sum(dim=1)


def _embedding(layer: nn.Embedding, inputs: Tensor, gradient: Tensor) -> LayerGradients:
    rows = inputs.reshape(len(inputs), -1, 1).expand(-1, -1, layer.embedding_dim)
    sums = gradient.new_zeros(len(inputs), *layer.weight.shape)
    return (sums.scatter_add(1, rows, gradient.reshape(rows.shape)),)


GRADIENTS: Mapping[type[nn.Module], Callable[[Any, Tensor, Tensor], LayerGradients]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
}
