"""Follows the recipes of CONTRIBUTING.md: what they say must be enough."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "server", "shared_models", "simulation")
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"# (?P<path>[\w/.]+)(?:, under `(?P<key>\w+)`)?\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: a file (`path`), lines under a `key` of one, changes to one (`diff`), or commands (`sh`)."""

    kind: str
    text: str
    path: str = ""
    key: str = ""


def recipe(title: str) -> list[Block]:
    """The blocks below a heading of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return blocks_of(re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0])


def blocks_of(text: str) -> list[Block]:
    """The blocks of a text, without the line that names their file."""
    blocks = []
    for match in BLOCK.finditer(text):
        named = HEADING.match(match["text"])
        path, key = (named["path"], named["key"] or "") if named else ("", "")
        blocks.append(Block(match["kind"], match["text"][named.end() if named else 0 :], path, key))
    return blocks


def follow(blocks: list[Block], root: Path) -> None:
    """Writes the files and makes the changes, under `root`."""
    for block in blocks:
        path = root / block.path
        if block.kind == "sh":
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if block.kind == "diff":
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            path.write_text(changed(before, block), encoding="utf-8")
        elif block.key:
            before, key, after = path.read_text(encoding="utf-8").partition(f"\n{block.key}:\n")
            assert key, f"{path} has no {block.key}"
            path.write_text(before + key + block.text + after, encoding="utf-8")
        else:
            path.write_text(block.text, encoding="utf-8")


def changed(text: str, block: Block) -> str:
    """The file with each hunk's `-` lines replaced by its `+` lines; what it replaces must stand there once."""
    for hunk in block.text.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        assert text.count(old) == 1, f"the recipe changes lines that {block.path} has {text.count(old)} times:\n{old}"
        text = text.replace(old, "".join(line[1:] for line in lines if line[0] in " +"))
    return text


def commands(blocks: list[Block]) -> list[list[str]]:
    """The words of each `python -m ...` line, without `python -m`."""
    lines = [line for block in blocks if block.kind == "sh" for line in block.text.splitlines()]
    return [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("python -m ")]


