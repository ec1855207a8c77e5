"""Private rounds take nothing from a statistics generator: every task's, with all generators poisoned."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from client.config.policy import Policy
from client.training.dp.grad_sample_modes import GRAD_SAMPLE_MODES
from client.training.dp.mechanism import mechanism
from client.training.dp.optimizer import PrivateOptimizer
from client.training.dp.sampling import PoissonLoader
from client.training.loop import fit, make_optimizer
from shared_models.study_settings import StudySettings
from shared_models.task import load_task, task_names

SMALL = {
    "recurrence_mri": "mri: 8x8x8 at 4x4x4 mm",
    "receptors_dce_mri": "dce_mri: 8x16x16 at 4x4x4 mm",
    "receptors_brain_metastasis": "brain_mri: 8x8x8 at 4x4x4 mm",
}


GENERATORS = {
    torch: ("manual_seed", "seed", "rand", "randn", "randint", "randperm", "normal", "bernoulli"),
    np.random: ("default_rng", "seed", "rand", "randn", "random", "uniform", "normal", "choice", "permutation"),
    random: ("seed", "random", "randrange", "gauss", "shuffle", "sample"),
}


class NoRandomOperators(TorchDispatchMode):
    """Raises where torch, in Python or below it, draws a number of any of its generators."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        may_draw = torch.Tag.nondeterministic_seeded in operator.tags
        state = torch.random.get_rng_state() if may_draw else None
        result = operator(*args, **(kwargs or {}))
        if may_draw and not torch.equal(torch.random.get_rng_state(), state):  # attention without dropout draws nothing
            pytest.fail(f"{operator} takes numbers of torch's generator")
        return result


def refusing(name):
    """In the place of a function: a call fails the test."""

    def refuse(*_, **__):
        pytest.fail(f"a statistics generator was asked for: {name}")

    return refuse


@contextmanager
def poisoned():
    """Only for a block: pytest-randomly seeds the generators between the parts of a test."""
    with pytest.MonkeyPatch.context() as patch, NoRandomOperators():
        for module, names in GENERATORS.items():
            for name in names:
                patch.setattr(module, name, refusing(name))
        yield


def a_round(task, config, patients, model):
    asked = mechanism(config, len(patients), Policy(minimum_noise=0.1, epsilon_ceiling=1e6))
    optimizer, loader = PrivateOptimizer(model, config, asked), PoissonLoader(patients, asked)
    return fit(model, optimizer, loader, task, config, 1)


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, "auto") for name in task_names()), *(("recurrence_mri", way) for way in GRAD_SAMPLE_MODES[1:])],
)
def test_a_private_round_of_every_task(name, way, made_up):
    config = StudySettings(
        task=name,
        privacy="patient",
        grids=SMALL.get(name, ""),
        hidden_units=4,
        batch_size=3,
        local_epochs=2,
        patient_gradients=way,
    )
    task = load_task(config)
    patients, model = made_up(task, 6), task.build_model(task, config)
    mechanism(config, len(patients), Policy())  # the trial makes a network, whose layers draw their first weights
    before = torch.cat([value.detach().flatten().clone() for value in model.parameters()])
    with poisoned():
        a_round(task, config, patients, model)
    after = torch.cat([value.detach().flatten() for value in model.parameters()])
    assert after.isfinite().all()
    assert not torch.equal(after, before)


def test_the_poison_works(made_up):
    config = StudySettings(task="relapse_mammogram")
    task = load_task(config)
    patients, model = made_up(task, 6), task.build_model(task, config)
    batch = patients.__getitems__(range(3))
    with poisoned():
        with pytest.raises(pytest.fail.Exception, match=r"statistics generator"):
            fit(model, make_optimizer(model.parameters(), config), [batch], task, config, 1)
        with pytest.raises(pytest.fail.Exception, match="torch's generator"):
            torch.nn.functional.dropout(torch.ones(3), 0.5)
        with pytest.raises(pytest.fail.Exception, match="statistics generator"):
            replace(patients, seed=1).__getitems__(range(3))
