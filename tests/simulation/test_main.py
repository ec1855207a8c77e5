"""The command as a researcher types it, in a process of its own."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

Hospitals = Callable[..., dict[str, Path]]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def study_file(small_study: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(tomli_w.dumps({**small_study, "rounds": 2}), encoding="utf-8")
    return file


@pytest.fixture
def simulate(tmp_path: Path) -> Command:
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "simulation", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done

    return run


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The same in this process, where no process of its own is needed: its exit code and what it said."""
    from simulation.__main__ import main

    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str]:
        code = main([str(word) for word in words])
        output = capsys.readouterr()
        return code, " ".join((output.out + output.err).split())

    return run


def results_of(study: dict[str, Any], name: str = "small") -> dict[str, Any]:
    text = (Path(study["results-dir"]) / name / "results.json").read_text()
    return dict(json.loads(text))


def test_help_shows_how_to_start(simulate: Command) -> None:
    done = simulate("--help")
    assert done.returncode == 0
    for word in ("--sites", "--split", "--into", "--by", "--resume", "Exit codes:"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "one of the arguments --synthetic --sites --split"),
        (["--sites", "a.yaml", "--split", "b.yaml"], "not allowed with argument"),
        (["--split", "a.yaml", "--by", "er", "--into", "2"], "not allowed with argument"),
        (["--split", "a.yaml", "--into", "many"], "invalid int value"),
        (["--sites", "a.yaml", "b.yaml", "--into", "2"], "--by and --into go with --split"),
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    from simulation.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_two_sites_train_and_the_table_and_the_files_stand(
    simulate: Command, hospitals: Hospitals, study_file: Path, small_study: dict[str, Any]
) -> None:
    done = simulate("--study", study_file, "--sites", *hospitals({"a": 80, "b": 60}).values())
    assert done.returncode == 0, done.stderr
    assert "C-index" in done.stdout
    assert all(site in done.stdout for site in ("a", "b", "pooled"))
    results = results_of(small_study)
    assert results["rounds_completed"] == 2
    folder = Path(small_study["results-dir"]) / "small"
    assert all((folder / file).exists() for file in ("last.safetensors", "best.safetensors"))
    assert f"Report: {folder.resolve() / 'report.html'}" in done.stdout.replace("\n", "")
    output = " ".join(done.stdout.split())
    assert "no validation value of round 0 is known" in done.stderr  # too few patients at each site
    assert results["selected_by"].startswith("last round")
    assert results["unscored"] in output
    assert results["unscored"] in html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    assert re.search(r"b: recurrence: of its validation patients \d with the event \(\d short\)", output)
    again = simulate("--report", folder)
    assert again.returncode == 0, again.stderr
    assert simulate("--report", folder / "none").returncode == 4


def test_one_table_as_three_sites(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path, small_study: dict[str, Any]
) -> None:
    code, output = main("--study", study_file, "--split", hospitals({"oak": 150})["oak"], "--into", 3)
    assert code == 0, output
    sites = results_of(small_study)["sites"]
    assert [site["site"] for site in sites] == ["oak-1", "oak-2", "oak-3"]
    assert sum(sum(site["patients"].values()) for site in sites) == 150


def test_one_table_by_a_column_and_settings_on_the_command_line(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path, small_study: dict[str, Any]
) -> None:
    oak = hospitals({"oak": 150})["oak"]
    words = ["--set", "rounds=1", "strategy=fedprox", "study=by-er", "--seed", "4"]
    code, output = main("--study", study_file, "--split", oak, "--by", "er", *words)
    assert code == 0, output
    results = results_of(small_study, "by-er")
    assert len(results["sites"]) == 2
    assert (results["rounds_completed"], results["strategy"], results["config"]["seed"]) == (1, "fedprox", 4)


@pytest.mark.parametrize("words", [["--set", "rounds=1", "--set", "seed=3"], ["--set", "rounds=1", "seed=3"]])
def test_no_setting_of_the_command_line_is_dropped(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path, small_study: dict[str, Any], words: list[str]
) -> None:
    code, output = main("--study", study_file, *words, "--sites", *hospitals({"a": 80, "b": 60}).values())
    assert code == 0, output
    results = results_of(small_study)
    assert (results["rounds_completed"], results["config"]["seed"]) == (1, 3)


def test_a_study_goes_on_where_it_stood(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path, small_study: dict[str, Any]
) -> None:
    sites = list(hospitals({"a": 80, "b": 60}).values())
    assert main("--study", study_file, "--sites", *sites)[0] == 0
    code, output = main("--study", study_file, "--sites", *sites, "--resume", "--set", "rounds=3")
    assert code == 0, output
    rounds = results_of(small_study)["rounds"]
    assert [record["round"] for record in rounds] == [1, 2, 3]
    assert main("--study", study_file, "--sites", *sites, "--set", "study=other", "--resume")[0] == 4


