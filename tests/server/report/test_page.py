"""The report's page and files, from results that are counted by the code that a study runs."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from server.report.page import draw_page, report_again, write_report
from server.report.study import Study
from server.report.verdict import verdict
from server.study.enrolment import Enrolment
from server.study.exchange import StudyError
from server.study.results.contents import unfinished_results
from server.study.results.importance_section import ImportanceResults
from server.study.results.results_file import UNFINISHED, write_results
from server.study.results.results_folder import FIGURES, REPORT
from server.study.results.rounds_section import Spent
from server.study.results.schema import Results
from server.study.weights.checkpoint import Checkpoint
from shared_models.pages.drawing import table_text
from shared_models.report_answers import Answers
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import load_task
from tests.server.report import made_study

MAX_BYTES = 300_000
Make = Callable[..., Results]


@pytest.fixture
def make() -> Make:
    return made_study.make


@pytest.fixture
def study() -> Results:
    return made_study.study()


@pytest.fixture
def page() -> str:
    return made_study.page_and_figures()[0]


@pytest.fixture(scope="module")
def written() -> Results:
    return made_study.make(rounds=2)


@pytest.fixture(scope="module")
def folder(written: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_report(written, folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def words(page: str) -> str:
    """What a person reads on the page."""
    return " ".join(html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)).split())


def test_a_page_loads_and_runs_nothing_and_is_small(page: str) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r"<script|<link|<img|<iframe|\son\w+=|javascript:|@import|url\((?!#)", page)
    assert not re.findall(r'(?:href|src)="(?!#)[^"]*"', page)
    assert len(page.encode()) < MAX_BYTES


def test_identifiers_are_unique_and_every_reference_has_its_own(page: str) -> None:
    identifiers = re.findall(r'\sid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page)) != set()
    for pair in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page):
        assert "".join(pair) in identifiers


def test_the_figures_of_the_page_are_those_of_the_results(study: Results, page: str) -> None:
    target, recurrence = words(page), study.targets["recurrence"]
    for metrics in (recurrence.internal, recurrence.external):
        value, low, high = (metrics[f"auc_within_sites{end}"] for end in ("", "_low", "_high"))
        assert f"{value:.2f} ({low:.2f} to {high:.2f})" in target
        assert f"{metrics['patients']:,.0f}" in target
        assert f"{metrics['sensitivity']:.0%}".replace("%", " %") in target
    for site in study.sites:
        own = site.targets["er"]
        assert f"{own['auc']:.2f} ({own['auc_low']:.2f} to {own['auc_high']:.2f})" in target, site.site
    subtype = study.targets["subtype"].external
    low, high = (subtype[f"sensitivity_by_class_{end}"][1] for end in ("low", "high"))
    assert f"{subtype['sensitivity_by_class'][1]:.2f} ({low:.2f} to {high:.2f})" in target
    between = recurrence.between_sites["auc"]
    assert f"{between.prediction_low:.2f} to {between.prediction_high:.2f}" in target


@pytest.mark.parametrize("name", ["performance_er", "curves_er"])
def test_a_figure_has_files_for_a_paper(folder: Path, name: str) -> None:
    assert (folder / FIGURES / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "<text" in (folder / FIGURES / f"{name}.svg").read_text(encoding="utf-8")
    assert len(rows_of(folder / FIGURES / f"{name}.csv")) > 0


def test_a_csv_holds_every_site_with_all_digits(written: Results, folder: Path) -> None:
    rows = rows_of(folder / FIGURES / "performance_er.csv")
    own = {row["row"]: float(row["auc"]) for row in rows if row["row"] in {site.site for site in written.sites}}
    assert own == {site.site: site.targets["er"]["auc"] for site in written.sites}
    within = next(row for row in rows if (row["role"], row["row"]) == ("external", "auc_within_sites"))
    assert float(within["high"]) == written.targets["er"].external["auc_within_sites_high"]


def test_what_each_site_spent_and_who_is_missing_is_on_the_page(make: Make) -> None:
    results = make(rounds=2, privacy="patient")
    spent = {"oak": Spent(epsilon=1.234, delta=1e-4), "elm": Spent(epsilon=0.567, delta=1e-5)}
    rounds = [one.model_copy(update={"spent": spent}) for one in results.rounds]
    results = results.model_copy(update={"rounds": rounds, "missing": {"far": "not connected"}})
    text = words(draw_page(results)[0])
    assert "oak 1.23 0.0001" in text
    assert "elm 0.57 1e-05" in text
    assert "The study also names far: missing, and in no figure." in text
    assert "far is named by the study and missing. not connected" in text


def test_who_was_missing_is_named_with_rounds_and_reason(page: str) -> None:
    assert "elm did not count in 2 of 6 rounds (2 to 3). did not answer" in words(page)


def test_names_of_others_are_text(make: Make) -> None:
    results = make({"er": Binary()}, train=("<script>alert(1)</script>", "$x^2$", "a&b", "elm"), outside=(), study="s")
    page, _ = draw_page(results, Answers(title="</title><b>bold</b>"))
    assert "<script" not in page
    assert "<b>bold" not in page
    assert "alert(1)" in words(page)
    assert "$x^2$" in words(page)


def test_what_the_results_do_not_hold_is_not_made_up(page: str) -> None:
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', page, re.DOTALL))
    assert "Not recorded: " in words(sections["comparisons"])
    assert "<svg" not in sections["comparisons"]


def test_a_network_that_ignores_its_images_is_seen_at_once(make: Make) -> None:
    results = make({"er": Binary()})
    drops = (("clinical", "", 0.12, 0.03), ("mri", "", 0.0, 0.01), ("clinical", "size_mm", 0.1, 0.04))
    rows = [
        ImportanceResults(
            modality=modality,
            feature=feature,
            change="shuffled",
            patients=480,
            measure="auc",
            drop=drop,
            drop_low=drop - reach,
            drop_high=drop + reach,
            pooled_drop=None,
            pooled_drop_low=None,
            pooled_drop_high=None,
        )
        for modality, feature, drop, reach in drops
    ]
    target = {"er": results.targets["er"].model_copy(update={"importance": {"internal": rows}})}
    page, figures = draw_page(results.model_copy(update={"targets": target}))
    (section,) = re.findall(r'<section id="importance">(.*?)</section>', page, re.DOTALL)
    assert "clinical 0.12 (0.09 to 0.15); no use of mri is shown" in words(section)
    assert "size mm 0.10 (0.06 to 0.14)" in words(section)
    (figure,) = (one.figure for one in figures if one.figure.name == "importance_er")
    assert [row[5] for row in figure.values] == [0.12, 0.0, 0.1]
    inside = results.model_copy(update={"targets": target, "sites": [s for s in results.sites if s.role == "train"]})
    nobody = target["er"].model_copy(update={"external": {}})
    seen = verdict(Study(inside.model_copy(update={"targets": {"er": nobody}}), Answers()))
    assert any("that the network uses mri" in clause for clause in seen.not_shown)


def test_200_sites_and_300_rounds_are_one_small_page(make: Make) -> None:
    sites = tuple(f"hospital-{number:03d}" for number in range(200))
    results = make({"er": Binary()}, sites[:190], sites[190:], count=40, rounds=300, missing={7: "hospital-101"})
    page, figures = draw_page(results)
    assert len(page.encode()) < MAX_BYTES
    assert "hospital-101 did not count in 1 of 300 rounds" in words(page)
    csvs = {one.figure.name: table_text(one.figure.columns, one.figure.values) for one in figures}
    assert {row["row"] for row in csv.DictReader(csvs["performance_er"].splitlines())} >= set(sites)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ("oak",), "outside": ()}, "In one hospital that trained it"),
        ({"count": 12}, "too few test patients have an outcome that their hospital tells"),
        ({"count": 0}, "too few test patients have an outcome that their hospital tells"),
        ({"prevalence": 0.0}, "too few test patients have an outcome that their hospital tells"),
        ({"prevalence": 1.0}, "too few test patients have an outcome that their hospital tells"),
        ({"validated": False}, "No round was judged: "),
        ({"outside": ()}, "that it works in a hospital that took no part in training, for all took part"),
        ({"privacy": "patient"}, "DP-SGD"),
        ({"secure_aggregation": "on", "min_sites": 3}, "The center saw weights and scores only in sums"),
    ],
    ids=["one site", "few", "none", "no case", "only cases", "no validation", "no external", "private", "secure"],
)
def test_a_study_of_another_kind_has_its_page_too(make: Make, changes: dict[str, object], message: str) -> None:
    assert message in words(draw_page(make(rounds=3, **changes))[0])


def test_a_study_that_failed_has_a_report_that_says_so(make: Make, tmp_path: Path) -> None:

    config = StudySettings(study="elms")
    attempt = make(rounds=1).rounds[0].model_dump()
    enrolled = {
        site: Enrolment(True, {"train": 9}, {"clinical": 9, "genomic": 0}, excluded=0) for site in ("oak", "elm")
    }
    last = Checkpoint(config.to_flat(), 1, {}, {}, enrolled, history=(attempt,), values=((0, 0.5),))
    path = write_results(unfinished_results(load_task(config), config, last, "round 2 failed: elm is away"), tmp_path)
    assert path.name == UNFINISHED
    text = words(report_again(path).read_text(encoding="utf-8"))
    assert "The study did not come to its end: it stopped after one round, and nothing was tested" in text
    assert "round 2 failed: elm is away" in text
    assert "AUC of" not in text
    write_results(make(rounds=1), tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "there are no results"), ('{"schema_version": 1}', "results of schema version 1"), ("{", "damaged")],
)
def test_results_that_cannot_be_read_are_one_sentence(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "results.json"
    if text:
        path.write_text(text)
    with pytest.raises(StudyError, match=message):
        report_again(path)
    assert not (tmp_path / REPORT).exists()


def test_answers_of_the_authors_are_on_the_page_and_fill_the_checklists(
    written: Results, folder: Path, tmp_path: Path
) -> None:
    write_results(written, tmp_path)
    answers = tmp_path / "study.toml"
    answers.write_text('[report]\ntitle = "Recurrence after surgery"\nfunding = "No one paid"\n')
    plain = (folder / REPORT).read_text(encoding="utf-8")
    filled = report_again(tmp_path / "results.json", answers).read_text(encoding="utf-8")
    assert "<h1>Recurrence after surgery</h1>" in filled
    assert "No one paid" in filled
    assert plain.count("not filled") > filled.count("not filled") > 10


def test_a_browser_shows_every_figure_says_no_error_and_asks_no_one(page: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed: the page was not looked at in a browser")
    log, shown = tmp_path / "net.json", tmp_path / "report.html"
    shown.write_text(page, encoding="utf-8")
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    switches += " --disable-component-update --disable-sync --enable-logging=stderr --v=0"
    done = subprocess.run(
        [
            chromium,
            *switches.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--log-net-log={log}",
            "--dump-dom",
            shown.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    asked = set(re.findall(r'"url":"(https?://[^"]*)', log.read_text()))
    assert not {url for url in asked if "google" not in url}  # the browser's own
    figures = re.findall(r"<figure.*?</figure>", done.stdout, re.DOTALL)
    assert len(figures) >= 8
    for figure in figures:
        assert figure.count("<path") > 4, figure[:100]


def test_results_json_is_all_that_the_page_is_made_of(written: Results, folder: Path) -> None:
    read = Results.model_validate(json.loads(written.model_dump_json()))
    assert draw_page(read)[0] == (folder / REPORT).read_text(encoding="utf-8")


def test_a_verdict_claims_no_more_than_its_interval(study: Results, make: Make) -> None:
    def says(results: Results) -> str:
        return verdict(Study(results, Answers())).says[0]

    outside = "In two hospitals that took no part in training, the network "
    assert says(study).startswith(f"{outside}ranked patients by their recurrence within 5 years with an AUC of 0.")
    assert says(make()).startswith(f"{outside}ranked patients by er with an AUC of 0.")
    assert says(make(strength=-2.0)).startswith(f"{outside}ranked patients by er worse than chance, with an AUC of 0.")
    assert says(make(strength=0.0)).startswith(f"{outside}was not shown to rank patients by er better than chance")
    assert says(make(outside=())).startswith("In four hospitals that trained it, on test patients of their own,")
