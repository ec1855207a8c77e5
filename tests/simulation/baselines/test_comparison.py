"""Comparisons and the matrix as a researcher asks for them: each row is stored, and its tests are those of the rows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from client.config.site import load_site
from client.inference import scored_cohort
from server.study.results.comparison_section import SiteScores, compare, corrected
from server.study.results.results_file import read_results
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.folds import folds_of
from shared_models.metrics.delong import auc, delong_test
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.targets import Binary
from shared_models.task import load_task
from shared_models.trained_model import read_model
from simulation.__main__ import main
from simulation.baselines.ablations import ablations, without_each_site
from simulation.baselines.comparison import compared, matrix_of
from simulation.baselines.pooled_and_local import from_checkpoint, pool_cohorts, score, study_cohorts
from simulation.baselines.scores import Scored, scored, splits_of
from simulation.baselines.tabular import fit_tabular

Hospitals = Callable[..., dict[str, Path]]


def test_a_row_has_delongs_and_mcnemars_tests_of_the_patients_themselves() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.uniform(size=90) < 0.4).astype(float)
    study, other = (1 / (1 + np.exp(-truth * s - rng.normal(0, 1, 90))) for s in (2.0, 0.5))
    truth[5] = np.nan
    row = compare("er", Binary(), "pooled", {"oak": [SiteScores(study, other, truth, (0.5, 0.6))]})
    expected = delong_test(other, study, truth)
    assert (row.patients, row.value) == (89, pytest.approx(auc(other, truth), abs=1e-5))
    assert row.difference == pytest.approx(expected.difference.value, abs=1e-5)
    assert (row.difference_low, row.p) == (
        pytest.approx(expected.difference.low, abs=1e-4),
        pytest.approx(expected.p_value, rel=1e-3),
    )
    known = ~np.isnan(truth)
    first, second = (study >= 0.5) == (truth == 1), (other >= 0.6) == (truth == 1)
    only = ((first & ~second & known).sum(), (second & ~first & known).sum())
    assert (row.only_study_right, row.only_other_right) == only
    assert row.mcnemar_p == pytest.approx(binomtest(min(only), sum(only)).pvalue, rel=1e-4)
    again = corrected([row, row.model_copy(update={"p": 0.5})])
    assert [one.p_holm for one in again] == [pytest.approx(2 * row.p, rel=1e-4), pytest.approx(0.5)]  # type: ignore[operator]


def test_folds_are_compared_each_with_its_own_network_and_a_patient_counts_once() -> None:
    rng = np.random.default_rng(1)

    def model(name: str, threshold: float) -> dict[str, Scored]:
        """Two folds of oak, whose scores have nothing to do with each other's, and elm, which only evaluates."""
        parts = {"fold-1": ("oak", range(40)), "fold-2": ("oak", range(40, 80))}
        return {
            label: Scored(name, {"er": {site: of(site, own), "elm": of("elm", range(30))}}, {"er": threshold})
            for label, (site, own) in parts.items()
        }

    def of(site: str, numbers: range) -> tuple[list[str], Any, Any]:
        truth = np.array([number % 3 == 0 for number in numbers], float)
        return [f"{site}{number}" for number in numbers], rng.uniform(size=len(truth)) * 0.5 + truth * 0.3, truth

    study, other = model("study", 0.4), model("other", 0.6)
    task: Any = SimpleNamespace(targets={"er": Binary()})
    (row,) = compared(study, other, task)
    parts = [(label, "oak") for label in study] + [("fold-1", "elm")]
    pairs, right, only = np.zeros(2), 0.0, np.zeros(2, int)
    for label, site in parts:
        (_, first, truth), (_, second, _) = study[label].test["er"][site], other[label].test["er"][site]
        count = truth.sum() * (1 - truth).sum()
        pairs += count * auc(second, truth), count * auc(first, truth)
        right += count
        calls = ((first >= 0.4) == (truth == 1)), ((second >= 0.6) == (truth == 1))
        only += (calls[0] & ~calls[1]).sum(), (calls[1] & ~calls[0]).sum()
    assert row.patients == 110
    assert row.value == pytest.approx(pairs[0] / right, abs=1e-5)
    assert row.difference == pytest.approx((pairs[0] - pairs[1]) / right, abs=1e-5)
    assert (row.only_study_right, row.only_other_right) == tuple(only)
    cells = {one.tested_on: (one.patients, one.value) for one in matrix_of(other, "other", task)}
    first = other["fold-1"].test["er"]["elm"]
    assert cells["elm"] == (30, pytest.approx(auc(first[1], first[2]), abs=1e-5))
    assert cells["oak"][0] == 80
    (later,) = compared(study, {"fold-2": other["fold-2"]}, task)
    assert later.patients == 70, "elm's patients count in the first fold that both models have"


