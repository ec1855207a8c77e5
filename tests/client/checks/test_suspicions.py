"""Suspicions of columns that a whole site's check hardly reaches: rules that follow, rows twice, logarithms, codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from client.checks.arithmetic import arithmetic_warnings
from client.checks.column_warnings import given_away
from client.checks.counts import readiness
from client.checks.date_columns import dates_of
from client.checks.event_times import in_two_units
from client.checks.expression_scales import expression_warnings
from client.checks.feature_column import FeatureColumn
from client.checks.frequent_values import frequent_values
from client.checks.relations import relation_warnings
from client.checks.rewritten import rewritten
from client.checks.row_order import row_order_warnings
from client.checks.whole_tables import whole_table_warnings
from client.config.site import load_site
from client.contract.cells import Cells
from client.contract.columns import Column
from shared_models.features import Feature
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.cohorts.mammography.cohort import write_cohort
from simulation.cohorts.sites import SITES

PATIENTS = 200


def columns_of(values: Mapping[str, np.ndarray]) -> list[FeatureColumn]:
    made = []
    for name, numbers in values.items():
        texts = tuple("" if np.isnan(one) else f"{one:.6g}" for one in numbers)
        cells = Cells(f"column {name!r}", texts, tuple(range(2, len(texts) + 2)))
        read = np.array([float(text) if text else np.nan for text in texts])
        made.append(FeatureColumn(Feature(name), Column(column=name), cells, read))
    return made


def texts_of(warnings: list) -> str:
    return " / ".join(one if isinstance(one, str) else one.text for one in warnings)


@pytest.fixture
def shapes() -> dict[str, np.ndarray]:
    """Ellipsoids as PyRadiomics measures them."""
    rng = np.random.default_rng(1)
    least, minor, major = np.sort(rng.uniform(4, 40, (3, PATIENTS)), axis=0)
    volume, surface = np.pi / 6 * least * minor * major, 4 * np.pi * (least * major / 4)
    names = ("LeastAxisLength", "MinorAxisLength", "MajorAxisLength", "Maximum3DDiameter", "MeshVolume", "SurfaceArea")
    made = dict(zip(names, (least, minor, major, major, volume, surface), strict=True))
    made |= {"Elongation": minor / major, "Flatness": least / major, "SurfaceVolumeRatio": surface / volume}
    return {f"original_shape_{name}": numbers for name, numbers in made.items()}


def test_what_pyradiomics_measures_agrees(shapes):
    assert arithmetic_warnings({}, columns_of(shapes)) == []
    assert arithmetic_warnings({}, columns_of({name: numbers.round(1) for name, numbers in shapes.items()})) == []


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("MeshVolume", lambda one: 1000 * one, "above that of a ball"),
        ("MeshVolume", lambda one: one / 1000, "SurfaceVolumeRatio is not that of"),
        ("MinorAxisLength", lambda one: np.roll(one, 1), "Elongation is not that of"),
        ("LeastAxisLength", lambda one: 10 * one, "LeastAxisLength is above"),
    ],
)
def test_a_column_of_another_unit_or_row_contradicts_the_others(shapes, name, change, text):
    shapes[f"original_shape_{name}"] = change(shapes[f"original_shape_{name}"])
    assert text in texts_of(arithmetic_warnings({}, columns_of(shapes)))


@pytest.fixture
def intensities() -> dict[str, np.ndarray]:
    """First-order features of skewed samples, in bits and with the moments as PyRadiomics has them."""
    samples = np.random.default_rng(4).gamma(2.0, 30.0, (PATIENTS, 300))
    deviations = samples - samples.mean(axis=1, keepdims=True)
    variance = (deviations**2).mean(axis=1)
    shares = np.stack([np.bincount((row // 25).astype(int), minlength=40) for row in samples]) / samples.shape[1]
    bits = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    made = {"Variance": variance, "MeanAbsoluteDeviation": np.abs(deviations).mean(axis=1)}
    made |= {"Skewness": (deviations**3).mean(axis=1) / variance**1.5}
    made |= {"Kurtosis": (deviations**4).mean(axis=1) / variance**2}
    made |= {"Entropy": -(shares * bits).sum(axis=1), "Uniformity": (shares**2).sum(axis=1)}
    return {f"original_firstorder_{name}": numbers for name, numbers in made.items()}


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("Kurtosis", lambda one: one - 3, "Kurtosis is below what original_firstorder_Skewness allows"),
        ("Variance", np.sqrt, "Variance is below what"),
        ("Entropy", lambda one: 0.5 * one, "Entropy is below what"),
        ("Uniformity", lambda one: 100 * one, "Uniformity is above 1"),
    ],
)
def test_moments_that_no_sample_has_are_named(intensities, name, change, text):
    assert arithmetic_warnings({}, columns_of(intensities)) == []
    intensities[f"original_firstorder_{name}"] = change(intensities[f"original_firstorder_{name}"])
    assert text in texts_of(arithmetic_warnings({}, columns_of(intensities)))


def test_levels_of_a_factor_are_named_and_counts_are_not():
    measured = np.random.default_rng(5).gamma(0.6, 150.0, PATIENTS).round()
    levels = np.unique(measured, return_inverse=True)[1] + 1.0
    whole_numbers = columns_of({"pgr": measured + 1, "levels": levels, "age": np.arange(PATIENTS) % 60 + 25.0})
    texts = [" ".join(rewritten(*one.distinct)) for one in whole_numbers]
    assert ["from 1 to" in text for text in texts] == [False, True, False]


def test_genes_contradict_the_classes_that_are_made_of_them():
    rng = np.random.default_rng(6)
    subtype = rng.integers(0, 3, PATIENTS)
    low = np.where(subtype == 0, 5.0, 10.0)
    columns = columns_of({name: rng.normal(low, 1) for name in ("ESR1", "FOXA1")})
    labels = {f"pam50 {name}": (subtype == i).astype(float) for i, name in enumerate(("Basal", "LumA", "LumB"))}
    assert relation_warnings(columns, labels) == []
    labels["pam50 Basal"], labels["pam50 LumA"] = labels["pam50 LumA"], labels["pam50 Basal"]
    assert "pam50 Basal and ESR1: go together the contrary way" in texts_of(relation_warnings(columns, labels))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda levels, rng: levels, ""),
        (lambda levels, rng: levels + rng.uniform(-6, 6, (PATIENTS, 1)), "rise together"),
        (lambda levels, rng: np.abs(levels - levels.mean(axis=0)), "half of a bell"),
    ],
)
def test_genes_of_unequal_samples_and_without_signs_are_named(change, text):
    rng = np.random.default_rng(7)
    levels = change(rng.normal(rng.uniform(6, 12, 30), 1.2, (PATIENTS, 30)), rng)
    genes = columns_of({f"GEN{index}": column for index, column in enumerate(levels.T)})
    texts = texts_of(expression_warnings(genes))
    assert text in texts
    assert text or not texts


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda index, day: day, ""),
        (lambda index, day: day.replace(day=15) if index % 3 == 0 else day, "day 15 of a month"),
        (lambda index, day: day.replace(day=1, month=7) if index % 8 == 0 else day, "1 July of a year"),
        (lambda index, day: date(1960, 1, 1) if index % 30 == 0 else day, "the date 1960-01-01"),
        (lambda index, day: date(2024, 3, 5) if index % 9 == 0 else day, "the date 2024-03-05"),
    ],
)
def test_dates_that_stand_for_others_are_named(change, text):
    days = np.random.default_rng(8).integers(0, 6000, PATIENTS)
    texts = [change(index, date(2003, 1, 1) + timedelta(int(day))).isoformat() for index, day in enumerate(days)]
    named = texts_of(list(dates_of(Cells("column 'Seen'", tuple(texts), tuple(range(2, PATIENTS + 2))), "iso")))
    assert text in named
    assert text or not named


def test_early_losses_are_no_months_among_days():
    rng = np.random.default_rng(9)
    days, event = rng.integers(900, 3500, PATIENTS).astype(float), rng.random(PATIENTS) < 0.3
    few = np.arange(PATIENTS) < 30
    assert in_two_units(np.where(few, np.round(days / 30.44), days), event)
    assert in_two_units(np.where(few, np.round(days / 30.44), days), event & ~few) is None


def test_a_reader_in_turn_is_no_column_that_was_recycled():
    in_turn = columns_of({"reader": np.tile([3.0, 1, 4, 2, 8, 5, 7, 6], PATIENTS // 8)})
    assert row_order_warnings(in_turn, np.arange(len(in_turn[0].values))) == []
    again = np.tile(np.random.default_rng(1).normal(50, 10, PATIENTS // 4), 4)
    assert "follow each other twice" in texts_of(row_order_warnings(columns_of({"age": again}), np.arange(len(again))))


def test_rows_that_are_all_there_twice_are_named():
    rng = np.random.default_rng(2)
    once = {"size": rng.normal(20, 5, 50).round(1), "shape": rng.integers(0, 4, 50).astype(float)}
    patients = [f"P{index // 2}" for index in range(50)]
    assert "is there twice" not in texts_of(whole_table_warnings(columns_of(once), patients))
    twice = {name: np.concatenate([numbers, numbers]) for name, numbers in once.items()}
    assert "is there twice" in texts_of(whole_table_warnings(columns_of(twice), patients * 2))


@pytest.mark.parametrize(("base", "name"), [(np.e, "natural"), (2, "binary"), (10, "decimal")])
def test_logarithms_of_whole_numbers_are_named(base, name):
    amounts = np.random.default_rng(3).integers(1, 900, PATIENTS)
    patients = [str(index) for index in range(PATIENTS)]
    logged = texts_of(whole_table_warnings(columns_of({"receptor": np.log(amounts) / np.log(base)}), patients))
    assert f"the {name} logarithm of whole numbers" in logged
    assert (
        whole_table_warnings(columns_of({"receptor": np.random.default_rng(4).gamma(2, 2, PATIENTS)}), patients) == []
    )
    tiny = np.random.default_rng(4).uniform(1, 9, PATIENTS).round(1) * 1e-6  # all are nearly the logarithm of 1
    assert (
        whole_table_warnings(columns_of({"diffusion": np.array([float(f"{one:.1e}") for one in tiny])}), patients) == []
    )


@pytest.mark.parametrize(("value", "named"), [(99, True), (888, True), (29.33, True), (20, False)])
def test_codes_and_filled_means_stand_out_and_round_numbers_do_not(value, named):
    sizes = np.random.default_rng(5).gamma(4, 7, PATIENTS).round()
    sizes[:24] = value
    sizes[24:60] = 0  # a more frequent one does not hide it
    warnings = texts_of(list(frequent_values(columns_of({"amount": sizes})[0])))
    assert (f"is {value:g} in" in warnings) == named


def test_a_limit_of_what_was_measured_stands_out_beside_many_zeros():
    amounts = np.where(np.arange(PATIENTS) % 3, np.random.default_rng(6).gamma(1, 60, PATIENTS).round(), 0.0)
    assert list(frequent_values(columns_of({"amount": amounts})[0])) == []
    capped = texts_of(list(frequent_values(columns_of({"amount": np.minimum(amounts, 100)})[0])))
    assert "is 100 in" in capped


def test_a_feature_that_is_known_because_of_the_outcome_is_named():
    rng = np.random.default_rng(7)
    event, sizes = (rng.random(PATIENTS) < 0.4).astype(float), rng.normal(20, 5, PATIENTS)
    at_random = np.where(rng.random(PATIENTS) < 0.4, sizes, np.nan)
    assert given_away(columns_of({"size": at_random}), {"the event": event}) == []
    recorded = np.where(event == 1, sizes, np.nan)
    assert "whether size is known gives the event away" in texts_of(
        given_away(columns_of({"size": recorded}), {"the event": event})
    )


def test_what_is_the_patients_may_stand_in_each_of_her_rows():
    ages = np.repeat(np.random.default_rng(8).normal(60, 9, PATIENTS // 4).round(1), 4)
    one_a_row, four_a_patient = np.arange(PATIENTS), np.arange(PATIENTS) // 4
    assert "repeats the row above" in texts_of(row_order_warnings(columns_of({"age": ages}), one_a_row))
    assert row_order_warnings(columns_of({"age": ages}), four_a_patient) == []


def test_what_is_the_patients_counts_once_however_many_lesions_she_has():
    ages = np.random.default_rng(9).normal(60, 9, 60).round(1)
    owner = np.repeat(np.arange(60), np.where(np.arange(60) == 7, 12, 1))  # one has twelve
    (one,) = columns_of({"age": ages[owner]})
    rows = replace(one, cells=replace(one.cells, rows=tuple((owner + 2).tolist())))
    assert "far more often" in texts_of(list(frequent_values(rows)))
    assert list(frequent_values(rows.once())) == []
    assert one.once() is one


def test_a_clean_cohort_of_two_views_a_patient_has_no_warning(tmp_path):
    (site,) = (replace(one, patients=80) for one in SITES if one.name == "D")
    (file,) = write_cohort(tmp_path, sites=[site])
    config = parse_study_settings({"study": "s", "task": "relapse_mammogram"})
    problems = readiness(load_site(file), config, load_task(config)).problems
    assert [one.text for one in problems if one.severity != "note"] == []
