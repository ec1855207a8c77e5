"""What every file of `shared_models/tasks/` must keep, so that a new one trains with and without privacy."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, get_args

import pytest
import torch
from opacus import GradSampleModule, PrivacyEngine
from opacus.validators import ModuleValidator
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from server.study.weights.initial_weights import initial_model
from shared_models.study_settings import StudySettings
from shared_models.targets import Categorical, Regression, TimeToEvent
from shared_models.task import Bag, Modality, Table, Task, Volume, load_task, task_names

Batch = tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]
Gradients = dict[str, Tensor]

# What Opacus and torch say of themselves whenever per-sample gradients are taken.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Secure RNG turned off:UserWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha:UserWarning"),
]


def small(config: StudySettings) -> Task:
    """The task, its volumes and bags shrunk: what is tested here does not depend on their size."""
    task = load_task(config)
    return dataclasses.replace(task, modalities={key: shrunk(kind) for key, kind in task.modalities.items()})


def shrunk(kind: Modality) -> Modality:
    if isinstance(kind, Volume):
        return dataclasses.replace(kind, shape=(kind.shape[0], *(min(size, 12) for size in kind.shape[1:])))
    return Bag((min(kind.shape[0], 5), min(kind.shape[1], 32))) if isinstance(kind, Bag) else kind


def studies() -> dict[str, StudySettings]:
    """Each task with its usual modalities and with all, by every fusion that makes a network of its own."""
    settings: dict[str, StudySettings] = {}
    for name in task_names():
        networks = []
        for modalities, fusion in itertools.product(("", every_modality(name)), get_args(Fusion)):
            # hidden units beside the linear paths, which are always there
            config = StudySettings(task=name, modalities=modalities, fusion=fusion, hidden_units=8)
            task = small(config)
            network = {key: value.shape for key, value in task.build_model(task, config).state_dict().items()}
            if network not in networks:
                networks.append(network)
                settings[f"{name}, {fusion}{', all modalities' if modalities else ''}"] = config
    return settings


def every_modality(name: str) -> str:
    task = load_task(StudySettings(task=name))
    return ", ".join((*task.modalities, *task.on_request))


Fusion = StudySettings.model_fields["fusion"].annotation
STUDIES = studies()


@pytest.fixture(params=STUDIES.values(), ids=STUDIES)
def config(request: pytest.FixtureRequest) -> StudySettings:
    study: StudySettings = request.param
    return study


@pytest.fixture
def task(config: StudySettings) -> Task:
    return small(config)


@pytest.fixture
def model(task: Task, config: StudySettings) -> nn.Module:
    return trained(task, config)


def trained(task: Task, config: StudySettings) -> nn.Module:
    """A network some way from its start, where layers that start at zero would hide what depends on what."""
    torch.manual_seed(1)
    model = task.build_model(task, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def without_dropout(model: nn.Module) -> nn.Module:
    """In training mode, so that anything that mixes patients shows, but repeatable."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


def patients(task: Task, count: int, seed: int = 0) -> Batch:
    """Inputs, presence and truths of some patients; the first has every modality."""
    chance = torch.Generator().manual_seed(seed)
    inputs = {key: torch.randn(count, *input_shape(kind), generator=chance) for key, kind in task.modalities.items()}
    present = (torch.rand(count, len(task.modalities), generator=chance) < 0.7).float()
    present[:1] = 1.0
    return inputs, present, {key: truths(target, count, chance) for key, target in task.targets.items()}


def input_shape(kind: Any) -> tuple[int, ...]:
    return (kind.width,) if isinstance(kind, Table) else tuple(kind.shape)


def truths(target: Any, count: int, chance: torch.Generator) -> Tensor:
    draw = torch.rand(count, generator=chance)
    if isinstance(target, TimeToEvent):
        return torch.stack([draw * 3000 + 1, (torch.rand(count, generator=chance) < 0.6).float()], dim=1)
    if isinstance(target, Categorical):
        return (draw * target.outputs).floor()
    return 100 * draw if isinstance(target, Regression) else (draw < 0.5).float()


def rows(batch: Batch, index: slice) -> Batch:
    inputs, present, truth = batch
    return {k: v[index] for k, v in inputs.items()}, present[index], {k: v[index] for k, v in truth.items()}


def gradients(model: nn.Module, task: Task, batch: Batch) -> Gradients:
    """The gradient of the summed loss by each parameter, 0 where nothing reached it."""
    model.zero_grad()
    task.loss(model(batch[0], batch[1]), batch[2]).sum().backward()
    return {
        key: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for key, p in model.named_parameters()
    }


