"""Targets without an outcome, or with one only, before anything is trained."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from server.study.exchange import StudyError
from server.study.learnable import require_learnable
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

ONE_CLASS = {"er": Binary(), "pam50": Categorical(("a", "b", "c"))}


def test_a_study_without_any_outcome_is_refused_and_one_of_several_targets_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts = {"er": np.array([40.0, 0.0]), "pam50": np.array([0.0, 40.0, 0.0])}
    with pytest.raises(
        StudyError, match="er: all training patients are of one class; nothing can be learned of it; pam50"
    ):
        require_learnable(ONE_CLASS, counts, exact=True)
    with caplog.at_level(logging.WARNING, "server"):
        require_learnable(ONE_CLASS, {**counts, "er": np.array([40.0, 5.0])}, exact=True)
        require_learnable(ONE_CLASS, counts, exact=False)
        require_learnable(ONE_CLASS, {"er": np.array([4.0, 5.0]), "pam50": np.zeros(3)}, exact=True, least=3)
    *messages, few = [record.getMessage() for record in caplog.records]
    assert few.startswith("pam50: no training patient has a label, or fewer than 3 hospitals know it")
    assert [text.partition(":")[0] for text in messages] == ["pam50", "er", "pam50"]
    assert "or too few at each hospital to be told" in messages[1]


@pytest.mark.parametrize(
    ("target", "counts", "learnable"),
    [
        (TimeToEvent(), np.array([[9.0, 8.0], [0.0, 0.0]]), False),
        (TimeToEvent(), np.array([[9.0, 8.0], [0.0, 1.0]]), True),
        (Regression(), np.array([0.0, 0.0]), False),
        (Regression(), np.array([3.0, 70.0]), True),
        (Binary(), np.array([0.0, 0.0]), False),
    ],
)
def test_each_kind_of_target(target, counts, learnable) -> None:
    if learnable:
        require_learnable({"one": target}, {"one": counts}, exact=True)
    else:
        with pytest.raises(StudyError, match="one: no training patient has"):
            require_learnable({"one": target}, {"one": counts}, exact=True)
