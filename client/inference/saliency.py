"""Maps of a finished network: how much each voxel of a patient's image moves its output, and where it looks.

The first is the mean absolute gradient of the output by the voxels over copies of the image with a little noise
(SmoothGrad, Smilkov 2017, arXiv:1706.03825), summed over the image's phases. It shows where a small change would change
the output, which is not where the disease is. The second is the attention of a network that has one
(`attention.py`). Maps are drawn at the hospital and never leave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.cohort.load import EVERYONE
from client.errors import ExitCode, SiteError
from client.inference.attention import attention
from client.inference.scored_cohort import ScoredCohort
from client.training.dataset import PatientDataset, select_patients
from shared_models.targets import Categorical, Target
from shared_models.task import Volume
from shared_models.trained_model import TrainedModel

COPIES, NOISE = 8, 0.1
"""Noisy copies of an image, and their noise in standard deviations of each phase's voxels."""
MAX_PATIENTS = 20


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """The map of one image, of one target or of the network's attention.

    Attributes:
        patient: The identifier, which stays at the hospital.
        modality: The image.
        target: The target whose output it is of; empty of attention, which is of all of them.
        image: `(C, D, H, W)` as the network reads it; of a tumour the last channel is the distance to its surface.
        heat: `(D, H, W)`, not negative.
        ratio: Mean heat inside the tumour's mask over that outside; NaN without a mask.
    """

    patient: str
    modality: str
    target: str
    image: NDArray[np.float32]
    heat: NDArray[np.float32]
    ratio: float


def require_images(model: TrainedModel) -> None:
    """Refuses a network without images.

    Raises:
        SiteError: If it is one.
    """
    if not any(isinstance(kind, Volume) for kind in model.task.modalities.values()):
        raise SiteError(
            what="the network reads no image, and only images have saliency maps",
            where="--maps",
            found=", ".join(model.task.modalities),
            fix='leave --maps out; a study with importance = "features" or "shap" says which features it uses',
            exit_code=ExitCode.USAGE,
        )


def saliency_maps(model: TrainedModel, scored: ScoredCohort) -> Iterator[SaliencyMap]:
    """Maps of the first patients with an image, for each image and target, and of the attention to it.

    Args:
        model: The network.
        scored: Its patients, as they were scored.
    """
    network = scored.network.eval()
    patients = select_patients(scored.cohort, EVERYONE, model.task, model.statistics.features)
    for name, kind in model.task.modalities.items():
        if not isinstance(kind, Volume):
            continue
        column = list(model.task.modalities).index(name)
        with_image = np.flatnonzero(scored.cohort.present[:, column])  # lesions or views
        owners, first = np.unique(np.searchsorted(scored.cohort.first, with_image, side="right") - 1, return_index=True)
        for owner, row in zip(owners[:MAX_PATIENTS], with_image[first], strict=False):
            patient = scored.cohort.patients[owner]
            for target_name, target in model.task.targets.items():
                image, heat = saliency(network, patients, int(row), name, (target_name, target), kind.tumour)
                yield SaliencyMap(patient, name, target_name, image, heat, _ratio(image, heat, kind.tumour))
            if (looks := attention(network, patients, int(row), name, model.task)) is not None:
                yield SaliencyMap(patient, name, "", image, looks, _ratio(image, looks, kind.tumour))


def saliency(
    network: nn.Module, patients: PatientDataset, row: int, modality: str, of: tuple[str, Target], tumour: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One image `(C, D, H, W)` and its map `(D, H, W)`.

    Args:
        network: In evaluation mode.
        patients: Whose rows can be read.
        row: The image's.
        modality: The image.
        of: The target, and its name.
        tumour: Whether the last channel is the distance to the tumour's surface, which is no image.
    """
    inputs, present = patients.read(np.array([row]))
    device, name, target = next(network.parameters()).device, *of
    image = inputs[modality].to(device)
    others = {key: value.to(device) for key, value in inputs.items()}
    generator, total = torch.Generator().manual_seed(0), torch.zeros_like(image)
    deviation = NOISE * image.std(dim=(2, 3, 4), keepdim=True)
    if tumour:
        deviation[:, -1] = 0  # millimetres, which vary far more than the image does
    for _ in range(COPIES):
        noise = torch.randn(image.shape, generator=generator).to(device) * deviation
        noisy = (image + noise).requires_grad_(True)
        output = network({**others, modality: noisy}, present.to(device))[name]
        (gradient,) = torch.autograd.grad(_scalar(target, output), noisy)
        total += gradient.abs() / COPIES
    channels = total[0, :-1] if tumour else total[0]
    return image[0].cpu().numpy(), channels.sum(dim=0).cpu().numpy()


def _scalar(target: Target, output: Tensor) -> Tensor:
    """What is explained: the likeliest class's output, or the sum of outputs, which orders patients by risk."""
    return output.max() if isinstance(target, Categorical) else output.sum()


def _ratio(image: NDArray[Any], heat: NDArray[Any], tumour: bool) -> float:
    inside = image[-1] >= 0 if tumour else np.zeros(heat.shape, dtype=bool)
    if not inside.any() or inside.all() or not heat[~inside].mean() > 0:
        return float("nan")
    return float(heat[inside].mean() / heat[~inside].mean())
