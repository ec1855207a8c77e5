import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from shared_models.metrics.categorical import ConfusionMatrix


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_metrics_equal_those_of_scikit_learn(pairs):
    predicted, truth = np.array(pairs).T
    matrix = ConfusionMatrix.of(predicted, truth, classes=4)
    assert matrix.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert matrix.macro_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    recalls = [np.mean(predicted[truth == k] == k) for k in np.unique(truth)]
    assert matrix.balanced_accuracy == pytest.approx(np.mean(recalls))


def test_unknown_labels_are_left_out_and_nobody_has_no_metrics():
    assert ConfusionMatrix.of([0, 1], [0, math.nan], classes=2).n == 1
    nobody = ConfusionMatrix.of([], [], classes=2)
    assert all(math.isnan(value) for value in (nobody.accuracy, nobody.macro_f1, nobody.balanced_accuracy))


@pytest.mark.parametrize(
    ("predicted", "labels", "reason"),
    [
        ([2], [0], "numbered 0 to 1"),
        ([0], [-1], "numbered"),
        ([0], [0.5], "numbered"),
        ([0, 1], [0], "labels of shape"),
    ],
)
def test_numbers_that_are_no_class_are_refused(predicted, labels, reason):
    with pytest.raises(ValueError, match=reason):
        ConfusionMatrix.of(predicted, labels, classes=2)
