from __future__ import annotations

from typing import Any

import pytest
import torch

from shared_models.class_weights import balanced_weights
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import Task, Volume, load_task, task_names

SUBTYPE = "subtype_histology"
NAN = float("nan")


def loaded(task: str = SUBTYPE, **settings: Any) -> Task:
    return load_task(StudySettings(task=task, **settings))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"task": "subtype_histolgy"}, "task: there is no task 'subtype_histolgy'; did you mean 'subtype_histology'?"),
        ({"modalities": "expresion"}, "modalities: subtype_histology has no 'expresion'; did you mean 'expression'?"),
        ({"modalities": "expression, x"}, "modalities: subtype_histology has no 'x'; choose from: expression, mirna"),
        ({"targets": "pam5"}, "targets: subtype_histology has no 'pam5'; did you mean 'pam50'?"),
        ({"features": "genes: ESR1"}, "features: subtype_histology has no table genes; it has expression"),
        ({"features": "mirna: hsa-mir-21"}, "features: subtype_histology has no table mirna; it has expression"),
    ],
)
def test_a_name_that_the_task_does_not_have_is_refused_with_the_nearest(settings: Any, complaint: str) -> None:
    with pytest.raises(SettingsError) as error:
        loaded(**settings)
    assert str(error.value).startswith(complaint)


def test_what_waits_for_a_request_takes_part_only_when_named() -> None:
    assert list(loaded().modalities) == ["tile_features", "expression"]
    assert list(loaded(modalities="mirna,tiles").modalities) == ["tiles", "mirna"]


@pytest.mark.parametrize("task", task_names())
def test_a_task_usually_takes_all_that_needs_no_request(task: str) -> None:
    usual = loaded(task)
    assert usual.modalities
    assert not set(usual.on_request) & set(usual.modalities)
    everything = loaded(task, modalities=", ".join((*usual.on_request, *usual.modalities)))
    assert set(everything.modalities) == {*usual.modalities, *usual.on_request}


def test_the_order_is_the_tasks_however_a_study_writes_it() -> None:
    task = loaded(modalities=" expression , tile_features", targets="pam50,basal_or_her2")
    assert list(task.modalities) == ["tile_features", "expression"]
    assert list(task.targets) == ["basal_or_her2", "pam50"]


def test_a_study_may_learn_some_targets_only() -> None:
    assert list(loaded(targets="pam50").targets) == ["pam50"]


def test_a_table_that_the_study_does_not_list_is_no_part_of_it_but_images_are() -> None:
    task = loaded(modalities="tile_features, expression, mirna", features="mirna: hsa-mir-21")
    assert list(task.modalities) == ["tile_features", "mirna"]
    assert task.tables["mirna"].width == 2


def test_the_studys_times_reach_the_targets() -> None:
    hazards = loaded("recurrence_clinical", time_edges_days="100, 200").targets["recurrence"]
    assert isinstance(hazards, TimeToEvent)
    assert hazards.edges_days == (100.0, 200.0)
    assert hazards.horizon_days == 200.0  # no later than the last interval's end
    for task in ("recurrence_clinical", "recurrence_mri", "relapse_mammogram"):
        (timed,) = loaded(task, horizon_days=1000.0).targets.values()
        assert isinstance(timed, TimeToEvent)
        assert timed.horizon_days == 1000.0
        (label,) = loaded(task, horizon_days=1000.0, outcome="binary").targets.values()
        assert label == Binary(horizon_days=1000.0)
    subtype = loaded(horizon_days=1000.0).targets["basal_or_her2"]
    assert isinstance(subtype, Binary)
    assert subtype.horizon_days is None


def test_a_study_chooses_the_grid_of_an_image() -> None:
    task = loaded("recurrence_mri", grids="mri: 16x32x30 at 4x2x2.1 mm")
    assert task.modalities["mri"] == Volume(shape=(4, 16, 32, 30), spacing_mm=(4.0, 2.0, 2.1))
    tumour = loaded("receptors_dce_mri", grids="\n dce_mri: 3x8x8 at 9x1x1 mm ; ").modalities["dce_mri"]
    assert tumour == Volume(shape=(2, 3, 8, 8), spacing_mm=(9.0, 1.0, 1.0), tumour=True)


