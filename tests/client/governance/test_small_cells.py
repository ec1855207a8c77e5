"""What leaves of a site's own metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client.governance.small_cells import suppress_small_cells
from shared_models.metrics.summary import site_metrics
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent


def metrics_of(cases, others, target=None):
    chance = np.random.default_rng(0)
    truth = np.repeat([1.0, 0.0], [cases, others])
    scores = chance.uniform(size=len(truth)) + 0.3 * truth
    if isinstance(target, TimeToEvent):
        truth = np.stack([chance.uniform(1, 3000, len(truth)), truth], axis=1)
    return site_metrics(target or Binary(), scores / 1.3, truth, 0.5)


@pytest.mark.parametrize("target", [Binary(), TimeToEvent((365.0, 730.0))])
@pytest.mark.parametrize(("cases", "others"), [(9, 50), (50, 9), (0, 40), (1, 1)])
def test_below_the_least_count_of_a_class_only_the_number_of_patients_leaves(target, cases, others):
    metrics = suppress_small_cells(metrics_of(cases, others, target), 10)
    assert metrics.pop("patients") == cases + others
    assert metrics
    assert all(math.isnan(value) for value in metrics.values())


def test_two_decimals_and_no_counts_at_the_cut():
    exact = metrics_of(12, 30)
    metrics = suppress_small_cells(exact, 10)
    assert metrics["auc"] == pytest.approx(exact["auc"], abs=0.0625 + 0.005)
    assert metrics["auc_low"] < exact["auc"] < metrics["auc_high"]
    assert all(value == round(value, 2) for value in metrics.values())
    assert (metrics["patients"], metrics["positives"]) == (42, 12)
    assert not set(metrics) & {"tp", "fp", "tn", "fn"}


@pytest.mark.parametrize(
    "target", [Binary(), TimeToEvent((365.0, 730.0)), Categorical(("a", "b", "c"))], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize(("cases", "others"), [(15, 15), (12, 60), (60, 12), (150, 150)])
def test_of_a_patient_whom_a_network_singles_out_the_metrics_tell_nothing(target, cases, others):
    """All others have one score. Shares of patients, as of right calls, move in steps, and seldom by one of them."""
    sent = []
    for swapped in ([0, -1], [-1, 0]):  # her outcome, and another patient's
        truth = np.repeat([1.0, 0.0], [cases, others])
        if isinstance(target, TimeToEvent):
            days = np.concatenate([np.linspace(200, 400, cases), np.full(others, 1500.0)])
            truth = np.stack([days, truth], axis=1)
        truth[[0, -1]] = truth[swapped]
        for score in (0.3, 0.01, 0.9):
            scores = np.full(cases + others, 0.3)
            scores[0] = score
            if isinstance(target, Categorical):
                scores = np.stack([1 - scores, scores, np.zeros_like(scores)], axis=1)
            metrics = suppress_small_cells(site_metrics(target, scores, truth, 0.5), 10)
            sent.append(
                {name: value for name, value in metrics.items() if not name.startswith(("accuracy", "macro_f1"))}
            )
    assert not math.isnan(sent[0].get("auc", sent[0].get("macro_auc")))
    for other in sent[1:]:
        np.testing.assert_equal(other, sent[0])


def test_of_times_in_whole_years_the_c_index_tells_nothing_of_her_either():
    """Two events of one day are no pair, so that those who are free are in more of the pairs than counts imply."""
    truth = np.stack([np.repeat([365.0, 1500.0], [160, 20]), np.repeat([1.0, 0.0], [160, 20])], axis=1)
    scores = np.full(180, 0.3)
    sent = []
    for scores[-1] in (0.3, 0.01, 0.9):
        sent.append(suppress_small_cells(site_metrics(TimeToEvent((365.0, 730.0)), scores, truth, 0.5), 10)["c_index"])
    assert sent == [0.5] * 3


def test_a_number_needs_that_many_patients():
    values = np.arange(9.0)
    few = suppress_small_cells(site_metrics(Regression(), values, values + 1, 0.5), 10)
    assert math.isnan(few["mae"])
    assert suppress_small_cells(site_metrics(Regression(), values, values + 1, 0.5), 9)["mae"] == 1.0


def test_errors_have_two_digits_in_any_unit():
    values = np.arange(40.0)
    for unit in (1e-4, 1.0, 1e4):
        metrics = site_metrics(Regression(), unit * values, unit * (values + 1.234), 0.5)
        assert suppress_small_cells(metrics, 10)["mae"] == pytest.approx(1.2 * unit)


@pytest.mark.parametrize("target", [Binary(), TimeToEvent((365.0, 730.0)), Categorical(("a", "b")), Regression()])
def test_where_no_outcome_is_known_nothing_leaves_and_nothing_fails(target):
    truth = np.full((5, 2) if isinstance(target, TimeToEvent) else 5, np.nan)
    scores = np.full((5, 2) if isinstance(target, Categorical) else 5, 0.5)
    metrics = suppress_small_cells(site_metrics(target, scores, truth, 0.5), 10)
    assert metrics.pop("patients") == 0
    assert all(math.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("changed", range(12))
def test_rates_move_in_steps_of_five_patients_and_none_is_finer_than_another(changed):
    truth = np.repeat([1.0, 0.0], [12, 33])
    scores = np.where(np.arange(45) < changed, 0.9, 0.1)
    metrics = suppress_small_cells(site_metrics(Binary(), scores, truth, 0.5), 10)
    assert metrics["sensitivity"] in (0.0, 0.5, 1.0)
    assert metrics["specificity"] == 1.0
    if changed:
        assert metrics["f1"] == round(2 * metrics["sensitivity"] / (metrics["sensitivity"] + 1), 2)


def test_the_accuracy_of_several_classes_moves_in_steps_too():
    target, truth = Categorical(("a", "b", "c")), np.arange(40.0) % 3
    predicted = np.eye(3)[np.arange(40) % 3]
    predicted[:6] = 1 / 3
    accuracy = suppress_small_cells(site_metrics(target, predicted, truth, 0.5), 10)["accuracy"]
    assert accuracy in {round(step / 8, 2) for step in range(9)}


def test_a_target_that_no_patient_has_says_so_and_fails_nothing():
    for target, truth in ((Binary(), np.zeros(0)), (TimeToEvent(edges_days=(365.0, 730.0)), np.zeros((0, 2)))):
        left = suppress_small_cells(site_metrics(target, np.zeros(0), truth, 0.5), least=10)
        assert left["patients"] == 0
        assert np.isnan(left["auc"])
