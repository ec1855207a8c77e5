import pytest
import torch

from shared_models.networks.standardisation import FixedStandardisation, standardise_on_made_up_patients
from shared_models.study_settings import StudySettings
from shared_models.task import Task, load_task, task_names

GRIDS = {
    "recurrence_mri": "mri: 8x12x12 at 8x5x5 mm",
    "receptors_dce_mri": "dce_mri: 8x12x12 at 6x6x6 mm",
    "receptors_brain_metastasis": "brain_mri: 8x8x8 at 4x4x4 mm",
    "subtype_histology": "tiles: 2x16x16 at 1x4x4 mm",
}


def study_of(name: str, **settings: str) -> tuple[Task, StudySettings]:
    modalities = {"modalities": "tiles, expression"} if name == "subtype_histology" else {}
    config = StudySettings(task=name, grids=GRIDS.get(name, ""), **modalities, **settings)
    return load_task(config), config


def test_features_are_centred_and_scaled_by_their_examples() -> None:
    layer, examples = FixedStandardisation(9), 5 + 3 * torch.randn(400, 9)
    layer.fit(examples)
    output = layer(examples)
    torch.testing.assert_close(output.mean(dim=0), torch.zeros(9), rtol=0, atol=1e-5)
    torch.testing.assert_close(output.std(dim=0), torch.full((9,), 9**-0.5), rtol=1e-4, atol=0)


def test_a_feature_that_is_the_same_for_all_examples_is_no_division_by_zero() -> None:
    layer = FixedStandardisation(2)
    layer.fit(torch.ones(16, 2))
    assert layer(torch.randn(3, 2)).isfinite().all()


@pytest.mark.parametrize("name", task_names())
def test_constants_are_of_no_patient_and_the_same_wherever_a_network_is_made(name: str) -> None:
    task, config = study_of(name)
    models = []
    for seed in (0, 1):
        torch.manual_seed(3)
        model = task.build_model(task, config)
        torch.manual_seed(seed)
        standardise_on_made_up_patients(model, task)
        models.append(model)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[key], second[key]) for key in first)
    fitted = [layer for layer in models[0].modules() if isinstance(layer, FixedStandardisation)]
    assert bool(fitted) == (name != "recurrence_clinical")
    assert all((layer.deviation > 0).all() and layer.centre.isfinite().all() for layer in fitted)
    assert all(layer.centre.any() for layer in fitted)
