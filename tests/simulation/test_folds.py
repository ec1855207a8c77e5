"""Cross-validation, and each site left out in turn, as whole studies."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cohort.load import load_cohort
from client.config.site import load_site
from client.errors import SiteError
from client.governance.ledger import charges
from client.governance.policy_checks import ledger_of
from server.app import run_study
from server.study.exchange import StudyError
from server.study.results.results_file import read_results
from server.study.results.schema import Results
from server.study.results.table import print_table
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.folds import each_fold
from shared_models.metrics.within_site import WithinSiteConcordance
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import from_checkpoint, score
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process import run_in_process
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import require_folds

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
FOLDS = {"folds": 3, "rounds": 2, "sites": "a, b, c"}


def run(where: dict[str, Path], study: Study, **changed: Any) -> tuple[StudySettings, Results]:
    config = parse_study_settings({**study, **changed})
    results = Results.model_validate(run_in_process(where, config))
    assert not [page for file in where.values() for page in file.parent.rglob("result.html")]  # of each site and fold
    return config, results


def pairs_of_rows(sites: dict[str, Path], config: StudySettings) -> dict[str, WithinSiteConcordance]:
    """Pairs of each site's test patients in each fold, from the rows and the fold's network."""
    task, pairs = load_task(config), {}
    for one in each_fold(config):
        trained = from_checkpoint(load_checkpoint(Path(one.results_dir) / one.study / BEST), task, one)
        for name, file in sites.items():
            cohort = load_cohort(load_site(file), task, one)
            if len(cohort.parts["test"]):
                own = WithinSiteConcordance.of(*score(trained, cohort, task)["recurrence"])
                pairs[name] = pairs[name] + own if name in pairs else own
    return pairs


@pytest.mark.slow
def test_out_of_fold_figures_of_secure_sums_are_those_of_all_rows(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 80, "b": 70, "c": 60})
    config, results = run(sites, {**small_study, "secure-aggregation": "on", "min-sites": 3}, **FOLDS)
    target = results.targets["recurrence"]
    assert target.internal["patients"] == 210
    assert [fold.targets["recurrence"].internal["patients"] for fold in results.folds] == [71, 70, 69]
    folds = [Path(config.results_dir) / "small" / f"fold-{n}" / BEST for n in (1, 2, 3)]
    bins = {str(load_checkpoint(fold).score_ranges) for fold in folds}
    assert len(bins) == 1, "counts of scores in different bins do not add up"
    assert "recurrence" in bins.pop()
    by_site = pairs_of_rows(sites, config)
    interval = (by_site["a"] + by_site["b"] + by_site["c"]).interval()
    for end, value in (("", interval.value), ("_low", interval.low), ("_high", interval.high)):
        assert target.internal[f"c_index_within_sites{end}"] == pytest.approx(value, abs=1e-6)
    calls = [sum(fold.targets["recurrence"].internal[cell] for fold in results.folds) for cell in ("tp", "fn")]
    assert target.internal["sensitivity"] == pytest.approx(calls[0] / sum(calls), abs=1e-6)


def test_each_site_tells_of_all_its_patients_what_their_rows_give(
    hospitals: Hospitals, small_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = hospitals({"a": 120, "b": 100, "c": 90})
    config, results = run(sites, {**small_study, "secure-aggregation": "off"}, **FOLDS)
    target, by_site = results.targets["recurrence"], pairs_of_rows(sites, config)
    assert target.internal["patients"] == 310
    assert [site.patients["test"] for site in results.sites] == [120, 100, 90]
    for site in results.sites:
        own = by_site[site.site]
        step = (own.cases + own.others) / (own.comparable / 2)  # the counts that are told imply half the pairs or more
        assert site.targets["recurrence"]["c_index"] == pytest.approx(own.share(), abs=step / 2 + 0.005)
        assert site.targets["recurrence"]["patients"] == own.cases + own.others
        assert site.scorings == 1
    assert target.between_sites["c_index"].trained == 3

    folder = Path(config.results_dir) / "small"
    assert read_results(folder / "results.json") == results
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert {row["fold"] for row in rows} == {"all", "fold-1", "fold-2", "fold-3"}
    patients = {(row["fold"], row["of"]): float(row["value"]) for row in rows if row["metric"] == "patients"}
    assert patients["all", "internal"] == 310
    assert patients["fold-2", "site b"] == results.folds[1].sites[1].targets["recurrence"]["patients"]
    print_table(results)
    printed = " ".join(capsys.readouterr().out.split())
    assert "fold-3" in printed
    assert "Every patient is tested by the network of the fold that was trained without that patient." in printed


def test_each_site_in_turn_is_a_new_hospital(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 80, "b": 70, "c": 60})
    leave_out = {"leave-out": "each", "sites": "a, b, c", "rounds": 2}
    config, results = run(sites, small_study, **leave_out)
    external = results.targets["recurrence"].external
    assert external["patients"] == 210
    assert [fold.left_out for fold in results.folds] == ["a", "b", "c"]
    for fold in results.folds:
        roles = {site.site: site.role for site in fold.sites}
        assert roles == {name: "evaluate" if name == fold.left_out else "train" for name in sites}
        assert fold.targets["recurrence"].external["patients"] == {"a": 80, "b": 70, "c": 60}[fold.left_out]
        asked = read_results(Path(config.results_dir) / "small" / fold.fold / "results.json").rounds
        assert all(fold.left_out not in attempt.asked for attempt in asked)
    for site, fold in zip(results.sites, results.folds, strict=True):
        left_out = next(one for one in fold.sites if one.site == site.site)
        assert site.targets == left_out.targets
        assert site.patients["test"] == sum(site.patients.values())
    between = results.targets["recurrence"].between_sites["c_index"]
    assert (between.sites, between.trained) == (3, 0)


def test_repeats_are_other_folds_of_the_same_patients(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 200, "b": 160})
    _, results = run(sites, small_study, folds=2, repeats=2, rounds=1)
    assert results.targets["recurrence"].internal["patients"] == 360
    target = [fold.targets["recurrence"].internal["c_index_within_sites"] for fold in results.folds]
    assert len({*target, None}) == 5
    _, once = run(sites, {**small_study, "study": "once"}, folds=2, rounds=1)
    assert once.folds[0].targets == results.folds[0].targets  # the same folds under another study's name
    assert [site.scorings for site in once.folds[0].sites] == [1, 1]  # of the very same network


def test_what_is_suppressed_in_one_fold_leaves_of_all_folds_together(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 200})
    _, results = run(sites, small_study, folds=3, rounds=1)
    for fold in results.folds:
        a, b = (site.targets.get("recurrence", {}) for site in fold.sites)
        assert a.get("c_index") is None
        assert b["c_index"] is not None
        assert fold.targets["recurrence"].internal["patients"] == b["patients"]
    assert results.targets["recurrence"].internal["patients"] == 260
    assert results.targets["recurrence"].internal["f1"] is None  # each fold has its own threshold
    own = results.sites[0].targets["recurrence"]
    assert own["patients"] == 60
    assert own["c_index"] is not None


def test_nothing_is_overwritten_unless_told_and_a_study_of_folds_goes_on_where_it_stopped(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 200, "b": 160})
    study = {**small_study, "folds": 2, "rounds": 1}
    config, results = run(sites, study)
    folder = Path(config.results_dir) / "small"
    before = (folder / "results.json").read_bytes()
    with pytest.raises(StudyError, match="has the results of a study 'small' already"):
        run(sites, study)
    assert (folder / "results.json").read_bytes() == before

    for file in (folder / "results.json", folder / "fold-2/results.json", folder / "fold-2/last.safetensors"):
        file.unlink()
    with pytest.raises(StudyError, match=r"stopped .*resume=true"):
        run(sites, study)
    first = (folder / "fold-1/results.json").stat().st_mtime_ns
    _, again = run(sites, study, resume=True)
    assert (folder / "fold-1/results.json").stat().st_mtime_ns == first
    assert again.targets == results.targets
    with pytest.raises(StudyError, match="rounds differ"):
        run(sites, study, resume=True, rounds=2)
    _, anew = run(sites, study, overwrite=True, seed=1)
    assert anew.targets != results.targets
    assert max(site.scorings for site in anew.folds[0].sites) == 2


def test_a_site_refuses_folds_beyond_those_it_approved(hospitals: Hospitals, small_study: Study) -> None:
    """The center runs more folds than the run config, which hospitals approve, says."""
    sites = hospitals({"a": 60, "b": 50})
    approved = parse_study_settings({**small_study, "folds": 2, "rounds": 1, "join-timeout-s": 0.1})
    begin_budgets(sites, approved)
    more = approved.model_copy(update={"folds": 3})
    with pytest.raises(StudyError, match="it is of fold 3, and the study that was approved has 2 folds"):
        run_study(InProcessGrid(_app(), sites, approved.to_flat()), more)
    none = approved.model_copy(update={"folds": 0, "study": "other"})
    with pytest.raises(StudyError, match="it is of no fold"):
        run_study(InProcessGrid(_app(), sites, approved.to_flat()), none)


@pytest.mark.slow
def test_each_fold_is_charged_to_the_ledger(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 50})
    private = {"privacy": "patient", "target-epsilon": 3.0, "folds": 2, "rounds": 2}
    config, _ = run(sites, small_study, **private)
    site = load_site(sites["a"])
    lines = charges(ledger_of(site))
    assert [(line["study"], line["round"]) for line in lines] == [
        (one.study, number) for one in each_fold(config) for number in (1, 2)
    ]
    assert 2.5 < lines[-1]["epsilon"] <= 3.0  # the study's, all folds together


def test_a_class_rarer_than_the_folds_is_said_before_anything_is_trained(
    hospitals: Hospitals, small_study: Study
) -> None:
    everyone = hospitals({"a": 60, "b": 12, "c": 12})
    sites = {name: everyone[name] for name in ("a", "b")}
    with pytest.raises(SiteError, match="site b, study small/fold-1, folds = 9"):
        require_folds(parse_study_settings({**small_study, "folds": 9}), sites)
    with pytest.raises(SiteError, match=r"2 of 3 sites .* of 9 folds(.|\n)*b: .*(.|\n)*c: .*(.|\n)*sites=b,c"):
        require_folds(parse_study_settings({**small_study, "folds": 9}), everyone)
    with pytest.raises(SiteError, match=r"2 of 3 sites .*(.|\n)*evaluation-only-sites=elm,b,c"):  # and those before
        require_folds(parse_study_settings({**small_study, "folds": 9, "evaluation-only-sites": "elm"}), everyone)
    with pytest.raises(StudyError, match="b: a class of the site's patients is rarer than the study's 9 folds"):
        run(sites, small_study, folds=9)
    paths = json.dumps([str(path) for path in Path(small_study["results-dir"]).rglob("*.safetensors")])
    assert paths == "[]"


def _app() -> Any:
    from client.app import app

    return app


def test_the_mean_over_repeats_is_of_defined_values() -> None:
    from server.study.results.fold_means import mean_metrics

    assert mean_metrics([{"auc": 0.5, "curve": [0.0, 1.0]}, {"auc": None, "curve": [1.0, 1.0]}]) == {
        "auc": 0.5,
        "curve": [0.5, 1.0],
    }
    assert np.isclose(mean_metrics([{"auc": 0.5}, {"auc": 0.8}])["auc"], 0.65)
