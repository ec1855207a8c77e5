import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shared_models.class_weights import balanced_weights
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent

NAN = float("nan")
CASES: list[tuple[Target, list[object]]] = [
    (Binary(), [0.0, 1.0, NAN]),
    (Categorical(("a", "b", "c")), [2.0, 0.0, NAN]),
    (Regression(scale=10.0), [12.0, -3.0, NAN]),
    (TimeToEvent((100.0, 200.0, 300.0)), [[150.0, 1.0], [250.0, 0.0], [NAN, NAN]]),
]


def truth_of(values: list[object]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize(("target", "values"), CASES)
def test_losses_are_per_patient_and_zero_where_truth_is_unknown(target: Target, values: list[object]) -> None:
    outputs = torch.randn(3, target.outputs, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = target.loss(outputs, truth_of(values))
    assert losses.shape == (3,)
    assert (losses[:2] > 0).all()
    assert losses[2] == 0
    losses.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert (outputs.grad[2] == 0).all()
    alone = target.loss(outputs[:1], truth_of(values[:1]))
    torch.testing.assert_close(alone, losses[:1])


@pytest.mark.parametrize(("target", "values"), CASES)
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_outputs_give_finite_losses_and_predictions(
    target: Target, values: list[object], extreme: float
) -> None:
    outputs = torch.full((3, target.outputs), extreme)
    assert target.loss(outputs, truth_of(values)).isfinite().all()
    assert target.predict(outputs).isfinite().all()


@pytest.mark.parametrize(("target", "values"), CASES)
def test_counts_add_up_over_sites(target: Target, values: list[object]) -> None:
    truth = truth_of(values).numpy()
    np.testing.assert_allclose(target.counts(truth[:1]) + target.counts(truth[1:]), target.counts(truth))


def test_hazards_follow_the_life_table_by_hand() -> None:
    target = TimeToEvent((100.0, 200.0, 300.0))
    # event in the 2nd interval; censored past half of the 3rd, before half of the 1st; event after the last edge
    truth = np.array([[150, 1], [260, 0], [40, 0], [999, 1]], dtype=np.float32)
    survived, failed = target.counts(truth)
    np.testing.assert_array_equal(survived, [3, 2, 2])
    np.testing.assert_array_equal(failed, [0, 1, 0])
    logits = torch.tensor([[0.0, 0.0, 0.0]] * 4)
    expected = np.log(2) * np.array([2, 3, 0, 3])
    torch.testing.assert_close(
        target.loss(logits, torch.from_numpy(truth)), torch.tensor(expected, dtype=torch.float32)
    )


def test_an_event_on_the_day_of_an_edge_counts_in_the_interval_that_it_ends_and_in_no_other() -> None:
    survived, failed = TimeToEvent((100.0, 200.0, 300.0)).counts(np.array([[200.0, 1.0], [300.0, 1.0]]))
    np.testing.assert_array_equal(failed, [0, 1, 1])
    np.testing.assert_array_equal(survived, [2, 1, 0])


def test_who_was_censored_in_the_very_middle_of_an_interval_survived_it() -> None:
    target = TimeToEvent((100.0, 200.0))
    np.testing.assert_array_equal(target.counts(np.array([[150.0, 0.0]]))[0], [1, 1])
    np.testing.assert_array_equal(target.counts(np.array([[149.0, 0.0]]))[0], [1, 0])


def test_an_event_on_day_zero_counts_in_the_first_interval() -> None:
    survived, failed = TimeToEvent((100.0, 200.0)).counts(np.array([[0.0, 1.0]]))
    np.testing.assert_array_equal(failed, [1, 0])
    np.testing.assert_array_equal(survived, [0, 0])


def test_base_logits_give_the_base_rates() -> None:
    torch.testing.assert_close(
        Binary().base_logits(np.array([300.0, 100.0])).sigmoid(), torch.tensor([0.25]), atol=2e-3, rtol=0
    )
    hazards = TimeToEvent((1.0, 2.0)).base_logits(np.array([[80.0, 60.0], [20.0, 20.0]])).sigmoid()
    torch.testing.assert_close(hazards, torch.tensor([0.2, 0.25]), atol=5e-3, rtol=0)
    shares = Categorical(("a", "b")).base_logits(np.array([30.0, 10.0])).softmax(0)
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.25]), atol=1e-2, rtol=0)
    assert Regression(scale=10.0).base_logits(np.array([4.0, 80.0])) == pytest.approx(2.0)
    assert Binary().base_logits(np.array([5.0, 0.0])).isfinite().all()


def test_risk_rises_with_the_hazards() -> None:
    target = TimeToEvent()
    low, high = target.predict(torch.stack([torch.full((7,), -2.0), torch.full((7,), 1.0)]))
    assert 0 < low < high < 1


@given(st.lists(st.integers(0, 500), min_size=2, max_size=5).filter(any))
def test_balanced_classes_weigh_the_same_and_the_mean_patient_weighs_1(patients: list[int]) -> None:
    counts = np.array(patients, dtype=np.float64)
    target = Binary() if len(counts) == 2 else Categorical(tuple("abcde"[: len(counts)]))
    weights = balanced_weights(target, counts)
    assert weights is not None
    assert weights.dtype == np.float32
    shares = weights * counts
    np.testing.assert_allclose(shares[counts > 0], shares.max(), rtol=1e-5)
    np.testing.assert_allclose(shares.sum(), counts.sum(), rtol=1e-5)
    assert (weights[counts == 0] == 0).all()


def test_without_patients_no_class_weighs_anything() -> None:
    np.testing.assert_array_equal(balanced_weights(Binary(), np.zeros(2)), [0.0, 0.0])


@pytest.mark.parametrize("target", [Regression(), TimeToEvent()])
def test_targets_without_classes_have_no_class_weights(target: Target) -> None:
    assert balanced_weights(target, target.counts(np.zeros((0, 2)))) is None