def test_where_each_hospital_is_left_out_its_patients_alone_are_compared(hospitals: Hospitals) -> None:
    sites, patients = hospitals({"a": 60, "b": 50, "c": 40}), {"a": 60, "b": 50, "c": 40}
    config = parse_study_settings({"sites": "a, b, c", "leave-out": "each", "min-sites": 1})
    task, models = load_task(config), dict[str, dict[str, Scored]]()
    for split in splits_of(sites, task, config):
        training = [cohort for cohort in split.cohorts if len(cohort.parts["train"])]
        pooled = pool_cohorts(training)
        fitted = fit_tabular("cox", pooled, task, split.config)
        assert fitted is not None
        for name in ("study", "other"):
            models.setdefault(name, {})[split.label] = scored(name, fitted, split, task)
        tested = models["study"][split.label].test["recurrence"]
        assert [*tested] == [split.label.removeprefix("without-")]
        of_hospitals_that_train = {patient for cohort in training for patient in cohort.patients}
        assert not of_hospitals_that_train & {one for identifiers, _, _ in tested.values() for one in identifiers}
    (row,) = compared(models["study"], models["other"], task)
    assert row.patients == sum(patients.values())
    assert {one.tested_on: one.patients for one in matrix_of(models["study"], "study", task)} == patients


def test_cox_stands_beside_a_cross_validated_study_and_sites_are_left_out_of_it(
    hospitals: Hospitals, small_study: dict[str, Any], tmp_path: Path
) -> None:
    sites = hospitals({"a": 90, "b": 70})
    settings = [f"{key}={value}" for key, value in {**small_study, "rounds": 1, "secure-aggregation": "off"}.items()]
    words = ["--sites", *map(str, sites.values()), "--folds", "2", "--compare", "--models", "cox,sites"]
    assert main([*words, "--set", *settings]) == 0
    results = read_results(tmp_path / "runs" / "small" / "results.json")
    tested = results.targets["recurrence"].internal["patients"]
    rows = {row.model: row for row in results.comparisons}
    assert [*rows] == ["pooled, cox on tables", "federated, without a", "federated, without b"]
    assert {row.patients for row in rows.values()} == {tested} == {160}
    assert rows["pooled, cox on tables"].measure == "c_index"
    new, old = rows["federated, without b"], rows["federated, without a"]
    assert new.by_site["b"] != old.by_site["b"], "b is a new hospital in one, and trained in the other"