def test_federation_is_compared_with_pooled_and_local_training(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path
) -> None:
    code, output = main("--study", study_file, "--sites", *hospitals({"a": 80, "b": 60}).values(), "--compare")
    assert code == 0, output
    for row in ("pooled", "a alone", "b alone", "comparisons.csv"):
        assert row in output


def test_an_unknown_task_exits_with_3_and_names_the_nearest(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path
) -> None:
    sites = hospitals({"a": 20, "b": 20}).values()
    code, output = main("--study", study_file, "--task", "recurence_clinical", "--sites", *sites)
    assert code == 3
    assert "did you mean 'recurrence_clinical'?" in output


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "found: No such file or directory"),
        ("rounds = ", "expected: TOML"),
        ("rounds = 0", "rounds: Input should be greater than or equal to 1"),
        ("round = 2", "unknown key 'round': did you mean 'rounds'?"),
        (b"\xff\xfe", "expected: TOML"),
    ],
)
def test_a_study_file_that_cannot_be_used_exits_with_3_and_is_named(
    main: Callable[..., Any], hospitals: Hospitals, tmp_path: Path, text: str | bytes | None, complaint: str
) -> None:
    file = tmp_path / "x.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, output = main("--study", file, "--sites", *hospitals({"a": 20, "b": 20}).values())
    assert code == 3
    assert f"where: {file} found: " in output
    assert complaint in output


def test_a_missing_study_file_is_no_traceback(simulate: Command, tmp_path: Path) -> None:
    done = simulate("--study", "none.toml", "--sites", tmp_path / "a.yaml")
    assert done.returncode == 3
    assert "where:    none.toml\n  found:    No such file or directory\n  to do:" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_do_not_fit_exit_with_3(main: Callable[..., Any], hospitals: Hospitals, study_file: Path) -> None:
    sites = list(hospitals({"a": 20, "b": 20}).values())
    for words, complaint in (
        (["--sites", *sites, "--set", "rounds"], "expected: KEY=VALUE"),
        (["--sites", sites[0], sites[0]], "both describe the site 'a'"),
        (["--sites", sites[0].with_name("none.yaml")], "cannot read the site's settings"),
        (["--split", sites[0]], "--split needs --by COLUMN or --into N"),
    ):
        code, output = main("--study", study_file, *words)
        assert code == 3, output
        assert complaint in output


def test_data_that_cannot_be_used_exit_with_4(main: Callable[..., Any], hospitals: Hospitals, study_file: Path) -> None:
    oak = hospitals({"oak": 20})["oak"]
    (oak.parent / "clinical.csv").unlink()
    code, output = main("--study", study_file, "--split", oak, "--into", 2)
    assert code == 4
    assert str(oak.parent / "clinical.csv") in output


def test_a_folder_that_cannot_be_written_exits_with_4_and_is_named(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path
) -> None:
    words = ["--study", study_file, "--sites", *hospitals({"a": 20, "b": 20}).values()]
    code, output = main(*words, "--set", f"results-dir={study_file}/inside")
    assert code == 4
    assert f"where: {study_file}/inside" in output


def test_a_study_that_cannot_go_on_exits_with_7_and_says_at_which_site(
    main: Callable[..., Any], hospitals: Hospitals, study_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sites = hospitals({"a": 60, "b": 60})
    (sites["b"].parent / "clinical.csv").unlink()
    code, output = main("--study", study_file, "--sites", *sites.values())
    assert code == 7
    assert "1 sites can train, but the study needs min-sites = 2" in output
    assert "b: " in output
    assert caplog.text.count("a table's file is missing") == 1  # though the center asks again


def test_a_named_site_that_is_missing_is_told_everywhere_and_what_is_required_is_held(
    hospitals: Hospitals, small_study: dict[str, Any], study_file: Path, main: Callable[..., Any]
) -> None:
    words = ["--study", study_file, "--sites", *hospitals({"a": 60, "b": 60}).values()]
    named = [*words, "--set", "sites=a,b,f,g", "rounds=1", "secure-aggregation=off"]
    code, output = main(*named)
    assert code == 8
    assert "f: missing, not connected g: missing, not connected" in output
    assert "the study is done, without sites that it names" in output
    assert results_of(small_study)["missing"] == {"f": "not connected", "g": "not connected"}
    assert main(*named, "require-sites=2", "overwrite=true")[0] == 0
    code, output = main(*named, "require-sites=all", "overwrite=true")
    assert code == 7
    assert "only 2 of at least 4 sites came" in output
    assert "missing: f, g" in output
    assert "expected at most 4" in main(*named, "require-sites=5")[1]
    assert "the names of all in `sites`" in main(*words, "--set", "require-sites=all")[1]
