"""Gradients of single patients from one backward pass, against one patient at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from client.config.policy import Policy
from client.errors import SiteError
from client.training.dp import grad_sample_modes as ways
from client.training.dp.clipping import clip_and_sum
from client.training.dp.grad_sample_modes import GRAD_SAMPLE_MODES, make_gradients, require_right_gradients
from client.training.dp.mechanism import mechanism
from client.training.dp.opacus_grad_sample import OpacusGradients
from client.training.dp.outer_products import OuterProducts
from client.training.dp.per_sample import PatientGradients
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical, TimeToEvent
from shared_models.task import Table, Task, load_task, task_names

PATIENTS = 4
GRIDS = {
    "recurrence_mri": "mri: 8x8x8 at 4x4x4 mm",
    "receptors_dce_mri": "dce_mri: 8x16x16 at 4x4x4 mm",
    "receptors_brain_metastasis": "brain_mri: 8x8x8 at 4x4x4 mm",
}
LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (5,)),
    "linear over tokens": (lambda: nn.Linear(5, 3), (7, 5)),
    "linear over a grid": (lambda: nn.Linear(5, 3), (2, 7, 5)),
    "convolution 1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), (3, 9)),
    "convolution 1d, strided": (lambda: nn.Conv1d(3, 4, 3, stride=2), (3, 9)),
    "convolution 1d, dilated and grouped": (lambda: nn.Conv1d(4, 4, 3, dilation=2, groups=2), (4, 9)),
    "convolution 2d": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 8, 7)),
    "convolution 3d": (lambda: nn.Conv3d(2, 3, 3, padding=1, bias=False), (2, 5, 6, 7)),
    "large linear": (lambda: nn.Linear(80, 60), (80,)),
    "large linear over few tokens": (lambda: nn.Linear(80, 60), (4, 80)),
    "large convolution 1d in few places": (lambda: nn.Conv1d(40, 40, 3, stride=2), (40, 9)),
    "large convolution 2d in few places": (
        lambda: nn.Conv2d(20, 30, (3, 5), stride=(2, 1), padding=(1, 2)),
        (20, 3, 2),
    ),
    "large convolution 3d in few places": (lambda: nn.Conv3d(16, 16, 3, padding=1), (16, 2, 2, 2)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3, 3)),
    "layer norm": (lambda: nn.LayerNorm(5), (5,)),
    "layer norm over tokens": (lambda: nn.LayerNorm(5), (3, 5)),
}


def one_at_a_time(model, loss_of, parameters):
    """`(N, P)` by a backward pass for each patient."""
    rows = []
    for patient in range(PATIENTS):
        gradients = torch.autograd.grad(
            loss_of(model, slice(patient, patient + 1)).sum(), parameters, allow_unused=True
        )
        pairs = zip(gradients, parameters, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]))
    return torch.stack(rows)


def compare(model, loss_of, tolerance=1e-5, way="auto"):
    parameters = list(model.parameters())
    expected = one_at_a_time(model, loss_of, parameters)
    clip = expected.norm(dim=1).mean().item()  # some are clipped, and some are not
    clipped = clip_and_sum([expected], clip)
    gradients = make_gradients(model, way)
    for _ in range(2):
        loss_of(model, slice(None)).mean().backward()
        scale = clipped.abs().max()
        assert scale > 0
        assert (gradients.clipped_sum(clip) - clipped).abs().max() <= tolerance * scale
        if way == "auto":
            loss_of(model, slice(None)).mean().backward()
            joined = torch.cat(gradients.take(), dim=1)
            assert joined.shape == expected.shape
            assert (joined - expected).abs().max() <= tolerance * expected.abs().max()
    assert not gradients.clipped_sum(clip).any(), "a step must not see the gradients of the one before"


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_every_layer_by_itself(make, shape):
    torch.manual_seed(0)
    layer, inputs = make().train(), torch.randn(PATIENTS, *shape)
    weights = torch.randn_like(layer(inputs))
    compare(layer, lambda model, rows: ((model(inputs[rows]) * weights[rows]) ** 2).flatten(1).sum(dim=1))


@pytest.mark.parametrize("width", [4, 80])
def test_a_layer_used_twice_and_an_embedding(width):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.names, self.unused = nn.Linear(width, width), nn.Embedding(3, width), nn.Linear(2, 2)

        def forward(self, inputs):
            rows = torch.zeros(len(inputs), dtype=torch.long)
            return self.layer(torch.tanh(self.layer(inputs))) + self.names(rows)

    torch.manual_seed(0)
    inputs = torch.randn(PATIENTS, width)
    compare(Twice().train(), lambda model, rows: (model(inputs[rows]) ** 2).sum(dim=1))


def batch_of(task):
    generator = torch.Generator().manual_seed(1)
    inputs = {
        name: torch.randn(PATIENTS, *((kind.width,) if isinstance(kind, Table) else kind.shape), generator=generator)
        for name, kind in task.modalities.items()
    }
    present = (torch.rand(PATIENTS, len(inputs), generator=generator) < 0.7).float()
    truths = {}
    for name, target in task.targets.items():
        draw = torch.rand(PATIENTS, 2, generator=generator).round()
        timed, classes = isinstance(target, TimeToEvent), isinstance(target, Categorical)
        days_and_event = draw * torch.tensor([400.0, 1.0]) + torch.tensor([200.0, 0.0])
        truths[name] = days_and_event if timed else draw.sum(dim=1) if classes else draw[:, 0]
    return inputs, present, truths


@pytest.mark.parametrize(
    ("way", "fusion"), [("auto", "task"), ("auto", "late"), *((way, "task") for way in GRAD_SAMPLE_MODES[1:])]
)
@pytest.mark.parametrize("name", task_names())
def test_every_tasks_network(name, way, fusion):
    config = StudySettings(task=name, fusion=fusion, grids=GRIDS.get(name, ""))
    task = load_task(config)
    torch.manual_seed(0)
    model = task.build_model(task, config).train()
    with torch.no_grad():  # layers that start at zero would hide what lies before them
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    inputs, present, truths = batch_of(task)

    def loss_of(network, rows):
        outputs = network({key: value[rows] for key, value in inputs.items()}, present[rows])
        return task.loss(outputs, {key: value[rows] for key, value in truths.items()})

    # ghost clipping has a norm as the root of sums of products, in 32-bit floats, and clips to a little less
    compare(model, loss_of, tolerance=2e-3 if way == "ghost" else 2e-5, way=way)


def test_a_norm_of_products_that_cancel_is_never_too_small():
    """Two places whose slopes are opposite, and whose inputs differ by less and less, of which one is 1e8 large."""
    slopes = torch.randn(40, 1, 64, dtype=torch.float64).expand(-1, 2, -1) * torch.tensor([[1.0], [-1.0]]) * 1e4
    inputs = torch.randn(40, 1, 64, dtype=torch.float64).expand(-1, 2, -1) * 1e4
    inputs = inputs + torch.logspace(0, -9, 40)[:, None, None] * torch.tensor([[1.0], [0.0]])
    products = OuterProducts(slopes, inputs)
    made = (slopes[:, 0, :, None] * (inputs[:, 0] - inputs[:, 1])[:, None, :]).flatten(1)
    norms = made.norm(dim=1)
    assert (products.squared_norms().sqrt() >= norms * (1 - 1e-9)).all()
    assert (clip_and_sum([products], 1.0).norm() <= made.div(norms[:, None]).sum(dim=0).norm() * (1 + 1e-6)).all()


def test_the_network_and_the_vector_share_their_weights():
    model = nn.Sequential(nn.Linear(3, 2), nn.GroupNorm(1, 2))
    names, before = list(model.state_dict()), {k: v.clone() for k, v in model.state_dict().items()}
    gradients = PatientGradients(model)
    assert list(model.state_dict()) == names
    with torch.no_grad():
        gradients.weights.add_(1.0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name] + 1.0)


def test_a_layer_without_a_formula_is_refused():
    with pytest.raises(TypeError, match="BatchNorm1d"):
        PatientGradients(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_scoring_keeps_nothing():
    model = nn.Linear(2, 1)
    gradients = PatientGradients(model)
    with torch.no_grad():
        model(torch.ones(3, 2))
    model.eval()
    model(torch.ones(3, 2))
    assert [part.shape for part in gradients.take()] == [(0, 2), (0, 1)]


class Twice(nn.Module):
    """A linear layer that is used twice, which ghost clipping takes no account of."""

    def __init__(self, *_):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, inputs, present):
        return {"label": self.head(self.layer(torch.tanh(self.layer(inputs["clinical"]))))}


@pytest.fixture
def task_of(monkeypatch):
    def install(network):
        task = Task({"clinical": Table(tuple(map(Feature, "abc")))}, {"label": Binary()}, build_model=network)
        monkeypatch.setattr(ways, "load_task", lambda _: task)
        ways._problem.cache_clear()

    yield install
    ways._problem.cache_clear()


def test_a_way_that_fails_for_a_network_is_refused_and_the_others_are_named(task_of):
    task_of(Twice)
    for way in ("auto", "hooks", "functorch"):
        require_right_gradients(StudySettings(patient_gradients=way))
    with pytest.raises(SiteError, match="tying is not supported") as caught:
        mechanism(StudySettings(patient_gradients="ghost"), 100, Policy())  # which comes before the charge
    assert caught.value.public.endswith("those that are: auto, hooks, functorch")


class OverAGrid(Twice):
    """A linear layer over a grid, whose norm Opacus's ghost clipping leaves out."""

    def forward(self, inputs, present):
        grid = torch.tanh(inputs["clinical"])[:, None, None] * torch.ones(1, 2, 2, 1)
        return {"label": self.head(self.layer(grid).mean(dim=(1, 2)))}