def test_outputs_have_their_shape_for_every_set_of_modalities_that_a_patient_may_have(
    task: Task, model: nn.Module
) -> None:
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=len(task.modalities))))
    inputs, _, truth = patients(task, len(masks))
    outputs = model(inputs, masks)
    assert set(outputs) == set(task.targets)
    for key, target in task.targets.items():
        assert outputs[key].shape == (len(masks), target.outputs)
    loss = task.loss(outputs, truth)
    assert loss.shape == (len(masks),)
    assert loss.isfinite().all()


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_of_one_and_an_empty_one_go_through(task: Task, model: nn.Module, count: int) -> None:
    batch = patients(task, count)
    assert all(len(output) == count for output in model(batch[0], batch[1]).values())
    assert all(gradient.isfinite().all() for gradient in gradients(model, task, batch).values())


def test_the_true_size_goes_through(config: StudySettings) -> None:
    task = load_task(config)
    inputs, present, _ = patients(task, 1)
    with torch.no_grad():
        assert all(output.isfinite().all() for output in task.build_model(task, config)(inputs, present).values())


def test_every_modality_reaches_the_outputs(task: Task, model: nn.Module) -> None:
    inputs, present, _ = patients(task, 1)
    model.eval()
    before = model(inputs, present)
    for key in task.modalities:
        after = model({**inputs, key: inputs[key] + 1.0 + inputs[key].abs()}, present)
        assert any((after[target] != before[target]).any() for target in task.targets), key


@pytest.mark.parametrize("fusion", get_args(Fusion))
@pytest.mark.parametrize("name", task_names())
def test_a_study_may_take_any_modalities_and_any_target(name: str, fusion: str) -> None:
    modalities, targets = every_modality(name).split(", "), list(load_task(StudySettings(task=name)).targets)
    subsets = [subset for count in range(len(modalities)) for subset in itertools.combinations(modalities, count + 1)]
    for subset, target in zip(subsets, itertools.cycle(targets), strict=False):
        config = StudySettings(task=name, modalities=", ".join(subset), targets=target, fusion=fusion)  # type: ignore[arg-type]
        task = small(config)
        model = trained(task, config)
        assert set(task.modalities) == set(subset)
        assert set(task.targets) == {target}
        assert ModuleValidator.validate(model, strict=False) == []
        batch = patients(task, 2)
        assert model(batch[0], batch[1])[target].shape == (2, task.targets[target].outputs)
        assert set(model.output_layers()) == {target}  # type: ignore[operator]
        per_parameter = gradients(model, task, batch)
        assert all(gradient.isfinite().all() for gradient in per_parameter.values())
        for modality in subset:
            assert any(per_parameter[key].any() for key in per_parameter if f".encoders.{modality}." in f".{key}"), (
                subset,
                modality,
            )


