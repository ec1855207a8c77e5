"""Gradient inversion for `privacy_audit.py`: a patient's image reconstructed from a site's update.

Inverting gradients (Geiping 2020, arXiv:2003.14053): find the image whose gradient has the direction of the update,
by Adam on 1 - cosine similarity plus total variation, from the mean image of other patients. The attacker is given all
but the image: network, outcomes, the tumour's outline, and the steps that were taken.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from client.cohort.load import load_cohort
from client.config.site import load_site
from client.training.dataset import PatientDataset, make_loader, select_patients
from client.training.dp.mechanism import Mechanism
from client.training.dp.optimizer import PrivateOptimizer
from client.training.dp.sampling import PoissonLoader
from client.training.loop import fit, make_optimizer
from shared_models.study_settings import StudySettings
from shared_models.task import Task, load_task
from simulation.cohorts.breast_mri import cohort as synthetic
from simulation.cohorts.sites import SITES

IMAGE = "dce_mri"
STUDY = StudySettings(
    task="receptors_dce_mri",
    grids=f"{IMAGE}: 8x12x12 at 4x3x3 mm",
    optimizer="sgd",
    learning_rate=0.2,
    weight_decay=0.0,
    modality_dropout=0.0,
    batch_size=8,
    validation_fraction=0.0,
    test_fraction=0.0,
)
SMOOTHNESS = 0.01
STEP = 0.05


@dataclass(frozen=True)
class Likeness:
    """How near an image comes to the true one.

    Attributes:
        correlation: Pearson's, over voxels.
        psnr_db: Peak signal to noise ratio.
        ssim: Structural similarity (Wang 2004, 10.1109/TIP.2003.819861), in windows of five voxels.
    """

    correlation: float
    psnr_db: float
    ssim: float


def imaging(count: int, seed: int) -> tuple[PatientDataset, Task]:
    """Patients of a synthetic hospital with one MRI each, read as a site reads them."""
    task = load_task(STUDY)
    with tempfile.TemporaryDirectory() as folder:
        site = dataclasses.replace(SITES[0], patients=count)
        file = synthetic.write_cohort(Path(folder), [site], seed)[0]
        cohort = load_cohort(load_site(file), task, STUDY)
        cohort = replace(cohort, inputs={name: np.array(array) for name, array in cohort.inputs.items()})
    return select_patients(cohort, "train", task, {}, seed), task


def update(patients: PatientDataset, task: Task, model: nn.Module, noise_multiplier: float = 0.0) -> Tensor:
    """What a hospital's pass over its patients adds to the weights, `(weights,)`."""
    trained = copy.deepcopy(model)
    before = _flat(trained.parameters())
    if noise_multiplier:
        rate = min(1.0, STUDY.batch_size / len(patients))
        asked = Mechanism(len(patients), STUDY.clip_norm, noise_multiplier, rate, round(1 / rate), 1)
        private = STUDY.model_copy(update={"privacy": "patient"})
        fit(trained, PrivateOptimizer(trained, private, asked), PoissonLoader(patients, asked), task, private, seed=0)
    else:
        optimizer = make_optimizer(trained.parameters(), STUDY)
        fit(trained, optimizer, make_loader(patients, STUDY, 0), task, STUDY, seed=0)
    return _flat(trained.parameters()) - before


def reconstruct(
    sent: Tensor,
    patient: PatientDataset,
    start: Tensor,
    task: Task,
    model: nn.Module,
    steps: int,
    done: Callable[[], object],
) -> Tensor:
    """The image `(1, 1, D, H, W)` whose gradient points most against the update.

    Args:
        sent: The update `(weights,)`.
        patient: Whose image is looked for: all but that is taken from here.
        start: The image to start from, `(1, 1, D, H, W)`.
        task: The task.
        model: The network as it was sent out.
        steps: Of Adam.
        done: Called after each.
    """
    inputs, present, truths = patient.__getitems__([0])
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], STEP)
    weights = list(model.train().parameters())
    for _ in range(steps):
        guess = {IMAGE: torch.cat([image, inputs[IMAGE][:, 1:]], dim=1)}
        loss = task.loss(model(guess, present), truths).mean()
        gradient = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True, materialize_grads=True)
        apart = 1 - torch.cosine_similarity(_flat(gradient), -sent, dim=0)
        rough = sum(image.diff(dim=axis).abs().mean() for axis in (2, 3, 4))
        (image.grad,) = torch.autograd.grad(apart + SMOOTHNESS * rough, image)
        optimizer.step()
        done()
    return image.detach()


def image_of(patients: PatientDataset) -> Tensor:
    """The true images, `(P, 1, D, H, W)`."""
    return patients.__getitems__(range(len(patients)))[0][IMAGE][:, :1]


def likeness(image: Tensor, true: Tensor) -> Likeness:
    """How near `image` comes to `true`, both `(1, 1, D, H, W)`."""
    from monai.metrics.regression import SSIMMetric

    span = float(true.max() - true.min())
    correlation = float(np.corrcoef(image.flatten(), true.flatten())[0, 1])
    psnr_db = 10 * np.log10(span**2 / float(torch.mean((image - true) ** 2)))
    ssim = float(SSIMMetric(spatial_dims=3, data_range=span, win_size=5)(image, true))
    return Likeness(correlation, psnr_db, ssim)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
