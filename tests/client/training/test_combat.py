from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.cohort.load import Cohort
from client.training.combat import harmonise, own_statistics, store_sums, stored_sums
from client.training.dataset import feature_statistics, select_patients
from shared_models.combat import adjustment, references
from shared_models.features import parse_features
from shared_models.metrics.arrays import total
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task
from simulation.baselines.pooled_and_local import harmonised, pool_cohorts

CONFIG = StudySettings(harmonisation="combat")
TASK = Task(
    {name: Table(features) for name, features in parse_features("clinical: age\nradiomics: x, y, z").items()},
    {"er": Binary()},
    build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
)


def cohort_of(site: str, seed: int, gain: float = 1.0, offset: float = 0.0, trains: bool = True) -> Cohort:
    """60 patients with one or two lesions each; every tenth lesion lacks a value, every ninth has no radiomics."""
    chance = np.random.default_rng(seed)
    first = np.append(0, np.cumsum(chance.integers(1, 3, 60)))
    rows = int(first[-1])
    radiomics = (gain * chance.normal([3, 0, -8], [1, 2, 4], (rows, 3)) + offset).astype(np.float32)
    radiomics[::10, 1] = np.nan
    present = np.ones((rows, 2), bool)
    present[::9, 1] = False
    radiomics[~present[:, 1]] = np.nan
    everybody = np.arange(60)
    parts = {"train": everybody[:40], "validation": everybody[40:50], "test": everybody[50:]}
    return Cohort(
        site=site,
        patients=tuple(f"{site}-{index}" for index in everybody),
        first=first,
        sampling_weight=np.ones(rows),
        inputs={"clinical": chance.normal(55, 9, (rows, 1)).astype(np.float32), "radiomics": radiomics},
        present=present,
        truths={"er": chance.integers(0, 2, 60).astype(np.float32)},
        parts=parts if trains else {"train": everybody[:0], "validation": everybody[:0], "test": everybody},
    )


@pytest.fixture
def cohorts() -> list[Cohort]:
    return [cohort_of("oak", 0), cohort_of("elm", 1, gain=2.5, offset=4), cohort_of("far", 2, 0.5, -3, trains=False)]


def spread(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    rows = cohort.inputs["radiomics"]
    return np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)


def test_every_site_comes_to_one_scale_also_one_that_never_trains(cohorts: list[Cohort]) -> None:
    corrected = harmonised(cohorts, TASK, CONFIG)
    (mean, deviation), *others = (spread(cohort) for cohort in corrected)
    for other_mean, other_deviation in others:
        assert (np.abs(other_mean - mean) < 0.5 * deviation).all()
        np.testing.assert_allclose(other_deviation, deviation, rtol=0.5)
    assert (np.abs(spread(cohorts[1])[0] - spread(cohorts[0])[0]) > 0.5 * spread(cohorts[0])[1]).any()
    for before, after in zip(cohorts, corrected, strict=True):
        assert after.inputs["clinical"] is before.inputs["clinical"]
        assert after.inputs["radiomics"].dtype == np.float32
        np.testing.assert_array_equal(np.isnan(after.inputs["radiomics"]), np.isnan(before.inputs["radiomics"]))


def test_the_centers_statistics_are_those_of_the_pooled_harmonised_rows(cohorts: list[Cohort]) -> None:
    training = [feature_statistics(cohort, TASK) for cohort in cohorts[:2]]
    combat_references = references(training, CONFIG)["radiomics"]
    sent = total(adjustment(sums["radiomics"], combat_references).statistics(sums["radiomics"]) for sums in training)
    pooled = feature_statistics(pool_cohorts(harmonised(cohorts[:2], TASK, CONFIG)), TASK)["radiomics"]
    np.testing.assert_allclose(sent.mean, pooled.mean, rtol=1e-5)
    np.testing.assert_allclose(sent.deviation, pooled.deviation, rtol=1e-5)


def test_a_site_that_trains_looks_at_its_training_patients_alone(cohorts: list[Cohort]) -> None:
    elm = cohorts[1]
    held_out = elm.rows(np.arange(40, 60))
    other = elm.inputs["radiomics"].copy()
    other[held_out] *= 100
    changed = replace(elm, inputs={**elm.inputs, "radiomics": other})
    before, after = harmonised(cohorts, TASK, CONFIG), harmonised([cohorts[0], changed, cohorts[2]], TASK, CONFIG)
    for index, cohort in enumerate(cohorts):
        rows = cohort.rows(cohort.parts["train"] if index == 1 else np.arange(60))
        one, two = before[index].inputs["radiomics"][rows], after[index].inputs["radiomics"][rows]
        np.testing.assert_array_equal(one, two)


def test_a_site_that_only_evaluates_changes_nobody_else_and_needs_no_outcome(cohorts: list[Cohort]) -> None:
    far = replace(cohorts[2], truths={"er": np.full(60, np.nan, np.float32)})
    moved = replace(far, inputs={**far.inputs, "radiomics": far.inputs["radiomics"] * 7 + 1})
    one, two = harmonised([*cohorts[:2], far], TASK, CONFIG), harmonised([*cohorts[:2], moved], TASK, CONFIG)
    for index in (0, 1):
        np.testing.assert_array_equal(one[index].inputs["radiomics"], two[index].inputs["radiomics"])
    assert (np.abs(spread(two[2])[0] - spread(one[2])[0]) < 0.3 * spread(one[2])[1]).all()


def test_without_harmonisation_a_cohort_is_what_it_was(cohorts: list[Cohort]) -> None:
    assert harmonised(cohorts, TASK, StudySettings())[0] is cohorts[0]
    assert harmonise(cohorts[0], {}, {}) is cohorts[0]


def test_network_input_is_finite_also_for_an_absurd_scanner() -> None:
    sites = [cohort_of("oak", 0), cohort_of("elm", 1, gain=1e7, offset=-1e12)]
    corrected = harmonised(sites, TASK, CONFIG)
    pooled = pool_cohorts(corrected)
    inputs, _ = select_patients(pooled, "train", TASK, feature_statistics(pooled, TASK)).read(
        np.arange(len(pooled.present))
    )
    assert np.isfinite(inputs["radiomics"].numpy()).all()


def test_patients_who_come_later_do_not_move_the_others(cohorts: list[Cohort], tmp_path: Path) -> None:
    file = tmp_path / "harmonisation" / "study.safetensors"
    store_sums(cohorts[0], TASK, file)
    first = own_statistics(cohorts[0], TASK)["radiomics"]
    np.testing.assert_array_equal(stored_sums(cohorts[1], TASK, file)["radiomics"].total, first.total)
    store_sums(cohorts[1], TASK, file)  # a study that starts again
    assert (stored_sums(cohorts[1], TASK, file)["radiomics"].total != first.total).all()


@pytest.mark.parametrize("content", [None, b"", b"x" * 99])
def test_sums_that_were_lost_or_damaged_are_taken_anew(
    cohorts: list[Cohort], tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "study.safetensors"
    if content is not None:
        file.write_bytes(content)
    expected = own_statistics(cohorts[0], TASK)["radiomics"]
    for cohort in cohorts[:2]:  # the second reads what the first has stored
        np.testing.assert_array_equal(stored_sums(cohort, TASK, file)["radiomics"].squares, expected.squares)
