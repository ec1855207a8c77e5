"""The receptor tasks' studies: each fusion, baseline and voxel size, beside what every task keeps."""

import copy
from typing import Any

import pytest
import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from shared_models.modalities import FAR_INSIDE_MM
from shared_models.study_settings import StudySettings
from shared_models.task import Table, Task, Volume, load_task

pytestmark = [
    pytest.mark.filterwarnings("ignore:Secure RNG turned off:UserWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

DCE, BRAIN = "receptors_dce_mri", "receptors_brain_metastasis"
STUDIES: dict[str, dict[str, Any]] = {
    "dce": {"task": DCE},
    "dce, late": {"task": DCE, "fusion": "late"},
    "dce, concatenation": {"task": DCE, "fusion": "concatenation"},
    "dce, one target": {"task": DCE, "targets": "er"},
    "radiomics": {"task": DCE, "modalities": "radiomics"},
    "dce and radiomics": {"task": DCE, "modalities": "dce_mri, radiomics", "fusion": "late"},
    "brain": {"task": BRAIN},
    "brain, late": {"task": BRAIN, "fusion": "late"},
    "brain, concatenation": {"task": BRAIN, "fusion": "concatenation"},
    "brain, image only": {"task": BRAIN, "modalities": "brain_mri", "targets": "er, her2"},
}


def study_of(factor: float = 4.0, **settings: Any) -> tuple[Task, nn.Module]:
    """A study on voxels `factor` times as long as the task's own."""
    torch.manual_seed(0)
    grids = [
        f"{name}: {'x'.join(str(round(n / factor)) for n in kind.shape[1:])} at {factor}x{factor}x{factor} mm"
        for name, kind in load_task(StudySettings(**settings)).modalities.items()
        if isinstance(kind, Volume)
    ]
    config = StudySettings(**settings, grids="; ".join(grids), hidden_units=4)
    task = load_task(config)
    model = task.build_model(task, config)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return task, model


def lesions(task: Task, count: int) -> tuple[dict[str, Tensor], Tensor]:
    """Noise with a ball of 4 to 12 mm in the middle; the first image has no mask."""
    inputs = {}
    for name, kind in task.modalities.items():
        if isinstance(kind, Table):
            inputs[name] = torch.randn(count, kind.width)
            continue
        axes = [
            (torch.arange(size) - (size - 1) / 2) * step
            for size, step in zip(kind.shape[1:], kind.spacing_mm, strict=True)
        ]
        far = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(dim=0).sqrt()
        distance = torch.linspace(4, 12, count).view(-1, 1, 1, 1) - far
        distance[:1] = FAR_INSIDE_MM
        inputs[name] = torch.stack([torch.randn(distance.shape), distance], dim=1)
    present = torch.ones(count, len(task.modalities))
    if len(task.modalities) > 1:
        present[-1, 0] = 0.0
    return inputs, present


@pytest.mark.parametrize("study", STUDIES)
def test_per_sample_gradients_are_those_of_each_patient_alone(study: str) -> None:
    task, model = study_of(**STUDIES[study])
    with torch.no_grad():
        for parameter in model.parameters():  # away from the zeros that some start at
            parameter.add_(0.05 * torch.randn_like(parameter))
    inputs, present = lesions(task, 3)
    truths = {name: torch.tensor([0.0, 1.0, 1.0]) for name in task.targets}
    wrapped = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    task.loss(wrapped(inputs, present), truths).sum().backward()
    for row in range(3):
        model.zero_grad()
        alone = model({name: values[row : row + 1] for name, values in inputs.items()}, present[row : row + 1])
        task.loss(alone, {name: truth[row : row + 1] for name, truth in truths.items()}).sum().backward()
        for (name, parameter), private in zip(model.named_parameters(), wrapped.parameters(), strict=True):
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = torch.zeros_like(parameter) if private.grad_sample is None else private.grad_sample[row]
            torch.testing.assert_close(
                gradient, expected, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
            )


@pytest.mark.parametrize("study", STUDIES)
def test_a_base_rate_shifts_its_own_target(study: str) -> None:
    task, model = study_of(**STUDIES[study])
    inputs, present = lesions(task, 2)
    before = model(inputs, present)
    assert list(before) == list(task.targets)
    first = next(iter(task.targets))
    with torch.no_grad():
        model.output_layers()[first].bias.add_(1.0)  # type: ignore[operator]
    after = model(inputs, present)
    for name in task.targets:
        torch.testing.assert_close(after[name] - before[name], torch.full((2, 1), float(name == first)))


@pytest.mark.parametrize("name", [DCE, BRAIN])
@pytest.mark.parametrize("factor", [1.5, 3.0, 8.0])
def test_other_voxels_go_through(name: str, factor: float) -> None:
    task, model = study_of(factor=factor, task=name)
    inputs, present = lesions(task, 2)
    assert all(output.isfinite().all() for output in model(inputs, present).values())


def test_ki67_weighs_as_much_as_two_receptors() -> None:
    task, _ = study_of(task=DCE)
    outputs = {name: torch.zeros(1, 1) for name in task.targets}
    truths = {name: torch.tensor([float("nan")]) for name in task.targets}
    loss = task.loss(outputs, {**truths, "ki67_percent": torch.tensor([10.0])})
    torch.testing.assert_close(loss, torch.tensor([2 * 0.5 * 0.5**2 / 5]))  # 20 points count as 1


@pytest.mark.parametrize("study", ["dce", "dce, concatenation", "dce, late", "brain", "brain, late"])
def test_the_loss_falls(study: str) -> None:
    task, model = study_of(factor=12.0 if study.startswith("dce") else 6.0, **STUDIES[study])
    inputs, present = lesions(task, 4)
    positive = (torch.arange(4) % 2).float()
    truths = {name: 100 * positive if name == "ki67_percent" else positive for name in task.targets}
    image = inputs["dce_mri" if "dce_mri" in inputs else "brain_mri"]
    image[:, 0] += 3.0 * positive.view(-1, 1, 1, 1) * (image[:, 1] > 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = task.loss(model(inputs, present), truths).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
