"""`python -m simulation sweep` as a researcher types it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from simulation.__main__ import main
from simulation.sweeps import run, trial
from simulation.sweeps.plan import read_sweep

Hospitals = Callable[..., dict[str, Path]]
Sweep = Callable[..., tuple[int, str]]
SWEEPS = Path(__file__).parents[2] / "studies" / "sweeps"
GRID = {"seeds": 2, "grid": [{"training": ["federated", "pooled", "local"]}, {"learning-rate": [0.001, 0.03]}]}


@pytest.fixture
def sites(hospitals: Hospitals) -> dict[str, Path]:
    return hospitals({"oak": 120, "elm": 100})


@pytest.fixture
def sweep(
    sites: dict[str, Path], small_study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Sweep:
    """Writes a sweep over the small study and runs it: its exit code and what it output."""
    (tmp_path / "small.toml").write_text(tomli_w.dumps({**small_study, "rounds": 2}), encoding="utf-8")

    def start(content: dict[str, Any], *words: str) -> tuple[int, str]:
        file = tmp_path / "sweep.toml"
        file.write_text(tomli_w.dumps({"sweep": "rates", "study": "small.toml", **content}), encoding="utf-8")
        code = main(["sweep", str(file), "--sites", *map(str, sites.values()), *words])
        output = capsys.readouterr()
        return code, " ".join((output.out + output.err).split())

    return start


def rows(tmp_path: Path, name: str = "sweep.csv") -> list[dict[str, str]]:
    with (tmp_path / "runs" / "rates" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_grid_ends_as_a_table_and_no_test_patient_is_scored(
    sweep: Sweep, sites: dict[str, Path], tmp_path: Path
) -> None:
    code, output = sweep(GRID)
    assert code == 0, output
    assert "difference" in output
    assert "learning-rate=0.03" in output
    table = rows(tmp_path)
    assert [row["training"] for row in table] == ["federated", "pooled", "local", "federated", "federated"]
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in table)
    assert table[0]["difference"] == ""
    assert float(table[1]["difference"]) == pytest.approx(float(table[1]["value"]) - float(table[0]["value"]), abs=1e-5)
    audited = [json.loads(line) for file in tmp_path.rglob("audit*.jsonl") for line in file.read_text().splitlines()]
    asked = {str(line.get("message", line.get("kind", ""))) for line in audited}
    assert any("train" in one for one in asked), audited[:2]
    assert not any("test" in one for one in asked)
    figures = tmp_path / "runs" / "rates" / "figures"
    assert (figures / "points.svg").exists()
    left = [path for file in sites.values() for path in file.parent.rglob("rates-*") if path.stat().st_size > 0]
    assert not left


def test_a_sweep_that_is_stopped_goes_on_where_it_was(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"seeds": 1, "grid": {"learning-rate": [0.001, 0.01, 0.03]}}
    train, rounds = trial.train_in_process, list[str]()

    def stopped(sites: Any, config: Any, show: Any) -> Any:
        def tell(doing: str, done: int) -> None:
            rounds.append(doing)
            if doing.startswith("round 2") and config.learning_rate == 0.01:
                raise KeyboardInterrupt
            show(doing, done)

        return train(sites, config, tell)

    monkeypatch.setattr(trial, "train_in_process", stopped)
    assert sweep(whole)[0] == 130
    assert rounds.count("round 1 at oak") == 2
    monkeypatch.setattr(
        trial, "train_in_process", lambda *given: train(*given[:2], lambda doing, _: rounds.append(doing))
    )
    code, output = sweep(whole)
    assert code == 0
    assert "1 of 3 runs had been trained before" in output
    assert (rounds.count("round 1 at elm"), rounds.count("round 2 at elm")) == (3, 4)  # 0.01 went on with round 2
    continued = rows(tmp_path)
    assert sweep(whole, "--overwrite", "--data-root", str(tmp_path / "nowhere"))[0] == 4
    assert "3 of 3 runs had been trained before" in sweep(whole)[1]
    assert sweep(whole, "--overwrite")[0] == 0
    assert [row["value"] for row in rows(tmp_path)] == [row["value"] for row in continued]


def test_a_search_tries_what_it_is_told_to_and_asks_the_same_again(sweep: Sweep, tmp_path: Path) -> None:
    search = {"learning-rate": {"low": 1e-4, "high": 0.1, "log": True}, "fusion": ["late", "concatenation"]}
    assert sweep({"seeds": 1, "trials": 3, "search": search})[0] == 0
    tried = [float(row["learning-rate"]) for row in rows(tmp_path)]
    assert len({*tried}) == 3
    assert all(1e-4 <= rate <= 0.1 for rate in tried)
    code, output = sweep({"seeds": 1, "trials": 4, "search": search})
    assert code == 0
    assert "3 of 4 runs had been trained before" in output
    assert [float(row["learning-rate"]) for row in rows(tmp_path)][:3] == tried


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"grid": {"learning-rat": [0.1, 0.2]}}, "did you mean 'learning-rate'"),
        ({"grid": {"learning-rate": [0.1, -2.0]}}, "learning_rate"),
        ({"grid": {key: list(range(1, 101)) for key in ("rounds", "local-epochs", "batch-size")}}, "3,000,000 runs"),
        ({"grid": {"split-seed": [1, 2]}}, "split-seed cannot vary"),
        ({"grid": {"training": ["federated", "poled"]}}, "did you mean 'pooled'"),
        ({"grid": {"training": ["pooled"], "privacy": ["patient"]}}, 'training = "pooled" is without privacy'),
        ({}, "none of them"),
        ({"search": {"learning-rate": {"low": 1, "high": 0}}, "trials": 2}, "low < high"),
        ({"sed": 3, "grid": {}}, "did you mean 'seeds'"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_trained(
    sweep: Sweep, content: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_trial", lambda *_: pytest.fail("it was trained"))
    code, output = sweep(content)
    assert code == 3, output
    assert complaint in output


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.toml")), ids=lambda file: file.stem)
def test_a_sweep_of_the_repository_can_be_read(file: Path) -> None:
    sweep = read_sweep(file)
    assert sweep.runs == len(sweep.seeds) * len(sweep.points) > 1