def test_opacus_accepts_the_network(model: nn.Module) -> None:
    assert ModuleValidator.validate(model, strict=False) == []
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_per_sample_gradients_are_those_of_each_patient_alone(task: Task, model: nn.Module) -> None:
    batch = patients(task, 4)
    model = without_dropout(model)
    alone = [gradients(model, task, rows(batch, slice(i, i + 1))) for i in range(4)]
    wrapped = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    task.loss(wrapped(batch[0], batch[1]), batch[2]).sum().backward()
    for key, parameter in wrapped.named_parameters():
        expected = torch.stack([one[key.removeprefix("_module.")] for one in alone])
        per_sample = parameter.grad_sample if parameter.grad_sample is not None else torch.zeros_like(expected)
        torch.testing.assert_close(
            per_sample, expected, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_one_patient_is_untouched_by_the_others_of_the_batch(task: Task, model: nn.Module) -> None:
    model = without_dropout(model)
    one, others = patients(task, 4), patients(task, 4, seed=9)
    mixed: Batch = (
        {key: torch.cat([value[:1], 50 * others[0][key][1:]]) for key, value in one[0].items()},
        torch.cat([one[1][:1], 1 - one[1][1:]]),
        {key: torch.cat([value[:1], others[2][key][1:]]) for key, value in one[2].items()},
    )
    results = []
    for batch in (one, mixed):
        model.zero_grad()
        loss = task.loss(model(batch[0], batch[1]), batch[2])[0]
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_one_private_step_is_taken_and_the_weights_keep_their_names(task: Task, model: nn.Module) -> None:
    inputs, present, truth = patients(task, 8)
    flat = TensorDataset(*inputs.values(), present, *truth.values())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    private, optimizer, loader = PrivacyEngine().make_private(
        module=model.train(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=DataLoader(flat, batch_size=4),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=True,
    )
    batch = next(iter(loader))
    count = len(inputs)
    optimizer.zero_grad()
    outputs = private(dict(zip(inputs, batch[:count], strict=True)), batch[count])
    task.loss(outputs, dict(zip(truth, batch[count + 1 :], strict=True))).mean().backward()
    optimizer.step()
    after = {key.removeprefix("_module."): value for key, value in private.state_dict().items()}
    assert list(after) == list(before)
    assert all((after[key] != before[key]).any() for key, _ in model.named_parameters())
    assert all(value.isfinite().all() for value in after.values())


def test_weights_survive_a_file(task: Task, config: StudySettings, model: nn.Module) -> None:
    again = task.build_model(task, config)
    again.load_state_dict(load(save(model.state_dict())))
    inputs, present, _ = patients(task, 3)
    for one, other in zip(model.eval()(inputs, present).values(), again.eval()(inputs, present).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_extreme_inputs_give_finite_losses_and_gradients(task: Task, model: nn.Module) -> None:
    inputs, present, truth = patients(task, 4)
    for scale in (1e6, -1e6, 0.0):
        batch = ({key: torch.sign(value) * scale for key, value in inputs.items()}, present, truth)
        assert task.loss(model(batch[0], batch[1]), truth).isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients(model, task, batch).values())


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf")])
def test_what_stands_in_place_of_an_absent_modality_is_never_looked_at(
    task: Task, model: nn.Module, rubbish: float
) -> None:
    model = without_dropout(model)
    inputs, present, truth = patients(task, 6)
    present[1:] = (torch.rand(5, len(task.modalities), generator=torch.Generator().manual_seed(2)) < 0.5).float()
    spoilt = {key: value.clone() for key, value in inputs.items()}
    for index, value in enumerate(spoilt.values()):
        value[present[:, index] == 0] = rubbish
    clean, spoilt_gradients = (gradients(model, task, (values, present, truth)) for values in (inputs, spoilt))
    for key in clean:
        torch.testing.assert_close(spoilt_gradients[key], clean[key], rtol=0, atol=0)
    for one, other in zip(model(inputs, present).values(), model(spoilt, present).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_an_unknown_outcome_teaches_nothing(task: Task, model: nn.Module) -> None:
    inputs, present, truth = patients(task, 3)
    unknown = {key: torch.full_like(value, float("nan")) for key, value in truth.items()}
    assert all((gradient == 0).all() for gradient in gradients(model, task, (inputs, present, unknown)).values())


def test_the_seed_decides_the_first_weights_and_the_callers_chance_goes_on(task: Task, config: StudySettings) -> None:
    chance = torch.Generator().manual_seed(0)
    counts = {
        key: target.counts(truths(target, 40, chance).numpy().astype("float64")) for key, target in task.targets.items()
    }
    state = torch.random.get_rng_state()
    one, same = (initial_model(task, config, counts) for _ in range(2))
    other = initial_model(task, config.model_copy(update={"seed": 1}), counts)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all((one[key] == same[key]).all() for key in one)
    random = any(
        parameter.std() > 0 for parameter in task.build_model(task, config).parameters() if parameter.dim() > 1
    )
    assert any((one[key] != other[key]).any() for key in one) or not random


def test_each_target_names_the_layer_whose_bias_starts_at_its_base_rate(task: Task, model: nn.Module) -> None:
    layers: Mapping[str, nn.Linear] = model.output_layers()  # type: ignore[operator]
    assert set(layers) == set(task.targets)
    inputs, present, _ = patients(task, 2)
    model.eval()
    before = model(inputs, present)
    for key, layer in layers.items():
        assert layer.bias.shape == (task.targets[key].outputs,)
        with torch.no_grad():
            layer.bias.add_(1.0)
            after = model(inputs, present)
            layer.bias.sub_(1.0)
        torch.testing.assert_close(after[key], before[key] + 1.0, rtol=1e-4, atol=1e-4)
        for other in set(task.targets) - {key}:
            torch.testing.assert_close(after[other], before[other])


def test_what_only_owners_of_a_modality_train_is_averaged_over_them_only(task: Task, model: nn.Module) -> None:
    model = without_dropout(model)
    names = [key for key, _ in model.named_parameters()]
    owned = {modality: {key for key in names if f".encoders.{modality}." in f".{key}"} for modality in task.modalities}
    assert all(owned.values()), "a modality has no parameters under `encoders.NAME.`"
    inputs, _, truth = patients(task, 6)
    everything = torch.ones(6, len(task.modalities))
    reached = {key for key, value in gradients(model, task, (inputs, everything, truth)).items() if value.any()}
    for index, modality in enumerate(task.modalities):
        present = everything.clone()
        present[:, index] = 0.0
        without = gradients(model, task, (inputs, present, truth))
        still = {key for key in reached if not without[key].any()}
        assert still == owned[modality] & reached, modality


def test_a_task_stands_under_its_files_name() -> None:
    for name in task_names():
        assert load_task(StudySettings(task=name)).name == name