@pytest.fixture
def house(tmp_path: Path, hospitals: Callable[..., dict[str, Path]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's folder with the recipe's site oak and a second one, elm; large tumours there are ER positive."""
    root = tmp_path / "house"
    follow(recipe("Add a site"), root)
    oak = root / "site_configs" / "oak.yaml"
    (root / "site_configs" / "elm.yaml").write_text(oak.read_text(encoding="utf-8").replace("oak", "elm"))
    for name, file in hospitals({"oak": 400, "elm": 300}).items():
        header, *rows = [line.split(",") for line in (file.parent / "clinical.csv").read_text().splitlines()]
        size, er = header.index("size"), header.index("er")
        for row in rows:
            row[er] = "+" if float(row[size]) > 24 else "-"
        (root / "data" / name).mkdir(parents=True)
        table = "\n".join(",".join(row) for row in (header, *rows)) + "\n"
        (root / "data" / name / "clinical.csv").write_text(table, encoding="utf-8")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def files_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], None]]:
    """Makes the files of a package in another folder known beside its own, for one test."""
    before, names = set(sys.modules), []

    def add(root: Path, name: str) -> None:
        package = importlib.import_module(name)
        names.append(name)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(root.joinpath(*name.split(".")))])
        importlib.invalidate_caches()

    yield add
    for module in set(sys.modules) - before:
        package, _, file = module.rpartition(".")
        if package in names:
            del sys.modules[module]
            vars(sys.modules[package]).pop(file, None)


def run(words: list[str]) -> int:
    """The exit code of `python -m WORDS` in this process."""
    module, *arguments = words
    code: int = importlib.import_module(f"{module}.__main__").main(arguments)
    return code


def test_a_site_is_one_yaml_file(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check, study = commands(recipe("Add a site"))
    assert run(check) == 0
    assert "oak: 400 patients" in capsys.readouterr().out
    assert run(study) == 0
    results = json.loads((house / "runs/study/results.json").read_text())
    assert {site["site"]: sum(site["patients"].values()) for site in results["sites"]} == {"oak": 400, "elm": 300}
    assert any((house / "state/oak/splits").iterdir())


def test_a_task_is_one_file_and_learns(house: Path, files_of: Callable[[Path, str], None]) -> None:
    blocks = recipe("Add a task")
    follow(blocks, house)
    elm = house / "site_configs" / "elm.yaml"
    elm.write_text((house / "site_configs" / "oak.yaml").read_text(encoding="utf-8").replace("oak", "elm"))
    files_of(house, "shared_models.tasks")
    assert [run(words) for words in commands(blocks)] == [0]
    results = json.loads((house / "runs/study/results.json").read_text())
    assert results["task"] == "receptors_clinical"
    assert results["rounds_completed"] == 5
    assert results["targets"]["er"]["pooled"]["auc"] > 0.9
    assert results["targets"]["pr"]["pooled"]["patients"] == 0  # no site records it


READS_THE_MODALITY = """
import sys
from pathlib import Path
import numpy as np
import client
from client.cohort.load import load_cohort
from client.errors import SiteError
from client.checks.counts import readiness
from client.config.site import load_site
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import Task, Volume

assert Path(client.__file__).is_relative_to(Path.cwd()), client.__file__
site = load_site(Path("site_configs/oak.yaml"))
task = Task({"mri": Volume((1, 2, 3, 4), (1.0, 1.0, 1.0))}, {"recurrence": TimeToEvent()}, build_model=None)
file = site.data_root / "crops" / "oak-0007.npy"
file.parent.mkdir()
volume = np.arange(24.0).reshape(1, 2, 3, 4)
np.save(file, volume)
cohort = load_cohort(site, task, StudySettings())
assert np.flatnonzero(cohort.present[:, 0]).tolist() == [7]
np.testing.assert_array_equal(cohort.inputs["mri"][7], volume)
np.save(file, np.concatenate([volume, volume]))  # the cache must notice
try:
    load_cohort(site, task, StudySettings())
except SiteError as error:
    print(error)
assert readiness(site, None, None).patients == 400  # what `check` does without a study
"""


def copy_of_the_program(house: Path, *others: str) -> None:
    """The packages, and other files, beside the house's own."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, house / package, ignore=shutil.ignore_patterns("__pycache__"))
    for other in ("pyproject.toml", *others):
        (house / other).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / other, house / other)


def python(house: Path, *words: str, **environment: str) -> str:
    """What Python says in the house, whose packages win."""
    there = {**os.environ, "PYTHONPATH": str(house), **environment}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=house, env=there, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_modality_is_a_reader_and_its_name(house: Path) -> None:
    copy_of_the_program(house)
    follow(recipe("Add a modality"), house)
    output = python(house, "-c", READS_THE_MODALITY, PYTHONWARNINGS="error")
    assert "a volume cannot be used" in output
    assert "shape (2, 2, 3, 4)" in output


def test_an_aggregation_rule_is_one_file_and_its_state_outlives_a_stop(
    house: Path, files_of: Callable[[Path, str], None]
) -> None:
    from server.study.weights.checkpoint import LAST, load_checkpoint

    blocks = recipe("Add an aggregation rule")
    follow(blocks, house)
    files_of(house, "server.study.aggregation.rules")
    (words,) = commands(blocks)
    assert run(words) == 0
    results = json.loads((house / "runs/study/results.json").read_text())
    assert (results["strategy"], results["rounds_completed"]) == ("nesterov", 3)
    whole = load_checkpoint(house / "runs/study" / LAST)
    assert whole.rule_state.keys() == {f"velocity/{name}" for name in whole.model}

    again = [*words, "--set", "results-dir=stopped"]
    assert run([*again, "--set", "rounds=2"]) == 0
    assert run([*again, "--resume"]) == 0
    resumed = load_checkpoint(house / "stopped/study" / LAST)
    for name, array in whole.model.items():
        assert (array == resumed.model[name]).all()
    assert run([*words, "--set", "results-dir=plain", "--set", "strategy=fedavg"]) == 0
    plain = load_checkpoint(house / "plain/study" / LAST)
    assert any((array != plain.model[name]).any() for name, array in whole.model.items())


RUNS_AND_WRITES_THE_PAGES = """
import json
import os
import sys
from pathlib import Path
import pytest
import simulation.__main__ as simulation

assert Path(simulation.__file__).is_relative_to(Path.cwd()), simulation.__file__
for module, *words in json.loads(sys.argv[1]):
    assert simulation.main(words) == 0
plain = ["-q", "-p", "no:cacheprovider", "-c", os.devnull]  # where warnings are no errors
sys.exit(pytest.main([*plain, "tests/test_generated_results.py"]))
"""


def test_a_rule_with_a_half_at_the_sites_is_two_files(house: Path, files_of: Callable[[Path, str], None]) -> None:
    from server.study.weights.checkpoint import LAST, Checkpoint, load_checkpoint

    (house / "shared_models/messages").mkdir(parents=True)
    shutil.copy(ROOT / "shared_models/messages/replies.py", house / "shared_models/messages/replies.py")
    blocks = recipe("Add an aggregation rule with a half at the sites")
    follow(blocks, house)
    files_of(house, "server.study.aggregation.rules")
    files_of(house, "client.training.rules")
    (words,) = commands(blocks)
    one_step = [
        "batch-size=1000",
        "optimizer=sgd",
        "learning-rate=0.5",
        "weight-decay=0",
        "clip-updates=0",
        "wire=float32",
    ]
    words += ["--set", "learning-rate-schedule=constant", "warmup-rounds=0", "local-epochs=1", *one_step]
    words += ["wire=float32"]  # the step is compared to its last place

    def trained(folder: str, *settings: str) -> Checkpoint:
        assert run([*words, f"results-dir={folder}", *settings]) == 0
        return load_checkpoint(house / folder / "study" / LAST)

    first, plain = trained("first", "rounds=1"), trained("plain", "rounds=1", "strategy=fedavg")
    second, third = trained("longer", "rounds=2"), trained("longer", "rounds=3", "resume=true")
    assert third.round == 3
    for name, weights in second.model.items():  # with one step a round, the direction is the step
        step = 0.5 * third.rule_state[f"direction/{name}"]
        np.testing.assert_allclose(third.model[name], weights - step, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(first.model[name], plain.model[name])  # nothing is blended in yet
    lengths = [np.linalg.norm(np.concatenate([a.ravel() for a in c.rule_state.values()])) for c in (second, third)]
    assert 0.8 < lengths[1] / lengths[0] < 1.1  # nine tenths of a step are the one before


def test_a_statistic_is_a_file_and_a_line_and_a_schedule_a_case_and_a_name(house: Path) -> None:
    copy_of_the_program(house, "docs/results.md", "docs/study_settings.md", "tests/test_generated_results.py")
    statistic, schedule = recipe("Add a statistic"), recipe("Add a learning-rate schedule")
    follow([*statistic, *schedule], house)
    python(house, "-c", RUNS_AND_WRITES_THE_PAGES, json.dumps(commands([*statistic, *schedule])), UPDATE_DOCS="1")
    results = json.loads((house / "runs/study/results.json").read_text())
    assert results["config"]["learning-rate-schedule"] == "exponential"

    pooled = results["targets"]["recurrence"]["pooled"]
    days = events = 0.0
    for name in ("oak", "elm"):
        header, *rows = [line.split(",") for line in (house / "data" / name / "clinical.csv").read_text().splitlines()]
        (split,) = (house / "state" / name / "splits").iterdir()
        parts = split.read_text().splitlines()
        tested = {line.split(",")[0] for line in parts if ",test," in line}
        for row in (dict(zip(header, row, strict=True)) for row in rows):
            if row["id"] in tested:
                days, events = days + float(row["days"]), events + (row["event"] == "yes")
    assert pooled["events_per_1000_years"] == pytest.approx(1000 * events / (days / 365.25), rel=1e-6)

    assert "| `events_per_1000_years` | follow_up | events in" in (house / "docs/results.md").read_text()
    assert "| follow_up |" not in (ROOT / "docs/results.md").read_text()


def undone(block: Block) -> Block:
    """The diff that takes a change away."""
    return replace(block, text=re.sub("^[+-]", lambda sign: "-" if sign[0] == "+" else "+", block.text, flags=re.M))


COMPARES_THE_CURVE = """
import numpy as np
from sklearn.calibration import calibration_curve
from shared_models.metrics.calibration_curve import CalibrationCurve

rng = np.random.default_rng(0)
scores, parts = rng.random(500), np.arange(500) % 2
labels = (rng.random(500) < scores).astype(float)
halves = [CalibrationCurve.of(scores[parts == part], labels[parts == part]) for part in (0, 1)]
curve = (halves[0] + halves[1]).metrics(0.5)
observed, predicted = calibration_curve(labels, scores, n_bins=10)
np.testing.assert_allclose(curve["curve_observed"], observed)
np.testing.assert_allclose(curve["curve_predicted"], predicted)
"""


def test_three_changes_of_a_newcomer_are_the_diffs_of_their_page(house: Path) -> None:
    blocks = blocks_of((ROOT / "docs/three_changes.md").read_text(encoding="utf-8"))
    copy_of_the_program(house, "docs/results.md", "docs/study_settings.md", "tests/test_generated_results.py")
    own = [block for block in blocks if block.kind == "diff" and (ROOT / block.path).exists()]
    there = [block for block in own if block.path != "shared_models/targets.py"]
    follow([undone(block) for block in there], house)
    rule = house / there[0].path
    assert rule.read_text() == ""
    rule.unlink()
    assert "cosine" not in (house / "shared_models/schedules.py").read_text().partition("match config")[2]
    follow(blocks, house)
    assert len(there) == 3
    for block in there:
        assert (house / block.path).read_text(encoding="utf-8") == (ROOT / block.path).read_text(encoding="utf-8")
    python(house, "-c", COMPARES_THE_CURVE)
    python(house, "-c", RUNS_AND_WRITES_THE_PAGES, json.dumps(commands(blocks)), UPDATE_DOCS="1")
    results = json.loads((house / "runs/study/results.json").read_text())
    assert (results["strategy"], results["config"]["learning-rate-schedule"]) == ("fedmedian", "cosine")
    shares = results["targets"]["recurrence"]["pooled"]["curve_observed"]
    assert len(shares) == 10
    assert any(share is not None for share in shares)
    assert "| `curve_observed` | calibration_curve | " in (house / "docs/results.md").read_text()