def test_a_site_is_scored_by_the_network_with_its_own_normalisation_layers(
    own_layers: tuple[dict[str, Path], StudySettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sites, config = own_layers
    best, task = Path(config.results_dir) / config.study / BEST, load_task(config)
    trained = from_checkpoint(load_checkpoint(best), task, config, sites)
    assert [*trained.own] == ["site_1", "site_2"]
    for cohort in study_cohorts(sites, task, config):
        own, _ = score(trained, cohort, task)["relapse"]
        common, _ = score(replace(trained, own={}), cohort, task)["relapse"]
        assert np.allclose(own, common) == (cohort.site == "external")
        at_site = scored_cohort.score(load_site(sites[cohort.site]), read_model(best), outcomes=True).network
        expected = trained.own.get(cohort.site, trained.model).state_dict()
        for name, value in at_site.state_dict().items():
            assert value.equal(expected[name]), f"{cohort.site}: {name}"
    assert not caplog.records
    monkeypatch.setattr(scored_cohort, "folder_of_rounds", lambda *_: tmp_path)  # as where an update lost sight of them
    scored_cohort.score(load_site(sites["site_1"]), read_model(best), outcomes=True)
    assert f"own in {tmp_path}: the network scores with the common ones" in caplog.text


def test_a_study_without_a_site_tests_it_as_a_new_hospital() -> None:
    config = parse_study_settings({"sites": "a, b, c", "evaluation-only-sites": "c", "min-sites": 2})
    made = {name: one for _, name, one in without_each_site(config)}
    assert {name: one.never_train for name, one in made.items()} == {
        "federated, without a": ("c", "a"),
        "federated, without b": ("c", "b"),
    }
    assert {one.min_sites for one in made.values()} == {1}
    in_turn = parse_study_settings(
        {"sites": "a, b, c", "leave-out": "each", "min-sites": 2, "secure-aggregation": "off"}
    )
    for _, _, one in without_each_site(in_turn):
        assert len(folds_of(one)) == 2, "each of the two that are left is left out, and one trains"


def test_every_model_is_a_row_of_the_results_of_the_csv_and_of_the_table(
    hospitals: Hospitals, small_study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = hospitals({"a": 90, "b": 70})
    settings = [f"{key}={value}" for key, value in {**small_study, "rounds": 2, "outcome": "binary"}.items()]
    words = ["--sites", *map(str, sites.values()), "--compare", "--matrix", "--set", *settings]
    assert main([*words, "--models", "pooled,local,svm"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    folder = tmp_path / "runs" / "small"
    results = read_results(folder / "results.json")
    models = ["pooled", "a alone", "b alone", "pooled, svm on tables"]
    assert [row.model for row in results.comparisons] == models
    with (folder / "comparisons.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [row["model"] for row in stored] == models
    assert all({"value at a", "value at b", "p_holm", "mcnemar_p_holm"} <= row.keys() for row in stored)
    assert [float(row["value"]) for row in stored] == [row.value for row in results.comparisons]
    cells = {(one.trained_on, one.tested_on): one.value for one in results.matrix}
    assert set(cells) == {(model, site) for model in ("federated (fedavg)", "a", "b") for site in ("a", "b")}
    with (folder / "matrix.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    assert all(word in output for word in (*models[:3], "comparisons.csv: 4 rows", "matrix.csv: 6 rows"))
    assert "AUC of the model of each row" in output


def test_models_that_there_are_not_are_refused_before_the_study_runs(
    hospitals: Hospitals, small_study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--sites", *map(str, hospitals({"a": 20, "b": 20}).values()), "--compare", "--models", "pooled,smv"]
    assert main([*words, "--set", f"results-dir={small_study['results-dir']}"]) == 3
    assert "there is no model 'smv'; did you mean 'svm'?" in " ".join(capsys.readouterr().err.split())
    words[-1] = "cox"
    assert main([*words, "--set", f"results-dir={small_study['results-dir']}", "outcome=binary"]) == 3
    assert "cox cannot be compared with the study: it has no time to event" in " ".join(capsys.readouterr().err.split())
    assert not [*(tmp_path / "runs").rglob("*.safetensors")]


def test_an_ablation_keeps_what_is_said_of_its_own_modality() -> None:
    features = "clinical: age_years; genomic: ESR1:log, PGR:log"
    settings = {"task": "recurrence_mri", "features": features, "grids": "mri: 16x16x16 at 4x4x4 mm", "study": "all"}
    config = parse_study_settings(settings)
    made = {one.study: one for _, _, one in ablations(load_task(config), config)}
    assert set(made) == {"mri-alone", "clinical-alone", "genomic-alone"}
    for study, one in made.items():
        assert list(load_task(one).modalities) == [study.removesuffix("-alone")]
    assert [made[name].features for name in ("genomic-alone", "mri-alone")] == ["genomic: ESR1:log, PGR:log", ""]
    assert made["mri-alone"].grids == config.grids
    assert Path(made["mri-alone"].results_dir) == Path(config.results_dir) / "all" / "ablations"
