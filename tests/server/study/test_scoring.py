import numpy as np
import pytest

from server.study.scoring import Summaries, thresholds
from shared_models.metrics.summary import empty_summary, summarise
from shared_models.targets import Binary, Categorical, TimeToEvent


def pooled(scores: list[float], labels: list[float]) -> Summaries:
    return {"er": summarise(Binary(), np.array(scores), np.array(labels))}


@pytest.mark.parametrize("labels", [[1.0, 1.0], [0.0, 0.0], [float("nan")] * 2])
def test_validation_patients_of_one_class_choose_no_threshold(labels: list[float]) -> None:
    assert thresholds(pooled([0.2, 0.3], labels), "f1") == {"er": (0.5, "0.5: no validation patients of both classes")}


def test_validation_patients_of_both_classes_choose_it_for_a_time_to_event_at_its_horizon() -> None:
    target = TimeToEvent()
    risk, truth = np.array([0.2, 0.3, 0.1]), np.array([[2000.0, 0.0], [1000.0, 1.0], [2000.0, 0.0]])
    chosen = thresholds({"recurrence": summarise(target, risk, truth)}, "youden")
    assert 0.2 < chosen["recurrence"][0] < 0.3


def test_validation_patients_of_both_classes_choose_it() -> None:
    validation = pooled([0.2, 0.3], [0.0, 1.0]) | {"pam50": empty_summary(Categorical(("a", "b")))}
    ((name, (value, source)),) = thresholds(validation, "youden").items()
    assert (name, source) == ("er", "youden, pooled validation")
    assert 0.2 < value <= 0.3
