from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shared_models.combat import Reference
from shared_models.features import FeatureStatistics
from shared_models.messages import Arrays, StudyStatistics
from shared_models.study_settings import StudySettings
from shared_models.task import load_task

CONFIG = StudySettings(
    task="receptors_dce_mri",
    targets="er",
    modalities="radiomics",
    features="radiomics: volume_mm3, side{left|right}",
    class_weights="balanced",
    harmonisation="combat",
)
TASK = load_task(CONFIG)
(TARGET,) = TASK.targets
SENT = StudyStatistics(
    {"radiomics": FeatureStatistics.of(np.array([[50.0, 1.0, 0.0], [60.0, np.nan, np.nan]]))},
    {"radiomics": Reference(np.array([55.0, 0.0, 0.0]), np.array([25.0, 0.0, 0.0]))},
    {TARGET: np.array([0.5, 1.5], np.float32)},
)


def test_a_studys_statistics_arrive_as_they_were_sent() -> None:
    received = StudyStatistics.unpack(SENT.pack(), TASK, CONFIG)
    for one, other in (
        (received.features["radiomics"], SENT.features["radiomics"]),
        (received.references["radiomics"], SENT.references["radiomics"]),
    ):
        for field in dataclasses.fields(one):  # type: ignore[arg-type]
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    np.testing.assert_array_equal(received.class_weights[TARGET], SENT.class_weights[TARGET])


def test_class_counts_of_a_secure_sum_come_as_they_were_sent_or_are_refused() -> None:
    counts = {TARGET: np.array([30.0, 12.0])}
    sent = dataclasses.replace(SENT, counts=counts).pack()
    received = StudyStatistics.unpack(sent, TASK, CONFIG)
    np.testing.assert_array_equal(received.counts[TARGET], counts[TARGET])
    with pytest.raises(ValueError, match="counts"):
        StudyStatistics.unpack(sent | {f"counts.{TARGET}": np.ones(9)}, TASK, CONFIG)


SPOILT: dict[str, Callable[[Any], Any]] = {
    "missing": lambda array: None,
    "NaN": lambda array: array * np.nan,
    "another shape": lambda array: np.append(array, 1.0),
    "text": lambda array: array.astype(str),
    "complex": lambda array: array.astype(complex),
}


@pytest.mark.parametrize("name", SENT.pack())
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_an_array_of_another_form_is_refused_by_its_name(name: str, spoil: Callable[[Any], Any]) -> None:
    arrays: Arrays = {key: spoil(array) if key == name else array for key, array in SENT.pack().items()}
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        StudyStatistics.unpack({key: array for key, array in arrays.items() if array is not None}, TASK, CONFIG)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features.radiomics.squares", np.full(3, -1.0)),
        ("harmonisation.radiomics.variance", np.full(3, -1.0)),
        (f"class-weights.{TARGET}", np.full(2, -1.0)),
        (f"class-weights.{TARGET}", np.full(2, 1e30)),
        ("features.genomic.total", np.ones(3)),
        ("anything", np.ones(3)),
    ],
)
def test_what_no_study_has_is_refused(name: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        StudyStatistics.unpack({**SENT.pack(), name: value}, TASK, CONFIG)


def test_class_weights_that_the_study_does_not_ask_for_are_refused() -> None:
    config = CONFIG.model_copy(update={"class_weights": "none"})
    with pytest.raises(ValueError, match="class-weights"):
        StudyStatistics.unpack(SENT.pack(), TASK, config)
