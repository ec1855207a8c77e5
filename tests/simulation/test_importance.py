"""What the network uses, in whole studies: planted features first, sums over sites that are those of the rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.cohort.load import load_cohort
from client.config.site import load_site
from client.training.dataset import select_patients
from client.training.importance import importance_of
from client.training.loop import predict
from server.study.results.schema import Results
from server.study.results.table import print_table
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.importance import Importance
from shared_models.settings import SettingsError
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import from_checkpoint
from simulation.engines.in_process import run_in_process

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
FEATURES = {"importance": "features"}


@pytest.mark.slow
def test_sums_over_sites_are_those_of_the_rows_and_the_planted_feature_is_first(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 120, "b": 100, "c": 90})
    config = parse_study_settings({**small_study, **FEATURES, "secure-aggregation": "on", "min-sites": 3})
    results = Results.model_validate(run_in_process(sites, config))
    rows = {row.feature: row for row in results.targets["recurrence"].importance["internal"]}
    assert results.targets["recurrence"].importance["external"] == []
    assert max(rows, key=lambda name: rows[name].drop or 0) == "size_mm"
    assert rows["size_mm"].used
    assert not rows["age_years"].used
    task = load_task(config)
    trained, total = from_checkpoint(load_checkpoint(Path(config.results_dir) / "small" / BEST), task, config), None
    for name, file in sites.items():
        patients = select_patients(load_cohort(load_site(file), task, config), "test", task, trained.statistics)
        scores = predict(trained.model, patients, task)
        own = importance_of(trained.model, patients, scores, task, config, seed_of(config.seed, name))
        total = own if total is None else total + own
    assert isinstance(total, Importance)
    exact = [interval for interval, _ in total.pairs["recurrence"].differences()]
    assert [row.drop for row in rows.values()] == pytest.approx([one.value for one in exact], abs=1e-5)
    assert [row.drop_low for row in rows.values()] == pytest.approx([one.low for one in exact], abs=1e-4)


def seed_of(seed: int, site: str) -> int:
    import zlib

    return zlib.crc32(f"{seed}/0/{site}".encode())


def test_folds_add_up_without_secure_aggregation_and_the_table_says_what_is_used(
    hospitals: Hospitals, small_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study = {**small_study, **FEATURES, "secure-aggregation": "off", "folds": 2, "rounds": 1, "sites": "a, b"}
    results = Results.model_validate(run_in_process(hospitals({"a": 150, "b": 120}), parse_study_settings(study)))
    target = results.targets["recurrence"].importance["internal"]
    by_fold = [fold.targets["recurrence"].importance["internal"] for fold in results.folds]
    assert [row.feature for row in target] == ["age_years", "size_mm", "er"]
    assert target[0].patients == sum(rows[0].patients for rows in by_fold) == 270
    size = [rows[1].drop or 0.0 for rows in by_fold]
    assert min(size) - 1e-6 <= (target[1].drop or 0.0) <= max(size) + 1e-6
    print_table(results)
    assert "No use of" not in capsys.readouterr().out  # that is said of whole modalities
    lines = (Path(study["results-dir"]) / "small" / "results.csv").read_text().splitlines()
    assert any("clinical: size_mm shuffled" in line for line in lines)


def test_features_of_no_table_or_of_a_genome_are_refused_before_anything_is_trained() -> None:
    genes = "clinical: " + ", ".join(f"gene_{number}" for number in range(2001))
    with pytest.raises(SettingsError, match=r"2,001 features; each is scored 5 times and 2,000 at most are"):
        load_task(parse_study_settings({**FEATURES, "features": genes}))
    with pytest.raises(SettingsError, match=r"the study has no table"):
        load_task(parse_study_settings({**FEATURES, "task": "recurrence_mri", "modalities": "mri"}))
