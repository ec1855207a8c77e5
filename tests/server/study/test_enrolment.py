from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from server.study.enrolment import enrol, pooled_statistics
from server.study.exchange import Answer
from server.study.weights.initial_weights import initial_model
from shared_models.features import FeatureStatistics
from shared_models.messages import PrepareReply
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent
from shared_models.task import Task, load_task

CONFIG = StudySettings(features="clinical: age_years, size_mm\ngenomic: ESR1, PGR, HER2, BRCA1")
TASK = load_task(CONFIG)
Spoil = Callable[[PrepareReply], PrepareReply]


def truth() -> np.ndarray:
    return np.array([[400.0, 1.0], [4000.0, 0.0], [90.0, 1.0], [800.0, 0.0]] * 10, np.float32)


def content(*, trains: bool = True) -> PrepareReply:
    chance = np.random.default_rng(0)
    return PrepareReply(
        trains=trains,
        patients={"train": 40, "validation": 5, "test": 6},
        modalities={"clinical": 40, "genomic": 30},
        excluded=2,
        features={
            "clinical": FeatureStatistics.of(chance.normal(50, 9, (40, 2))),
            "genomic": FeatureStatistics.of(chance.normal(0, 1, (30, 4))),
        },
        counts={"recurrence": TASK.targets["recurrence"].counts(truth())},
    )


def put(name: str, **items: Any) -> Spoil:
    return lambda reply: replace(reply, **{name: {**getattr(reply, name), **items}})


def without(name: str, key: str) -> Spoil:
    return lambda reply: replace(reply, **{name: {k: v for k, v in getattr(reply, name).items() if k != key}})


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "a part left out": (without("patients", "test"), "patients of test is missing or unknown"),
    "a modality of its own": (put("modalities", mri=3), "modalities of mri is missing or unknown"),
    "more owners than patients": (put("modalities", genomic=4_000_000), "more training patients have genomic"),
    "negative counts": (put("counts", recurrence=np.full((2, 7), -40.0)), "are no numbers of patients"),
    "endless counts": (put("counts", recurrence=np.full((2, 7), 1e50)), "are no numbers of patients"),
    "counts of another shape": (put("counts", recurrence=np.ones(3)), "float64(3,), expected"),
    "sums of more features": (
        put("features", genomic=FeatureStatistics.of(np.ones((3, 5)))),
        "has shape (5,), expected (4,)",
    ),
    "sums left out": (without("features", "genomic"), "features of genomic is missing"),
}


@pytest.mark.parametrize(("spoil", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_enrolment_is_refused_by_name_and_the_rest_go_on(spoil: Spoil, reason: str) -> None:
    given = {"a": content(), "b": spoil(content()), "c": content(), "d": None}
    answers = [Answer(site, reply) for site, reply in given.items()]
    enrolled, _, refused = enrol(answers, answers, TASK)
    assert list(enrolled) == ["a", "c"]
    assert list(refused) == ["b"]
    assert refused["b"].startswith("enrolment refused: ")
    assert reason in refused["b"]


def test_statistics_are_those_of_the_sites_that_train() -> None:
    answers = [Answer("a", content()), Answer("b", content()), Answer("c", content(trains=False))]
    enrolled, sums, refused = enrol(answers, answers, TASK)
    assert not refused
    assert [site.trains for site in enrolled.values()] == [True, True, False]
    pooled, one = pooled_statistics(sums, TASK, {}), sums[0].statistics
    np.testing.assert_allclose(pooled["clinical"].total, 2 * one["clinical"].total)
    assert pooled["genomic"].patients == 60
    np.testing.assert_allclose(pooled["genomic"].mean, one["genomic"].mean)


def test_the_first_model_predicts_the_base_rates() -> None:
    counts = TASK.targets["recurrence"].counts(np.tile(truth(), (50, 1)))
    weights = initial_model(TASK, CONFIG, {"recurrence": counts})
    expected = counts[1] / counts.sum(axis=0).clip(1)
    hazards = 1 / (1 + np.exp(-weights["hazards.bias"]))
    known = counts.sum(axis=0) > 0
    np.testing.assert_allclose(hazards[known], expected[known], atol=0.01)


@pytest.mark.parametrize(
    ("target", "counts", "good"),
    [
        (Binary(), [30.0, 4.0], True),
        (Binary(), [30.0, -4.0], False),
        (Categorical(("a", "b", "c")), [1.0, 0.0, 5.0], True),
        (Categorical(("a", "b", "c")), [1.0, 0.0], False),
        (Regression(), [40.0, -812.5], True),
        (Regression(), [-1.0, 812.5], False),
        (Regression(), [40.0, 1e30], False),
        (TimeToEvent((1.0, 2.0)), [[3.0, 2.0], [1.0, 0.0]], True),
    ],
)
def test_counts_are_checked_by_the_kind_of_target(target: Target, counts: list[Any], good: bool) -> None:
    task = Task(dict(TASK.modalities), {"label": target}, build_model=TASK.build_model)
    record = replace(content(), counts={"label": np.array(counts)})
    enrolled, sums, refused = enrol([Answer("a", record)], [Answer("a", record)], task)
    assert (len(enrolled), len(refused)) == ((1, 0) if good else (0, 1))
    if good:
        assert target.base_logits(sums[0].counts["label"]).isfinite().all()
