"""Two finished networks on the same test patients of real sites: equal to the rows, approved, bounded and refused."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from client.admission import AdmittedStudy
from client.app import app as client_app
from client.config.site import load_site
from client.errors import SiteError
from client.gate import require_comparison, require_expected
from client.verbs.approval_summary import make_summary
from server.__main__ import main as server_main
from server.app import run_study
from server.operations.center import Center
from server.operations.create import create_center
from server.study.exchange import StudyError
from server.study.results.comparison_section import ModelComparison, corrected
from server.study.results.results_file import read_results
from server.study.weights.checkpoint import load_checkpoint
from shared_models.comparison import comparison_settings, settings_compared
from shared_models.messages import EvaluateExternalRequest
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task
from shared_models.trained_model import TrainedModel, read_model
from simulation.baselines.comparison import compared
from simulation.baselines.pooled_and_local import from_checkpoint, study_cohorts
from simulation.baselines.scores import Scored, Split, scored
from simulation.engines.in_process import run_in_process
from simulation.engines.in_process_grid import InProcessGrid
from tests.conftest import SMALL_STUDY, write_hospitals

STUDIES = {"first": {}, "second": {"features": "clinical: er{negative|positive}", "hidden-units": 4}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Two studies of the same three hospitals, with other features and another network."""
    root = tmp_path_factory.mktemp("compared")
    sites = write_hospitals(root / "hospitals", {"a": 150, "b": 140, "c": 130})
    for name, own in STUDIES.items():
        place = {
            "study": name,
            "results-dir": str(root / "runs"),
            "outcome": "binary",
            "secure-aggregation": "on",
            "min-sites": 3,
        }
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("server.app.try_to_report", lambda results, folder: None)
            run_in_process(sites, parse_study_settings({**SMALL_STUDY, **place, **own, "rounds": 2}))
    return root / "runs", sites


def network(runs: Path, study: str) -> TrainedModel:
    return read_model(runs / study / "best.safetensors")


def settings(runs: Path, sites: dict[str, Path], **changed: Any) -> StudySettings:
    config = comparison_settings(network(runs, "first"), network(runs, "second"), sorted(sites))
    return config.model_copy(update={"results_dir": str(runs), "join_timeout_s": 1.0, **changed})


def by_rows(runs: Path, sites: dict[str, Path]) -> ModelComparison:
    """The same comparison of rows, which only a simulation has."""

    def of(study: str) -> Scored:
        model = network(runs, study)
        task = load_task(model.config)
        trained = from_checkpoint(load_checkpoint(runs / study / "best.safetensors"), task, model.config)
        split = Split("", model.config, study_cohorts(sites, task, model.config))
        one = scored(study, trained, split, task)
        return Scored(study, one.test, model.thresholds)

    (row,) = corrected(compared({"": of("first")}, {"": of("second")}, load_task(network(runs, "first").config)))
    return row


def test_the_sums_of_sites_give_what_the_rows_give(finished: Any) -> None:
    runs, sites = finished
    expected = by_rows(runs, sites)
    run_study(InProcessGrid(client_app, sites, settings(runs, sites).to_flat()), settings(runs, sites))
    (row,) = read_results(runs / "first" / "results.json").comparisons
    assert row.model == f"second, round {network(runs, 'second').round}"
    for name in ("value", "value_low", "value_high", "difference", "difference_low", "difference_high", "p", "p_holm"):
        assert getattr(row, name) == pytest.approx(getattr(expected, name), rel=1e-4), name
    for name in ("patients", "only_study_right", "only_other_right", "mcnemar_p", "mcnemar_p_holm", "mcnemar_patients"):
        assert getattr(row, name) == getattr(expected, name), name
    assert row.mcnemar_patients == row.patients
    assert expected.only_study_right is not None
    assert row.by_site.keys() == {"the sum of a, b, c"}
    with (runs / "first" / "comparisons.csv").open(newline="") as file:
        assert [line["model"] for line in csv.DictReader(file)] == [row.model]

    plain = settings(runs, sites, secure_aggregation="off", study="plain", compares_sha256="0" * 64)
    with pytest.raises(Exception, match="no checkpoints of first, second"):
        run_study(InProcessGrid(client_app, sites, plain.to_flat()), plain)
    plain = settings(runs, sites, secure_aggregation="off", study="plain")
    run_study(InProcessGrid(client_app, sites, plain.to_flat()), plain)
    (coarse,) = read_results(runs / "first" / "results.json").comparisons
    assert coarse.difference == pytest.approx(expected.difference, abs=0.1)
    assert coarse.by_site.keys() == {"a", "b", "c"}
    assert coarse.only_study_right is None or coarse.mcnemar_patients
    assert coarse.p is not None
    assert expected.p is not None
    assert coarse.p >= expected.p / 10


