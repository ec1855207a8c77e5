"""Who is drawn, and what is random about them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.training.dp import randomness
from client.training.dp.mechanism import Mechanism
from client.training.dp.sampling import PoissonLoader
from shared_models.study_settings import StudySettings
from shared_models.task import load_task

TASK = load_task(StudySettings(task="relapse_mammogram", outcome="binary"))


def batches(patients, asked):
    return list(PoissonLoader(patients, asked))


def known_keys(monkeypatch):
    keys = itertools.count()
    monkeypatch.setattr(randomness.os, "urandom", lambda count: next(keys).to_bytes(count, "little"))


def test_each_patient_is_drawn_by_itself_with_the_sampling_rate(made_up):
    asked = Mechanism(200, 1.0, 1.0, 0.1, 300, 1)
    patients = made_up(TASK, 200)
    patients.truths["relapse"][:] = np.arange(200)
    sampled = [batch[2]["relapse"].long().numpy() for batch in batches(patients, asked)]
    sizes = np.array([len(batch) for batch in sampled])
    assert len(sizes) == 300
    assert sizes.mean() == pytest.approx(20, abs=4 * math.sqrt(18 / 300))
    assert sizes.var() == pytest.approx(18, rel=0.35)
    often = np.bincount(np.concatenate(sampled), minlength=200)
    assert often.mean() == pytest.approx(30, rel=0.1)
    assert often.var() == pytest.approx(27, rel=0.4)


def test_who_is_drawn_follows_no_seed_that_a_center_knows(made_up):
    asked, patients = Mechanism(50, 1.0, 1.0, 0.5, 4, 1), made_up(TASK, 50)
    first, second = (torch.cat([batch[0]["mammography"] for batch in batches(patients, asked)]) for _ in range(2))
    assert first.shape != second.shape or not torch.equal(first, second)


def test_a_second_pass_has_new_draws_of_the_patients(made_up):
    loader = PoissonLoader(made_up(TASK, 6), Mechanism(6, 1.0, 1.0, 1.0, 2, 2))
    numbers = torch.stack([batch[3].uniform(3) for _ in range(2) for batch in loader])
    assert numbers.unique().numel() == numbers.numel()


def test_another_patient_changes_nothing_of_the_others_batches(made_up, leave_out, monkeypatch):
    """Nor whether they are drawn, nor which of their lesions, nor what is random about them."""
    patients, asked = made_up(TASK, 12), Mechanism(12, 1.0, 1.0, 0.5, 8, 1)
    patients.truths["relapse"][:] = np.arange(12)
    known_keys(monkeypatch)
    everybody = batches(patients, asked)
    for number in (0, 5, 11):
        known_keys(monkeypatch)
        for (inputs, present, truths, own), (fewer, their, others, same) in zip(
            everybody, batches(leave_out(patients, number), asked), strict=True
        ):
            without = truths["relapse"] != number
            assert torch.equal(truths["relapse"][without], others["relapse"])
            assert torch.equal(inputs["mammography"][without], fewer["mammography"])
            assert torch.equal(present[without], their)
            position = own.position
            assert torch.equal(own.of(without.numpy(), position).uniform(4), same.uniform(4))


def test_lesions_are_drawn_by_their_weights(made_up):
    patients = made_up(TASK, 1)
    weights = np.array([1.0, 0.0, 3.0])
    patients = replace(
        patients,
        inputs={"mammography": np.tile(np.arange(3, dtype=np.float32)[:, None], (1, 34))},
        present=np.ones((3, 1), bool),
        first=np.array([0, 3]),
        sampling_weight=weights,
    )
    asked = Mechanism(1, 1.0, 1.0, 1.0, 2000, 1)
    rows = torch.cat([batch[0]["mammography"][:, 0] for batch in PoissonLoader(patients, asked)]).long()
    shares = torch.bincount(rows, minlength=3) / 2000
    assert shares[1] == 0
    assert shares[2].item() == pytest.approx(0.75, abs=0.04)
