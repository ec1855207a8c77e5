from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, MetricRecord, RecordDict

from server.study.enrolment import enrol, initial_model, pooled_statistics
from server.study.exchange import Answer
from shared_models.features import FeatureStatistics
from shared_models.messages import NUMBERS, PACKED, RESULTS, Arrays, pack_arrays, pack_statistics, reply, unpack_arrays
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent
from shared_models.task import Task, load_task

CONFIG = StudySettings(features="clinical: age_years, size_mm\ngenomic: ESR1, PGR, HER2, BRCA1")
TASK = load_task(CONFIG)
Spoil = Callable[[RecordDict], object]


def truth() -> np.ndarray:
    return np.array([[400.0, 1.0], [4000.0, 0.0], [90.0, 1.0], [800.0, 0.0]] * 10, np.float32)


def content(trains: float = 1.0, **changes: Any) -> RecordDict:
    chance = np.random.default_rng(0)
    statistics = {
        "clinical": FeatureStatistics.of(chance.normal(50, 9, (40, 2))),
        "genomic": FeatureStatistics.of(chance.normal(0, 1, (30, 4))),
    }
    numbers = {"trains": trains, "excluded": 2, "patients/train": 40, "patients/validation": 5, "patients/test": 6}
    numbers |= {"modality/clinical": 40, "modality/genomic": 30, **changes}
    results = pack_statistics(statistics) | {"counts.recurrence": TASK.targets["recurrence"].counts(truth())}
    return reply(results=results, numbers=numbers)


def set_number(name: str, value: Any) -> Spoil:
    return lambda record: record[NUMBERS].__setitem__(name, value)


def set_array(name: str, value: Any) -> Spoil:
    return set_arrays(lambda arrays: arrays | {name: np.asarray(value)})


def set_arrays(change: Callable[[Arrays], Arrays]) -> Spoil:
    return lambda record: record.__setitem__(RESULTS, pack_arrays(change(unpack_arrays(record[RESULTS]))))


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "no numbers": (lambda record: record.pop(NUMBERS), "numbers"),
    "no results": (lambda record: record.pop(RESULTS), "results"),
    "numbers of another kind": (lambda record: record.__setitem__(RESULTS, MetricRecord()), "results"),
    "a number left out": (lambda record: record[NUMBERS].pop("patients/test"), "patients/test"),
    "NaN patients": (set_number("patients/train", float("nan")), "patients/train = nan"),
    "negative patients": (set_number("patients/train", -4.0), "patients/train = -4.0"),
    "more patients than a country": (set_number("patients/train", 1e12), "is not a number of patients"),
    "fewer than nobody excluded": (set_number("excluded", -1.0), "excluded = -1.0"),
    "a list": (set_number("trains", [1.0, 1.0]), "trains = [1.0, 1.0]"),
    "more owners than patients": (set_number("modality/genomic", 4e6), "more training patients have genomic"),
    "NaN counts": (set_array("counts.recurrence", np.full((2, 7), np.nan)), "expected finite numbers (2, 7)"),
    "negative counts": (set_array("counts.recurrence", np.full((2, 7), -40.0)), "are no numbers of patients"),
    "endless counts": (set_array("counts.recurrence", np.full((2, 7), 1e300)), "are no numbers of patients"),
    "counts of another shape": (set_array("counts.recurrence", np.ones(3)), "float64(3,), expected"),
    "NaN sums": (set_array("features.clinical.total", [np.nan, 1.0]), "features.clinical.total is not finite"),
    "negative squares": (set_array("features.clinical.squares", [-1.0, 1.0]), "cannot be negative"),
    "sums of more features": (set_array("features.genomic.known", np.ones(5)), "has shape (5,), expected (4,)"),
    "sums left out": (
        set_arrays(lambda arrays: {name: arrays[name] for name in arrays if name != "features.genomic.known"}),
        "genomic.known is missing",
    ),
    "no arrays": (
        lambda record: record[RESULTS].__setitem__(PACKED, Array("uint8", (1,), "safetensors", b"x")),
        "not in safetensors",
    ),
}


@pytest.mark.parametrize(("spoil", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_enrolment_is_refused_by_name_and_the_rest_go_on(spoil: Spoil, reason: str) -> None:
    spoilt = content()
    spoil(spoilt)
    answers = [Answer("a", content()), Answer("b", spoilt), Answer("c", content()), Answer("d", None, "not connected")]
    enrolled, _, refused = enrol(answers, answers, TASK)
    assert [site.site for site in enrolled] == ["a", "c"]
    assert list(refused) == ["b"]
    assert refused["b"].startswith("enrolment refused: ")
    assert reason in refused["b"]


def test_statistics_are_those_of_the_sites_that_train() -> None:
    answers = [Answer("a", content()), Answer("b", content()), Answer("c", content(trains=0.0))]
    enrolled, sums, refused = enrol(answers, answers, TASK)
    assert not refused
    assert [site.trains for site in enrolled] == [True, True, False]
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
    record = content()
    set_array("counts.label", counts)(record)
    enrolled, sums, refused = enrol([Answer("a", record)], [Answer("a", record)], task)
    assert (len(enrolled), len(refused)) == ((1, 0) if good else (0, 1))
    if good:
        assert target.base_logits(sums[0].counts["label"]).isfinite().all()