class Mixing(Twice):
    """Patients that see each other."""

    def forward(self, inputs, present):
        hidden = self.layer(inputs["clinical"])
        return {"label": self.head(torch.tanh(hidden - hidden.mean(dim=0)))}


class MixingUnseen(Twice):
    """Patients that see each other where no gradient goes."""

    def forward(self, inputs, present):
        hidden = self.layer(inputs["clinical"])
        return {"label": self.head(torch.tanh(hidden - hidden.mean(dim=0).detach()))}


class OwnChance(Twice):
    """Dropout of torch's one stream for all patients."""

    def forward(self, inputs, present):
        return {"label": self.head(nn.functional.dropout(self.layer(inputs["clinical"]), 0.1))}


class OfTwoDimensions(Twice):
    """A dropout layer that no draws of patients are made for."""

    def __init__(self, *_):
        super().__init__()
        self.dropout = nn.Dropout1d(0.1)

    def forward(self, inputs, present):
        return {"label": self.head(self.dropout(self.layer(inputs["clinical"])[:, None])[:, 0])}


class Remembering(Twice):
    """A mean over patients, kept beside the weights."""

    def __init__(self, *_):
        super().__init__()
        self.register_buffer("seen", torch.zeros(6))

    def forward(self, inputs, present):
        self.seen += inputs["clinical"].sum(dim=0)
        return super().forward(inputs, present)


@pytest.mark.parametrize(
    ("network", "way", "why"),
    [
        (OverAGrid, "ghost", "_norm_sample"),
        (Mixing, "auto", "of their size off"),
        (Mixing, "functorch", "of their size off"),
        (Mixing, "ghost", "of their size off"),
        (MixingUnseen, "auto", "of their size off"),
        (MixingUnseen, "hooks", "of their size off"),
        (OwnChance, "auto", "random numbers of its own"),
        (OfTwoDimensions, "auto", "random numbers of its own"),
        (OfTwoDimensions, "hooks", "random numbers of its own"),
        (Remembering, "auto", "beside its weights"),
    ],
)
def test_gradients_that_would_be_wrong_are_refused(task_of, network, way, why):
    task_of(network)
    with pytest.raises(SiteError, match=why):
        require_right_gradients(StudySettings(patient_gradients=way))


def test_a_layer_that_ours_do_not_know_falls_to_opacus():
    unknown = nn.Sequential(nn.Linear(3, 2), nn.PReLU())
    assert isinstance(make_gradients(unknown, "auto"), OpacusGradients)
    assert isinstance(make_gradients(nn.Linear(3, 2), "auto"), PatientGradients)