def test_a_site_answers_nothing_else_and_scores_no_other_networks(finished: Any) -> None:
    runs, sites = finished
    config = settings(runs, sites)
    site = load_site(sites["a"])
    study = AdmittedStudy(config, site, load_task(config), (Path(), None, None), RecordDict())
    model = network(runs, "first")
    other = EvaluateExternalRequest(
        round=1, model=model.weights, statistics=model.statistics.pack(), thresholds=model.thresholds
    )
    with pytest.raises(SiteError, match="a comparison of two networks and nothing else"):
        require_comparison(study, other)
    with pytest.raises(SiteError):
        require_expected(study, other)
    page = make_summary(site, config, load_task(config))
    assert "no weights leave: nothing is trained here" in page["It sends to the center"]
    assert any("pairs of test patients" in line and "only in sums" in line for line in page["It sends to the center"])
    assert any("er{negative|positive}" in line for line in page["The network starts from"])
    assert not any("weights as trained" in line for line in page["It sends to the center"])


def test_the_second_network_is_built_as_its_own_study_built_it(finished: Any) -> None:
    runs, sites = finished
    first, second = settings_compared(settings(runs, sites))
    assert (first.study, first.hidden_units) == ("first", network(runs, "first").config.hidden_units)
    assert (second.study, second.hidden_units, second.features) == ("second", 4, STUDIES["second"]["features"])
    one, other = network(runs, "first"), network(runs, "second")
    changed = {"results_dir": "elsewhere", "join_timeout_s": 7.0, "evaluation_only_sites": "b, a"}
    one = replace(one, config=one.config.model_copy(update={"evaluation_only_sites": "a,b"}))
    other = replace(other, config=other.config.model_copy(update=changed))
    _, second = settings_compared(comparison_settings(one, other, sorted(sites)))  # none of these is a difference
    assert (second.hidden_units, second.results_dir) == (4, one.config.results_dir)
    moved = settings(runs, sites).model_copy(update={"compares_settings": '{"test_fraction": 0.9}'})
    with pytest.raises(SettingsError, match="may not change test_fraction"):
        settings_compared(moved)


def test_studies_with_default_settings_can_be_compared_and_sums_need_three_sites(finished: Any) -> None:
    """With three named sites a study has secure aggregation of itself, and `min-sites` is two."""
    runs, _ = finished
    plain = {"secure_aggregation": "auto", "min_sites": 2, "sites": "a, b, c"}
    networks = [network(runs, study) for study in STUDIES]
    models = [replace(one, config=one.config.model_copy(update=plain)) for one in networks]
    config = comparison_settings(*models, ["a", "b", "c"])
    assert (config.secure_aggregation, config.min_sites, config.study) == ("on", 3, "first-against-second")
    assert settings_compared(config)[1].min_sites == 3
    with pytest.raises(SettingsError, match="over 3 sites or more"):
        comparison_settings(*models, ["a", "b"])
    named = {**plain, "secure_aggregation": "off", "study": "s" * 64}
    first, second = (replace(one, config=one.config.model_copy(update=named)) for one in networks)
    config = comparison_settings(first, second, ["a"])
    assert (config.secure_aggregation, config.min_sites) == ("off", 1)
    assert config.study != first.config.study
    assert len(config.study) == 64


def test_sites_are_asked_only_where_their_answers_can_be_added(finished: Any, tmp_path: Path) -> None:
    runs, sites = finished
    shutil.copytree(runs, tmp_path / "runs")
    results = tmp_path / "runs" / "first" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"schema_version": "0"}))
    config = settings(runs, sites, results_dir=str(tmp_path / "runs"))
    asked: list[str] = []
    grid = InProcessGrid(client_app, sites, config.to_flat(), on_message=lambda site, *_: asked.append(site))
    with pytest.raises(StudyError, match="schema version 0"):
        run_study(grid, config)
    assert not asked


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"split_seed": 7}, "they test other patients (split-seed is 0 and 7)"),
        ({"task": "recurrence_mri"}, "the tasks differ"),
        ({"folds": 5}, "has folds"),
        ({"horizon_days": 730.0}, "no outcome is the same"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(finished: Any, changed: Any, sentence: str) -> None:
    runs, _ = finished
    first, second = network(runs, "first"), network(runs, "second")
    config = second.config.model_copy(update=changed)
    task = load_task(config) if "horizon_days" in changed else second.task
    with pytest.raises(SettingsError) as raised:
        comparison_settings(first, replace(second, config=config, task=task), ["a"])
    assert sentence in str(raised.value)
    with pytest.raises(SettingsError, match="the same network"):
        comparison_settings(first, first, ["a"])


def test_the_center_writes_what_hospitals_approve(finished: Any, tmp_path: Path, capsys: Any) -> None:
    runs, _ = finished
    create_center(Center(tmp_path / "center", "center.example.org:443", port=1))
    (tmp_path / "center" / "results").mkdir(exist_ok=True)
    for study in STUDIES:
        (tmp_path / "center" / "results" / study).symlink_to(runs / study)
    words = ["compare", "first", "second", "--directory", str(tmp_path / "center")]
    assert server_main([*words, "--write", str(tmp_path / "compare.toml")]) == 0
    assert 'compares = "first, second"' in (tmp_path / "compare.toml").read_text()
    assert server_main([*words, "--sites", "a,zoo"]) == 2
    assert "zoo" in capsys.readouterr().err
