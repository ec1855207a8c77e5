"""The privacy ledger, against Opacus's own numbers."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant

from client.config.policy import Limit
from client.errors import SiteError
from client.governance.chained_log import CLOCK_SET, append
from client.governance.ledger import Charge, charge, charges, epsilon, last_epsilon, spent
from shared_models import hash_chain

LIMIT = Limit(epsilon=8.0, delta=1e-3)
ROUND = Charge("study", "recurrence_mri", 1, noise_multiplier=2.0, sample_rate=0.1, steps=10)


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger" / "duke.jsonl"


def test_epsilon_composes_over_rounds_studies_and_tasks(ledger):
    charges = [charge(ledger, replace(ROUND, round=number), LIMIT) for number in (1, 2)]
    charges.append(charge(ledger, replace(ROUND, study="another", task="recurrence_clinical"), LIMIT))
    accountant = PRVAccountant()
    accountant.history = [(2.0, 0.1, 30)]
    assert charges == sorted(charges)
    assert charges[-1] == pytest.approx(accountant.get_epsilon(delta=1e-3), abs=0.02)
    assert spent(ledger, LIMIT) == charges[-1]
    fresh = PRVAccountant()
    fresh.history = [(2.0, 0.1, 10)]
    # an engine made anew each round reports this, whatever was spent before: wrong
    assert fresh.get_epsilon(delta=1e-3) < 0.75 * charges[-1]


@pytest.mark.parametrize(
    ("patients", "batch", "noise", "golden"),
    [
        (30, 8, 1.0, 22.5),
        (30, 8, 2.0, 7.4),
        (100, 16, 1.0, 16.6),
        (100, 16, 2.0, 5.35),
        (700, 64, 1.0, 11.8),
        (700, 64, 4.0, 1.5),
    ],
)
def test_golden_values(patients, batch, noise, golden):
    """Fifty epochs at delta 1e-3, as Opacus 1.6.0 computed them."""
    steps = int(50 * patients / batch)
    assert epsilon([(noise, batch / patients, steps)], LIMIT) == pytest.approx(golden, rel=0.015)


def test_the_reference_schedule_of_the_rdp_accountant():
    """Opacus's own golden value: noise 1.5, rate .04, 90 epochs, delta 1e-5; here in three parts."""
    history = [(1.5, 0.04, 1000), (1.5, 0.04, 1000), (1.5, 0.04, 250)]
    assert epsilon(history, Limit(8.0, 1e-5, "rdp")) == pytest.approx(7.32911117143)


def test_above_the_ceiling_nothing_is_charged_and_both_sides_are_told(ledger):
    limit = replace(LIMIT, epsilon=1.0)
    charge(ledger, replace(ROUND, steps=2), limit)
    before = spent(ledger, limit)
    with pytest.raises(SiteError, match="more privacy than the site allows") as caught:
        charge(ledger, replace(ROUND, round=2, steps=100), limit)
    assert "epsilon" in str(caught.value)
    assert caught.value.public == "the site's privacy budget is spent"
    assert spent(ledger, limit) == before
    assert len(charges(ledger)) == 1


@pytest.mark.parametrize("noise", [0.0, -1.0])
def test_without_noise_no_ceiling_holds(ledger, noise):
    with pytest.raises(SiteError, match="inf with this round"):
        charge(ledger, replace(ROUND, noise_multiplier=noise), replace(LIMIT, epsilon=1e9))


def test_a_noise_that_is_no_number_is_refused(ledger):
    with pytest.raises(SiteError):
        charge(ledger, replace(ROUND, noise_multiplier=math.nan), LIMIT)
    assert charges(ledger) == []


mechanisms = st.lists(
    st.tuples(st.sampled_from([0.8, 1.0, 2.0]), st.sampled_from([0.05, 0.2]), st.integers(1, 20)),
    min_size=1,
    max_size=2,
)


@settings(max_examples=4)
@given(mechanisms, mechanisms)
def test_more_training_never_costs_less_and_the_order_does_not_matter(first, second):
    limit = Limit(8.0, 1e-3, "rdp")
    both = epsilon(first + second, limit)
    assert both >= epsilon(first, limit)
    assert both == epsilon(second + first, limit)


def test_epsilon_never_falls_when_the_accountant_changes(ledger):
    by_rdp = charge(ledger, ROUND, replace(LIMIT, accountant="rdp"))
    assert spent(ledger, LIMIT) == by_rdp
    assert charge(ledger, replace(ROUND, round=2, steps=1), LIMIT) >= by_rdp


def test_very_little_noise_falls_back_on_the_bound_that_holds():
    assert epsilon([(0.05, 0.9, 5000)], LIMIT) > 1e4


def charge_until_refused(ledger, limit, study):
    try:
        for number in range(3):
            charge(ledger, replace(ROUND, study=study, round=number), limit)
    except SiteError:
        pass


def test_many_processes_that_charge_at_once_never_pass_the_ceiling_together(ledger):
    limit = replace(LIMIT, epsilon=(epsilon([(2.0, 0.1, 40)], LIMIT) + epsilon([(2.0, 0.1, 50)], LIMIT)) / 2)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=charge_until_refused, args=(ledger, limit, str(n))) for n in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(charges(ledger)) == 4
    assert spent(ledger, limit) <= limit.epsilon


def test_a_charge_after_many_checks_two_lines_and_costs_what_all_of_them_cost(ledger, monkeypatch):
    for number in range(30):
        charge(ledger, replace(ROUND, round=number, steps=1), LIMIT)
    hashed = []
    plain = hash_chain.hash_of
    monkeypatch.setattr(hash_chain, "hash_of", lambda line: hashed.append(line["line"]) or plain(line))
    after = charge(ledger, replace(ROUND, round=30, sample_rate=0.2), LIMIT)
    assert set(hashed) == {30, 31}
    assert after == epsilon([(2.0, 0.1, 30), (2.0, 0.2, 10)], LIMIT) == spent(ledger, LIMIT) == last_epsilon(ledger)


def test_charges_of_the_version_that_carried_no_composition_count(ledger):
    old = {**asdict(ROUND), "epsilon": 0.5, "delta": LIMIT.delta, "accountant": "prv", "event": "charge"}
    append(ledger, old)
    append(ledger, old | {"round": 2, "epsilon": 7.9})
    append(ledger, {"event": CLOCK_SET})
    after = charge(ledger, replace(ROUND, steps=1, round=3), LIMIT)
    assert after == spent(ledger, LIMIT) == 7.9  # what was written never falls
    assert charges(ledger)[-1]["composed"] == [[2.0, 0.1, 21]]
    other = replace(LIMIT, delta=1e-4)
    assert charge(ledger, replace(ROUND, steps=1, round=4), other) == pytest.approx(
        epsilon([(2.0, 0.1, 22)], other), abs=1e-12
    )
    assert spent(ledger, LIMIT) == 7.9


def charge_and_die(ledger):
    charge(ledger, ROUND, LIMIT)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_site_killed_while_it_trains_has_paid_for_the_round(ledger):
    process = multiprocessing.get_context("spawn").Process(target=charge_and_die, args=(ledger,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [line["round"] for line in charges(ledger)] == [1]
    assert charge(ledger, ROUND, LIMIT) > charges(ledger)[0]["epsilon"]  # the round again costs again
