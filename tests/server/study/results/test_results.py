from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from server.study.enrolment import Enrolment
from server.study.exchange import Answer, StudyError
from server.study.results.contents import make_results
from server.study.results.results_file import RESULTS, read_results, write_results
from server.study.results.schema import Results
from server.study.results.table import print_table
from server.study.scoring import pack, pool
from server.study.weights.checkpoint import Checkpoint
from shared_models.messages import EvaluateTestReply
from shared_models.metrics.summary import merge_small_cells, pack_summary, site_metrics, summarise
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent
from shared_models.task import Table, Task

SITES = ("oak", "a-hospital-whose-name-alone-would-fill-more-than-half-of-a-terminal", "outside")
ZERO = {"norm": 0.0, "cosine": None, "clipped": False}
TARGETS: dict[str, Target] = {
    "yes or no": Binary(),
    "time": TimeToEvent(),
    "class": Categorical(("a", "b", "c")),
    "number": Regression(),
}


def observed(target: Target, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truths of some patients."""
    chance = np.random.default_rng(seed)
    scores = chance.uniform(size=count)
    if isinstance(target, TimeToEvent):
        return scores, np.stack([chance.uniform(1, 3000, count), chance.uniform(size=count) < 0.5], axis=1)
    if isinstance(target, Categorical):
        return chance.dirichlet(np.ones(3), count), chance.integers(0, 3, count).astype(float)
    if isinstance(target, Regression):
        return 100 * scores, 100 * scores + chance.normal(0, 9, count)
    return scores, (chance.uniform(size=count) < scores).astype(float)


def answer(site: str, targets: dict[str, Target], count: int) -> Answer[EvaluateTestReply]:
    test: dict[str, np.ndarray] = {}
    metrics: dict[str, dict[str, float]] = {}
    for name, target in targets.items():
        scores, truth = observed(target, count, seed=len(site))
        test |= pack_summary(merge_small_cells(target, summarise(target, scores, truth), 10), name)
        metrics[name] = site_metrics(target, scores, truth, 0.5)
    internal, external = ({}, test) if site == "outside" else (test, {})
    return Answer(site, EvaluateTestReply(test=internal, external=external, metrics=metrics))


def results_of(
    targets: dict[str, Target],
    count: int = 4321,
    extra: tuple[Answer[EvaluateTestReply], ...] = (),
    problems: dict[str, str] | None = None,
    validation: tuple[dict[str, np.ndarray], ...] = (),
    **settings: Any,
) -> dict[str, Any]:
    task = Task({"clinical": Table()}, targets, build_model=lambda *_: None, name="t")  # type: ignore[arg-type, return-value]
    answers = [answer(site, targets, count) for site in SITES] + list(extra)
    patients = {"train": 9, "validation": 2, "test": 3}
    enrolled = {a.site: Enrolment(a.site != "outside", patients, {"clinical": 9}, excluded=4) for a in answers}
    replies = {a.site: a.reply for a in answers if a.reply}
    values = ((0, float("nan")), (1, 0.75))
    influences = {"oak": {"norm": 2.0, "cosine": 0.5, "clipped": True}, "outside": ZERO}
    attempt = {"round": 1, "attempt": 1, "asked": ["oak"], "counted": ["oak"], "problems": {}, "seconds": 0.5}
    history = ({**attempt, "updates": {} if settings.get("secure_aggregation") else influences},)
    best = Checkpoint({}, 1, {}, {}, enrolled, best_round=1, best_value=0.75, values=values, history=history)
    if validation:
        sums = pool({str(site): counted for site, counted in enumerate(validation)}, task, StudySettings())
        best = replace(best, validation=pack(sums))
    thresholds = {name: (0.5, "f1, pooled validation") for name, kind in targets.items() if isinstance(kind, Binary)}
    config = StudySettings(study="elms", **settings)
    roles = ({s: r.test for s, r in replies.items()}, {s: r.external for s, r in replies.items()})
    tested = (pool(roles[0], task, config), pool(roles[1], task, config))
    made = make_results(task, config, best, best, thresholds, answers, tested, problems or {})
    return made.model_dump(mode="json")


def printed(results: dict[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(Results.model_validate(results), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("count", [0, 1, 30])
def test_results_are_json_without_nan_however_few_patients_there_are(tmp_path: Path, count: int) -> None:
    results = results_of(TARGETS, count)

    def never(constant: str) -> None:
        pytest.fail(f"{constant} in results.json")

    text = write_results(Results.model_validate(results), tmp_path).read_text()
    assert json.loads(text, parse_constant=never) == results
    assert results["validation"] == [[0, None], [1, 0.75]]
    assert set(results["targets"]) == set(TARGETS)
    assert results["sites"][0]["excluded"] == 4
    assert "oak: 4 patients with files that cannot be used were excluded there." in printed(results)


@pytest.mark.parametrize("kind", TARGETS)
def test_the_table_fits_80_columns_and_no_number_is_cut(kind: str) -> None:
    results = results_of({"recurrence": TARGETS[kind]})
    text = printed(results)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "elms: recurrence, test patients (fedavg)" in text
    recurrence = results["targets"]["recurrence"]
    for metrics in (
        recurrence["internal"],
        recurrence["external"],
        *(site["targets"]["recurrence"] for site in results["sites"]),
    ):
        for name, value in metrics.items():
            if name in {"auc", "c_index"}:
                assert f"{value:.2f} ({metrics[f'{name}_low']:.2f}-{metrics[f'{name}_high']:.2f})" in text
            elif name in {"patients", "events", "positives"}:
                assert f"{value:.0f}" in text
            elif kind == "time":
                continue  # no column is left for the rates at the threshold
            elif name in {"f1", "sensitivity", "specificity", "accuracy", "macro_f1", "mae", "rmse", "r2"}:
                assert f"{value:.2f}" in text


@pytest.mark.parametrize(
    ("kind", "there", "absent"),
    [
        ("yes or no", ["AUC", "F1", "sens.", "spec.", "cases"], ["C-index", "MAE"]),
        ("time", ["C-index", "events", "AUC at horizon"], ["F1", "sens.", "cases", "MAE"]),
        ("class", ["accuracy", "macro F1"], ["AUC", "sens.", "Threshold"]),
        ("number", ["MAE", "RMSE", "R2"], ["AUC", "F1", "Threshold"]),
    ],
)
def test_a_target_has_the_columns_of_its_kind(kind: str, there: list[str], absent: list[str]) -> None:
    text = printed(results_of({"recurrence": TARGETS[kind]}))
    assert all(heading in text for heading in there)
    assert not any(heading in text for heading in absent)


@pytest.mark.parametrize(("kind", "metric"), [("yes or no", "auc"), ("time", "c_index")])
def test_the_value_within_sites_has_a_line_of_its_own_above_the_pooled_one(kind: str, metric: str) -> None:
    results = results_of({"recurrence": TARGETS[kind]})
    recurrence = results["targets"]["recurrence"]
    pooled = recurrence["internal"]
    value, low, high = (pooled[f"{metric}_within_sites{end}"] for end in ("", "_low", "_high"))
    rows = [line.split() for line in printed(results, 120).splitlines()]
    names = (["within"], ["internal"], ["external"])
    within, *by_role = (row for row in rows if row[:1] in names)
    assert within[:4] == ["within", "sites", f"{value:.2f}", f"({low:.2f}-{high:.2f})"]
    assert [row[:2] for row in by_role] == [["internal", str(2 * 4321)], ["external", str(4321)]]
    assert recurrence["pooled"]["patients"] == 3 * 4321
    between = recurrence["between_sites"][metric]
    assert (between["sites"], between["trained"]) == (3, 2)
    assert f"over 3 sites, 2 of which trained: {between['mean']:.2f}" in " ".join(printed(results, 300).split())
    results["sites"] = results["sites"][:1]
    assert "within sites" not in printed(results, 120)


@pytest.mark.parametrize(
    ("kinds", "count", "message"),
    [
        (["yes or no"], 90, "validation patients, within sites"),
        (["yes or no", "time"], 90, "validation patients, within sites"),
        (["time", "number"], 90, "validation patients, within sites where there are pairs, else pooled"),
        (["class", "number"], 90, "validation patients, pooled"),
        (["yes or no"], 0, "validation patients, pooled"),
    ],
)
def test_how_the_round_was_chosen_is_said_as_it_was(kinds: list[str], count: int, message: str) -> None:
    targets = {kind: TARGETS[kind] for kind in kinds}
    sites = [answer(site, targets, count).reply for site in SITES[:2]]
    assert results_of(targets, validation=tuple(reply.test for reply in sites if reply))["selected_by"] == message


def test_who_only_tests_is_told_apart_where_there_is_one() -> None:
    results = results_of({"er": Binary()})
    assert "tests" in printed(results)
    results["sites"] = results["sites"][:2]
    assert "trains" not in printed(results)


def test_a_site_that_did_not_answer_or_answered_nonsense_is_a_row_of_dashes() -> None:
    empty = EvaluateTestReply(test={}, metrics={})
    extra = (Answer("away", None, "not connected"), Answer("empty", empty))
    results = results_of({"er": Binary()}, extra=extra, problems={"away": "not connected"})
    rows = {line.split()[0]: line.split()[1:] for line in printed(results, 120).splitlines() if line.strip()}
    for site in ("away", "empty"):
        assert set(rows[site]) == {"trains", "-"}
    assert rows["internal"][0] == str(2 * 4321)


def test_a_problem_is_printed_as_it_is_whatever_brackets_it_holds() -> None:
    problem = "update rejected: claims [100.0] [/red] patients"
    assert f"oak: {problem}" in printed(results_of({"er": Binary()}, problems={"oak": problem}))


def test_only_sites_numbers_of_the_target_are_kept() -> None:
    odd: Answer[EvaluateTestReply] = Answer(
        "odd", EvaluateTestReply(test={}, metrics={"er": {"auc": float("nan")}, "other": {"auc": 1.0}})
    )
    site = results_of({"er": Binary()}, extra=(odd,))["sites"][-1]
    assert site["targets"]["er"]["auc"] is None
    assert list(site["targets"]) == ["er"]


def test_the_privacy_paragraph_is_in_the_file_and_on_the_screen() -> None:
    results = results_of({"er": Binary()})
    assert results["privacy"]["covered_by_noise"] == []
    text = printed(results)
    assert "No differential privacy" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_calibration_curve_stands_beside_the_other_metrics_of_all_sites_and_of_no_single_one() -> None:
    results = results_of({"er": Binary()})
    pooled = results["targets"]["er"]["pooled"]
    assert len(pooled["calibration_predicted"]) == len(pooled["calibration_observed"]) == 16
    predicted, observed = (pooled[f"calibration_{name}"][3:13] for name in ("predicted", "observed"))
    assert predicted == pytest.approx(observed, abs=0.06)  # outcomes are drawn by the scores themselves
    assert not [name for name in results["sites"][0]["targets"]["er"] if name.startswith("calibration")]


def test_who_was_clipped_is_counted_and_told() -> None:
    results = results_of({"er": Binary()})
    assert results["rounds"][0]["updates"]["oak"] == {"norm": 2.0, "cosine": 0.5, "clipped": True}
    assert results["aggregation"]["clipped"] == {"oak": 1}
    assert "1 of 2 updates were larger than 3 times the median norm of its round, and were" in printed(results, 200)
    assert "Updates were not clipped" in printed(results_of({"er": Binary()}, clip_updates=0.0))


def test_with_secure_sums_the_results_say_that_no_single_norm_is_known() -> None:
    results = results_of({"er": Binary()}, secure_aggregation=True, min_sites=3)
    assert results["aggregation"]["seen"] == "sums"
    assert "it knows no single update's norm, and clipped none" in printed(results, 200)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    results = Results.model_validate(results_of(TARGETS))
    assert read_results(write_results(results, tmp_path)) == results


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "results of schema version 2, and this release reads version 3 only"),
        ({"schema_version": None}, "results of schema version None"),
        ({"rounds": 3}, "the results are damaged"),
    ],
)
def test_results_of_another_version_or_damaged_ones_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = tmp_path / RESULTS
    file.write_text(json.dumps({**results_of({"er": Binary()}), **change}))
    with pytest.raises(StudyError, match=message):
        read_results(file)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "damaged"), ("[1]", "version none"), ('{"study": "x"}', "version none")]
)
def test_a_file_that_is_no_results_of_this_release_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(StudyError, match=message):
        read_results(tmp_path / RESULTS)


def test_a_pooled_value_that_rewards_knowing_the_hospital_is_said_to() -> None:
    results = results_of({"er": Binary()}, secure_aggregation="on", min_sites=3)
    metrics = results["targets"]["er"]["internal"]
    remark = "also rewards knowing the hospital"
    assert remark not in printed({**results})
    metrics |= {"auc": 0.72, "auc_within_sites": 0.5, "auc_within_sites_low": 0.44, "auc_within_sites_high": 0.56}
    text = " ".join(printed(results).split())
    assert (
        f"The pooled AUC of internal patients, 0.72, {remark}: among patients of the same hospital it is 0.50." in text
    )
    metrics["auc_bound"] = 0.2  # merged cells leave open whether it is higher at all
    assert remark not in printed({**results})
