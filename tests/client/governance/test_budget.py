"""What a center may ask under one approval, whatever it sends and whatever happens to the site meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.app import app
from client.config.site import load_site
from client.errors import SiteError
from client.governance.approval import approve
from client.governance.audit import audit_of
from client.governance.budget import budget_of, renew, spend
from client.governance.chained_log import read
from server.app import run_study
from server.study.exchange import StudyError
from shared_models import hash_chain
from shared_models.messages import EVALUATE_TEST, EVALUATE_VALIDATION, PREPARE, TRAIN, EnrolRequest
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

KINDS = (PREPARE, TRAIN, EVALUATE_VALIDATION, EVALUATE_TEST)


@pytest.fixture
def site(hospitals):
    return load_site(hospitals({"a": 20})["a"])


def study(**changed):
    return parse_study_settings({"study": "small", "rounds": 3, "round-attempts": 2, **changed})


@dataclass(frozen=True)
class Asking:
    """A request, as the budget sees it."""

    KIND: str
    round: int
    question: str
    frozen_hash: str


def ask(site, config, kind, server_round, question, statistics):
    spend(site, config, Asking(kind, server_round, question, statistics))


def answered(site, config, *asked, statistics="s"):
    """How many of the questions `(kind, round, question)` are allowed."""
    count = 0
    for kind, server_round, question in asked:
        with contextlib.suppress(SiteError):
            ask(site, config, kind, server_round, question, statistics)
            count += 1
    return count


def test_a_center_that_asks_for_98_trainings_gets_those_it_was_allowed(site):
    rounds = [1] * 20 + [2] * 20 + list(range(4, 60)) + [-5, 10**9]
    assert answered(site, study(), *((TRAIN, number, f"weights {n}") for n, number in enumerate(rounds))) == 2
    assert answered(site, study(), *((EVALUATE_TEST, 1, f"weights {n}") for n in range(50))) == 1
    other = study(seed=1)
    same = [(TRAIN, number, f"weights of round {number}") for number in [1] * 20 + [2] * 20 + [3] * 20]
    assert answered(site, other, *same) == 3 * 2


@pytest.mark.parametrize("number", [-5, -1, 0, 4, 10**9, 10**30])
def test_a_round_that_was_not_approved_is_refused_and_costs_nothing(site, number):
    with pytest.raises(SiteError, match="3 approved") as caught:
        ask(site, study(), TRAIN, number, "weights", "s")
    assert caught.value.public == "more than the site has approved: a round that is not one of the 3 approved"
    assert not budget_of(site, study()).exists()


def test_rounds_never_go_back_and_one_may_be_left_out(site):
    ask = [(TRAIN, 1, "w1"), (TRAIN, 3, "w3"), (TRAIN, 2, "w2"), (TRAIN, 3, "w3"), (TRAIN, 3, "w3")]
    assert answered(site, study(), *ask) == 3


def test_a_round_again_is_the_same_question(site):
    assert answered(site, study(), (TRAIN, 1, "w1"), (TRAIN, 1, "others")) == 1


def test_the_test_patients_are_asked_one_question(site):
    with_thresholds = [(EVALUATE_TEST, 2, "w2"), (EVALUATE_TEST, 2, "w2 at another threshold"), (EVALUATE_TEST, 3, "w")]
    assert answered(site, study(), *with_thresholds) == 1
    assert answered(site, study(), *[(EVALUATE_TEST, 2, "w2")] * 4) == 1


def test_validation_patients_are_asked_about_one_network_a_round_by_whichever_message(site):
    assert answered(site, study(), (TRAIN, 2, "w1"), (EVALUATE_VALIDATION, 1, "w1"), (EVALUATE_VALIDATION, 1, "x")) == 2
    assert answered(site, study(), (EVALUATE_VALIDATION, 3, "w3"), (TRAIN, 3, "w2")) == 1


def test_prepare_may_be_tried_again_and_a_message_of_another_kind_never(site):
    assert answered(site, study(), *[(PREPARE, 0, "")] * 5) == 2
    assert answered(site, study(), (EnrolRequest.KIND, 0, ""), ("train.more", 1, "w")) == 0


def test_statistics_that_changed_are_refused(site):
    ask(site, study(), TRAIN, 1, "w1", "first")
    for kind in KINDS[1:]:
        with pytest.raises(SiteError, match="not those of the study's first question"):
            ask(site, study(), kind, 2, "w2", "others")
    assert answered(site, study(), (TRAIN, 2, "w2"), statistics="first") == 1


def test_another_study_and_other_settings_have_a_budget_of_their_own(site):
    for config in (study(), study(seed=1), study(study="other")):
        assert answered(site, config, *[(PREPARE, 0, "")] * 3) == 2


def test_a_study_that_a_person_approves_again_begins_anew(site):
    config = study()
    approve(site, config)
    assert not budget_of(site, config).exists()
    assert answered(site, config, *[(TRAIN, 3, "w3")] * 3) == 2
    approve(site, config)
    assert answered(site, config, *[(TRAIN, 1, "w1")] * 3, statistics="others") == 2


questions = st.tuples(st.sampled_from(KINDS), st.integers(-1, 5), st.sampled_from(["v", "w", "x"]))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.tuples(questions, st.sampled_from("ssst")), max_size=40))
def test_whatever_is_asked_no_more_is_answered_than_was_approved(site, asked):
    config = study()
    renew(site, config)
    allowed = [question for question, statistics in asked if answered(site, config, question, statistics=statistics)]
    by_kind = Counter(kind for kind, _, _ in allowed)
    trained = [number for kind, number, _ in allowed if kind == TRAIN]
    assert by_kind[PREPARE] <= 2
    assert by_kind[TRAIN] <= 3 * 2
    assert trained == sorted(trained)
    assert set(trained) <= {1, 2, 3}
    assert len({question for question in allowed if question[0] == EVALUATE_TEST}) <= 1
    assert by_kind[EVALUATE_TEST] <= 2
    scored = {(number - (kind == TRAIN), weights) for kind, number, weights in allowed if kind in KINDS[1:3]}
    assert len(scored) == len({number for number, _ in scored}) <= 4


def killed_at(site, config, step):
    """Spends in a process that kills itself before the given one of its calls to the system."""
    calls = 0

    def counted(plain):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments, **options)

        return call

    for name in ("write", "fsync", "ftruncate", "open", "close", "replace"):
        setattr(os, name, counted(getattr(os, name)))
    ask(site, config, TRAIN, 1, "w1", "s")


@pytest.mark.parametrize("first", [True, False])
def test_a_kill_at_any_step_forgets_no_question_that_was_answered(site, first):
    context = multiprocessing.get_context("fork")
    for step in range(1, 40):
        config = study(seed=step if first else 0, **{"round-attempts": 100})
        before = tried(site, config)
        process = context.Process(target=killed_at, args=(site, config, step))
        process.start()
        process.join()
        ask(site, config, TRAIN, 1, "w1", "s")
        assert before + 1 <= tried(site, config) <= before + 2
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert tried(site, config) == before + 2
    assert 8 < step < 39


def tried(site, config):
    lines = read(budget_of(site, config))
    return lines[-1]["so_far"]["train"]["times"] if lines else 0


def ask_often(site, config, answers):
    answers.put(answered(site, config, *[(TRAIN, 1, "w1")] * 20))


def test_two_processes_share_one_budget(site):
    config = study(**{"round-attempts": 25})
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=ask_often, args=(site, config, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sum(answers.get(timeout=60) for _ in processes) == 25
    for process in processes:
        process.join()


def test_a_damaged_budget_refuses_every_question(site):
    ask(site, study(), PREPARE, 0, "", "")
    budget_of(site, study()).unlink()
    with pytest.raises(SiteError, match="not as it was written") as caught:
        ask(site, study(), TRAIN, 1, "w1", "s")
    assert "small" not in caught.value.public


def test_a_question_hashes_two_lines_however_many_were_asked(site, monkeypatch):
    config = study(**{"round-attempts": 1000})
    for _ in range(30):
        ask(site, config, TRAIN, 1, "w1", "s")
    hashed = []
    plain = hash_chain.hash_of
    monkeypatch.setattr(hash_chain, "hash_of", lambda line: hashed.append(line["line"]) or plain(line))
    ask(site, config, TRAIN, 1, "w1", "s")
    assert hashed == [30, 31]


@pytest.mark.parametrize(
    "changed", [{}, {"harmonisation": "combat", "harmonised": "clinical"}, {"class-weights": "balanced"}]
)
def test_a_study_that_keeps_to_its_approval_is_answered_to_its_end_when_it_resumes_too(hospitals, small_study, changed):
    sites = hospitals({"a": 60, "b": 60})
    config = parse_study_settings({**small_study, **changed, "round-attempts": 2})
    asked = []

    def counted(message, context):
        asked.append((context.node_id, message.metadata.message_type))
        reply = app(message, context)
        if len(asked) == 6:
            raise KeyboardInterrupt  # the center is stopped in round 2, when one site has trained
        return reply

    with pytest.raises(KeyboardInterrupt):
        run_study(InProcessGrid(counted, sites, config.to_flat()), config)
    resumed = config.model_copy(update={"resume": True})
    results = run_study(InProcessGrid(counted, sites, resumed.to_flat()), resumed)
    assert results["problems"] == {}
    assert results["rounds_completed"] == 3
    lines = read(budget_of(load_site(sites["b"]), config))
    assert asked.count((2, TRAIN)) == len([line for line in lines if line["message"] == TRAIN]) == 4


def test_a_center_that_asks_on_and_on_is_told_what_was_approved(hospitals, small_study):
    sites = hospitals({"a": 60, "b": 60})
    config = parse_study_settings({**small_study, "rounds": 1})
    run_study(InProcessGrid(app, sites, config.to_flat()), config)
    again = config.model_copy(update={"overwrite": True})
    with pytest.raises(StudyError, match="round 1 failed 3 times"):
        run_study(InProcessGrid(app, sites, again.to_flat()), again)
    refused = [line for line in read(audit_of(load_site(sites["a"]))) if line["event"] == "refused"]
    assert {line["why"] for line in refused} == {
        "more than the site has approved: a round before the last one that was asked for"
    }
