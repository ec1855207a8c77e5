import dataclasses

import pytest
import torch
from torch import Tensor, nn

from shared_models.study_settings import StudySettings
from shared_models.task import Bag, Table, Task, load_task

COUNT = 6
FUSIONS = ("task", "concatenation", "late")


def small(**settings: str) -> tuple[Task, nn.Module]:
    """The task with six tiles of 32 features and its network."""
    config = StudySettings(
        task="subtype_histology",
        **{"features": "expression: ESR1, ERBB2, KRT5", **settings},  # type: ignore[arg-type]
    )
    task = load_task(config)
    kinds = {key: Bag((6, 32)) if isinstance(kind, Bag) else kind for key, kind in task.modalities.items()}
    task = dataclasses.replace(task, modalities=kinds)
    torch.manual_seed(0)
    return task, task.build_model(task, config)


def patients(task: Task, count: int = COUNT) -> tuple[dict[str, Tensor], Tensor]:
    chance = torch.Generator().manual_seed(0)
    shapes = {key: (kind.width,) if isinstance(kind, Table) else kind.shape for key, kind in task.modalities.items()}
    inputs = {key: torch.randn(count, *shape, generator=chance) for key, shape in shapes.items()}
    return inputs, torch.ones(count, len(inputs))


def learn(task: Task, model: nn.Module, inputs: dict[str, Tensor], truth: Tensor, steps: int) -> float:
    """The last loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    present, loss = torch.ones(len(truth), len(inputs)), torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task.loss(model(inputs, present), {"basal_or_her2": truth}).mean()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_other_patients_images_change_the_output(fusion: str) -> None:
    task, model = small(fusion=fusion)
    inputs, present = patients(task)
    with torch.no_grad():
        for parameter in model.parameters():  # away from the zeros that the outputs start at
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.eval()
    shuffled = {**inputs, "tile_features": inputs["tile_features"].roll(1, dims=0)}
    for name, logits in model(inputs, present).items():
        assert (model(shuffled, present)[name] - logits).abs().amax(dim=1).min() > 1e-4


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_order_of_the_tiles_does_not(fusion: str) -> None:
    task, model = small(fusion=fusion)
    inputs, present = patients(task)
    model.eval()
    turned = {**inputs, "tile_features": inputs["tile_features"].flip(1)}
    for name, logits in model(inputs, present).items():
        torch.testing.assert_close(model(turned, present)[name], logits, rtol=1e-4, atol=1e-5)


def test_what_a_gene_means_may_depend_on_the_image_except_in_late_fusion() -> None:
    chance = torch.Generator().manual_seed(1)
    genes, look = (torch.randint(0, 2, (128,), generator=chance) * 2.0 - 1.0 for _ in range(2))
    losses = {}
    for fusion in ("task", "late"):
        task, model = small(fusion=fusion, targets="basal_or_her2")
        inputs, _ = patients(task, 128)
        inputs["expression"][:, 0] = genes
        inputs["tile_features"][:, :, :8] += 2.0 * look[:, None, None]
        losses[fusion] = learn(task, model.train(), inputs, (genes == look).float(), steps=60)
    assert losses["task"] < 0.5 * losses["late"]


@pytest.mark.parametrize("modalities", ["tile_features", "tiles", "expression"])
def test_one_modality_alone_attends_to_nothing(modalities: str) -> None:
    features = {"features": ""} if modalities != "expression" else {}
    task, model = small(modalities=modalities, **features)
    assert list(task.modalities) == [modalities]
    assert not [name for name, _ in model.named_parameters() if "attention" in name]
    inputs, present = patients(task, 2)
    assert all(logits.isfinite().all() for logits in model(inputs, present).values())


def test_only_the_fusion_of_the_task_attends() -> None:
    names = {fusion: {name.split(".")[0] for name in small(fusion=fusion)[1].state_dict()} for fusion in FUSIONS}
    assert names["task"] - names["concatenation"] == {"attention", "products"}
    assert names["late"] == {"tokens", "outputs"}


def test_genes_start_with_no_say_in_the_linear_path() -> None:
    _, model = small()
    assert not any(value.any() for name, value in model.state_dict().items() if name.startswith("wide."))


def test_pam50_and_the_two_groups_are_in_the_order_of_their_codes() -> None:
    task = load_task(StudySettings(task="subtype_histology"))
    assert list(task.targets) == ["basal_or_her2", "pam50"]
    assert task.targets["pam50"].classes == ("LumA", "LumB", "Her2", "Basal")  # type: ignore[union-attr]
    assert len(task.tables["expression"].features) == 50
    assert list(task.modalities) == ["tile_features", "expression"]
