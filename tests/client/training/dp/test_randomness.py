"""The keystream's noise, and the draws of patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.stats import kstest, norm

from client.training.dp import randomness
from client.training.dp.randomness import (
    PatientDraws,
    add_noise,
    fingerprints,
    patient_draws,
    secret_key,
    standard_normals,
)

KEY = bytes(range(32))
NAMES = ["anna", "berta", "clara", "dora"]


def test_the_noise_is_gaussian_and_one_number_tells_nothing_of_the_next():
    numbers = standard_normals(400_000, KEY).numpy()
    assert kstest(numbers, "norm").pvalue > 1e-3
    assert numbers.std() == pytest.approx(1.0, abs=0.005)
    assert np.mean(np.abs(numbers) > 4.0) == pytest.approx(2 * norm.sf(4.0), rel=0.5)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.006
    halves = numbers[: 2 * (len(numbers) // 2)].reshape(2, -1)
    assert abs(np.corrcoef(np.abs(halves))[0, 1]) < 0.008


def test_each_number_is_the_sum_of_two_gaussians_from_the_bits_of_aes_256_in_counter_mode():
    count = 5
    stream = Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(16 * count))
    words = np.frombuffer(stream, dtype=np.int64).reshape(2, count) >> 12
    expected = norm.ppf((words + 2**51 + 0.5) / 2**52).sum(axis=0) / math.sqrt(2)
    np.testing.assert_allclose(standard_normals(count, KEY), expected, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 5, randomness.CHUNK, randomness.CHUNK + 1, 3 * randomness.CHUNK - 1])
def test_any_number_of_them_can_be_had_and_a_key_gives_the_same_ones(count):
    numbers = standard_normals(count, KEY)
    assert numbers.shape == (count,)
    assert numbers.dtype == torch.float64
    assert numbers.isfinite().all()
    assert numbers.unique().numel() == count
    assert torch.equal(numbers, standard_normals(count, KEY))
    assert not torch.equal(numbers, standard_normals(count, bytes(32)))


def test_the_largest_bits_are_still_a_number():
    ends = torch.tensor([-(2.0**51), 2.0**51 - 1], dtype=torch.float64)
    numbers = ends.add(0.5).mul(2.0**-51).erfinv()
    assert numbers.isfinite().all()
    assert numbers[0] == -numbers[1]


@pytest.mark.parametrize("clip_norm", [1e-3, 0.3, 1.0, 7.0])
def test_what_leaves_is_on_the_same_grid_whatever_the_sum_was(clip_norm):
    """Haney 2022: otherwise its last digits tell a sum of exactly zero from another."""
    grid = 2.0 ** (math.floor(math.log2(clip_norm)) - 34)
    generator = torch.Generator().manual_seed(0)
    for total in (torch.zeros(5000), clip_norm * torch.rand(5000, generator=generator) / 3, torch.full((5000,), 1e-12)):
        numbers = add_noise(total.double(), clip_norm, clip_norm, KEY) / grid
        assert torch.equal(numbers, numbers.round())
        expected = total.double() / grid + standard_normals(5000, KEY) * clip_norm / grid
        assert (numbers - expected).abs().max() <= 1.0


def test_rounding_to_the_grid_moves_a_large_network_by_less_than_a_millionth_of_the_clipping_norm():
    assert 2.0**-randomness.GRID_BITS * math.sqrt(10_000_000) < 1e-6


def test_keys_are_256_bits_of_the_operating_system_and_never_the_same(monkeypatch):
    keys = {secret_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {32}
    monkeypatch.setattr(randomness.os, "urandom", lambda count: bytes(count))
    assert secret_key() == bytes(32)


def test_a_patients_numbers_are_the_same_whoever_else_is_there_and_in_whatever_order():
    together = PatientDraws(KEY, fingerprints(NAMES))
    first, second = together.uniform(3, 2), together.uniform(5)
    for index, name in enumerate(NAMES):
        alone = PatientDraws(KEY, fingerprints([name]))
        assert torch.equal(alone.uniform(3, 2)[0], first[index])
        assert torch.equal(alone.uniform(5)[0], second[index])
    turned = PatientDraws(KEY, fingerprints(NAMES[::-1]))
    assert torch.equal(turned.uniform(3, 2).flip(0), first)


def test_no_number_is_given_twice():
    draws = PatientDraws(KEY, fingerprints(NAMES))
    numbers = torch.cat([draws.uniform(7).flatten(), draws.uniform(3, 3).flatten(), draws.uniform(1).flatten()])
    assert numbers.unique().numel() == numbers.numel()
    other = PatientDraws(bytes(32), fingerprints(NAMES)).uniform(17).flatten()
    assert torch.cat([numbers, other]).unique().numel() == numbers.numel() + other.numel()


def test_the_numbers_are_uniform():
    numbers = PatientDraws(KEY, fingerprints(map(str, range(500)))).uniform(40).flatten().numpy()
    assert kstest(numbers, "uniform").pvalue > 1e-3
    assert 0.0 <= numbers.min() < numbers.max() < 1.0


def test_the_draws_of_a_step_are_those_of_no_other_step_or_round():
    numbers = [patient_draws(seed, step, fingerprints(NAMES)).uniform(2) for seed, step in ((0, 0), (0, 1), (1, 0))]
    assert torch.stack(numbers).unique().numel() == 3 * 8
    assert torch.equal(numbers[0], patient_draws(0, 0, fingerprints(NAMES)).uniform(2))


def test_nobody_has_no_numbers():
    assert PatientDraws(KEY, fingerprints([])).uniform(4).shape == (0, 4)


def test_some_of_the_patients_go_on_from_a_position():
    draws = PatientDraws(KEY, fingerprints(NAMES))
    draws.uniform(3)
    position = draws.position
    expected = draws.uniform(6)
    chosen = np.array([True, False, True, False])
    assert torch.equal(draws.of(chosen, position).uniform(6), expected[chosen])
