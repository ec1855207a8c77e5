"""Metrics by subgroup of whole studies, in secure sums and outside."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from server.report.page import write_report
from server.study.exchange import StudyError
from server.study.results.schema import Results
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.folds import each_fold
from shared_models.metrics.summary import pooled_metrics, summarise
from shared_models.score_ranges import with_score_ranges
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import from_checkpoint, score
from simulation.engines.in_process import run_in_process

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
# `er` is no input of the network; an age of 61 lies in no range
BY = {
    "features": "clinical: age_years, size_mm",
    "subgroups": "age_years: <45 | 45-60 | >61; er{negative|positive}",
    "rounds": 1,
}
AGES = {"<45": lambda age: age < 45, "45-60": lambda age: (age >= 45) & (age <= 60), ">61": lambda age: age > 61}


def run(where: dict[str, Path], study: Study, **changed: Any) -> tuple[StudySettings, Results]:
    config = parse_study_settings({**study, **BY, **changed})
    return config, Results.model_validate(run_in_process(where, config))


def add_near_duplicate(file: Path) -> None:
    """A second column that is the receptor's but for a few patients, whose outcome is the difference of both."""
    rows = [line.split(",") for line in (file.parent / "clinical.csv").read_text(encoding="utf-8").splitlines()]
    er = rows[0].index("er")
    signs = [row[er] for row in rows[1:]]
    signs[:5] = ["+" if sign == "-" else "-" for sign in signs[:5]]
    table = [[*row, sign] for row, sign in zip(rows, ["status", *signs], strict=True)]
    (file.parent / "clinical.csv").write_text("\n".join(map(",".join, table)) + "\n", encoding="utf-8")
    line = 'status: {column: status, codes: {"-": negative, "+": positive}}'
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("features: {", f"features: {{{line}, ", 1), encoding="utf-8")


def rows_of(sites: dict[str, Path], config: StudySettings, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, truths and a column's texts of all test patients, read from the files by themselves."""
    task = load_task(config)
    trained = from_checkpoint(load_checkpoint(Path(config.results_dir) / config.study / BEST), task, config)
    parts = []
    for file in sites.values():
        cohort: Cohort = load_cohort(load_site(file), task, config)
        with (file.parent / "clinical.csv").open(encoding="utf-8") as table:
            values = {row["id"]: row[column] for row in csv.DictReader(table)}
        texts = [values[cohort.patients[patient]] for patient in cohort.parts["test"]]
        parts.append((*score(trained, cohort, task)["recurrence"], np.array(texts)))
    scores, truths, texts = (np.concatenate(each) for each in zip(*parts, strict=True))
    return scores, truths, texts


def test_subgroups_of_secure_sums_are_those_of_all_rows(
    hospitals: Hospitals, small_study: Study, tmp_path: Path
) -> None:
    sites = hospitals({"a": 90, "b": 80, "c": 70})
    secure = {"secure-aggregation": "on", "min-sites": 3, "sites": "a, b, c"}
    config, results = run(sites, {**small_study, **secure})
    of_target = results.targets["recurrence"]
    by_name = {(one.column, one.subgroup): one.internal for one in of_target.subgroups}
    ranges = load_checkpoint(Path(config.results_dir) / config.study / BEST).score_ranges
    target = with_score_ranges(load_task(config), ranges).targets["recurrence"]
    scores, truths, ages = rows_of(sites, config, "age")
    for name, inside in AGES.items():
        chosen = inside(ages.astype(float))
        expected = pooled_metrics(summarise(target, scores[chosen], truths[chosen]), of_target.threshold or 0.0)
        subgroup = by_name["age_years", name]
        assert subgroup["patients"] == chosen.sum()
        for metric in ("auc", "auc_low", "sensitivity", "brier", "events_by_horizon"):
            assert subgroup[metric] == pytest.approx(expected[metric], abs=1e-6), metric
    for column in ("age_years", "er"):
        assert sum(by_name[key]["patients"] for key in by_name if key[0] == column) == of_target.internal["patients"]
    assert by_name["er", "others"]["patients"] == 0
    page = write_report(results, tmp_path).read_text(encoding="utf-8")
    assert "recurrence by age years" in page
    assert "45-60" in page


def test_a_small_subgroup_is_counted_with_others_that_no_total_gives_away(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 400, "b": 160})
    for file in sites.values():
        add_near_duplicate(file)
    by = {"subgroups": f"{BY['subgroups']}; status{{negative|positive}}"}
    _, results = run(sites, small_study, **{"test-fraction": 0.6}, **by)
    target = {(one.column, one.subgroup): one.internal for one in results.targets["recurrence"].subgroups}
    for column in ("age_years", "er"):
        patients = [metrics["patients"] for (by, _), metrics in target.items() if by == column]
        assert sum(patients) == results.targets["recurrence"].internal["patients"]
    large, small = results.sites
    assert {one.subgroup for one in large.subgroups} >= {"45-60", "negative", "positive"}
    outcomes = ("events_by_horizon", "free_at_horizon", "censored_before_horizon")
    for site in results.sites:
        for column in ("age_years", "er"):
            own = [one.metrics for one in site.subgroups if one.column == column]
            whole = site.targets["recurrence"]
            for outcome in outcomes:
                known = [metrics[outcome] for metrics in own if metrics[outcome] is not None]
                assert all(count >= 10 or count == 0 for count in known)
                if known and len(known) == len(own) and whole[outcome] is not None:
                    rest = whole[outcome] - sum(known)
                    assert rest >= 10 or rest == 0, "what is left follows from the total"
    assert len(small.subgroups) < 5, "too few of some"
    assert not [one for site in results.sites for one in site.subgroups if one.column == "status"]
    assert sum(target["status", name]["patients"] for name in ("negative", "positive")) == 0
    assert all("auc_within_sites" in metrics and "sensitivity" not in metrics for metrics in target.values())


@pytest.mark.slow
def test_subgroups_over_folds_are_of_all_patients(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 300, "b": 260})
    config, results = run(sites, small_study, folds=2)
    assert len(each_fold(config)) == 2
    target = [one for one in results.targets["recurrence"].subgroups if one.column == "er"]
    assert sum(one.internal["patients"] for one in target) == 560
    assert all(one.internal["c_index_within_sites"] for one in target if one.internal["patients"])
    first = results.folds[0].targets["recurrence"].subgroups
    assert not any(one.internal["patients"] for one in first), "of one fold a small subgroup would follow"


def test_a_subgroup_that_nobody_is_in_is_said_before_anything_is_trained(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 80, "b": 70})
    nobody = r"no hospital has age_years >95, or too few patients there \(its `minimum_count`\) to tell; choose other"
    with pytest.raises(StudyError, match=nobody):
        run(sites, small_study, subgroups="age_years: <=95 | >95")
    assert not (Path(small_study["results-dir"]) / "small" / BEST).exists()
    with pytest.raises(StudyError, match=r"no hospital has grade 1, grade 2, or too few patients"):
        run(sites, {**small_study, "overwrite": True}, subgroups="grade{1|2}")