@pytest.mark.parametrize("grids", ["mri", "mri: 16x32 at 4x2x2 mm", "mri: 16x32x32", "mri: 0x8x8 at 1x1x1 mm"])
def test_a_grid_that_cannot_be_read_says_how_to_write_one(grids: str) -> None:
    with pytest.raises(SettingsError, match="expected `modality: 16x32x32 at 4x2x2 mm`"):
        parse_study_settings({"task": "recurrence_mri", "grids": grids})


def test_only_an_image_of_the_study_has_a_grid() -> None:
    with pytest.raises(SettingsError, match="no image 'clinical' in this study; it has mri"):
        loaded("recurrence_mri", grids="clinical: 1x1x1 at 1x1x1 mm")
    with pytest.raises(SettingsError, match="it has none"):
        loaded("recurrence_mri", modalities="clinical", grids="mri: 1x1x1 at 1x1x1 mm")


TARGETS = {"er": Binary(), "subtype": Categorical(("a", "b", "c")), "ki67": Regression(scale=10.0)}
TRUTHS = {
    "er": torch.tensor([1.0, 0.0, NAN, 1.0]),
    "subtype": torch.tensor([2.0, NAN, NAN, 0.0]),
    "ki67": torch.tensor([20.0, 30.0, NAN, NAN]),
}


def task_of(**weights: float) -> Task:
    return Task(modalities={}, targets=TARGETS, build_model=lambda *_: torch.nn.Identity(), weights=weights)


def outputs() -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    return {name: torch.randn(4, target.outputs, generator=chance) for name, target in TARGETS.items()}


def test_the_loss_is_the_weighted_mean_over_all_targets_known_or_not() -> None:
    given_outputs = outputs()
    each = {name: target.loss(given_outputs[name], TRUTHS[name]) for name, target in TARGETS.items()}
    expected = (each["er"] + 2.0 * each["subtype"] + each["ki67"]) / 4.0
    loss = task_of(subtype=2.0).loss(given_outputs, TRUTHS)
    torch.testing.assert_close(loss, expected)
    assert loss[2] == 0


def test_class_weights_scale_the_loss_of_a_patients_own_class() -> None:
    given_outputs, weights = outputs(), {"er": torch.tensor([0.5, 3.0]), "subtype": torch.tensor([1.0, 0.0, 2.0])}
    each = {name: target.loss(given_outputs[name], TRUTHS[name]) for name, target in TARGETS.items()}
    expected = torch.tensor([3.0, 0.5, 0.0, 3.0]) * each["er"] + torch.tensor([2.0, 0.0, 0.0, 1.0]) * each["subtype"]
    torch.testing.assert_close(task_of().loss(given_outputs, TRUTHS, weights), (expected + each["ki67"]) / 3.0)
    torch.testing.assert_close(task_of().loss(given_outputs, TRUTHS, {}), task_of().loss(given_outputs, TRUTHS))


def test_an_unknown_class_teaches_nothing_whatever_its_weight() -> None:
    given_outputs = {name: value.requires_grad_() for name, value in outputs().items()}
    weights = {"er": torch.tensor([5.0, 1.0]), "subtype": torch.tensor([5.0, 1.0, 1.0])}
    task_of().loss(given_outputs, TRUTHS, weights).sum().backward()
    for name, value in given_outputs.items():
        assert value.grad is not None
        assert value.grad.isfinite().all()
        unknown = TRUTHS[name].isnan()
        assert not value.grad[unknown].any()
        assert value.grad[~unknown].any(dim=1).all()


def test_balanced_weights_make_the_mean_over_patients_that_over_classes() -> None:
    target, truth = Binary(), torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    output = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    task = Task(modalities={}, targets={"her2": target}, build_model=lambda *_: torch.nn.Identity())
    weights = torch.from_numpy(balanced_weights(target, target.counts(truth.numpy())))
    loss = target.loss(output, truth)
    expected = (loss[:1].mean() + loss[1:].mean()) / 2
    torch.testing.assert_close(task.loss({"her2": output}, {"her2": truth}, {"her2": weights}).mean(), expected)
