"""A real coordinating center on loopback, for the tests marked `e2e`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from shared_models.flower_environment import FLOWER_ENVIRONMENT
from shared_models.study_settings import StudySettings

# A busy machine is no bug: what takes long is measured in benchmarks/.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")

START_WITHIN_S = 120.0
os.environ.update(FLOWER_ENVIRONMENT)


def pytest_configure(config: pytest.Config) -> None:
    # What Flower's own code calls: names that Click 9 will drop (through Typer), a pattern that pathspec renamed.
    config.addinivalue_line("filterwarnings", r"ignore:'click\..*' is deprecated:DeprecationWarning:typer")
    config.addinivalue_line("filterwarnings", "ignore:GitWildMatchPattern:DeprecationWarning")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests wait for processes come first: at the end, a core would wait with them."""
    waiting = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in waiting)


@pytest.fixture(autouse=True)
def _own_process_settings() -> Iterator[None]:
    """The environment and the umask are as before after a test that runs a command in this process."""
    environment, umask = dict(os.environ), os.umask(0o022)
    os.umask(umask)
    yield
    os.environ.clear()
    os.environ.update(environment)
    os.umask(umask)


@pytest.fixture(autouse=True)
def _only_reports_that_are_looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that runs in this process draws its pages, which cost a second each, only in a test marked `report`."""
    if request.node.get_closest_marker("report"):
        return
    if "client.app" in sys.modules:
        monkeypatch.setattr("client.site_result.files.draw_page", lambda *args: "")
    app = sys.modules.get("server.app")
    if app is not None:
        monkeypatch.setattr(app, "try_to_report", lambda results, folder: None)
        monkeypatch.setattr("server.report.validation_results.try_to_report", lambda results, folder: None)


@dataclass
class RunningCenter:
    """A SuperLink, a SuperExec and nginx under `python -m server start`."""

    directory: Path
    address: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    def register(self, name: str, public_key: Path) -> int:
        """Lets a site in, and returns its node number."""
        from server.operations.registration import register

        return register(self._center(), name, public_key)

    def run(self, config: dict[str, Any]) -> int:
        """Starts a study with these settings, and returns the run's number."""
        from server.operations.bundle import start_study
        from shared_models.study_settings import parse_study_settings

        return start_study(self._center(), parse_study_settings(config))[0]

    def wait(self, run_id: int, timeout_s: float = 300.0) -> str:
        """Waits for a run to end, and returns how: `finished:completed`, `finished:failed` or `finished:stopped`."""
        from server.operations.superlink import find_run

        wait_until(lambda: find_run(self._center(), run_id).state.startswith("finished"), timeout_s)
        return find_run(self._center(), run_id).state

    def log(self, name: str = "superexec") -> str:
        """What a process has said; a study's own log is in the SuperExec's."""
        return (self.directory / "logs" / f"{name}.log").read_text(encoding="utf-8")

    def kill_superlink(self) -> None:
        """Kills it outright, and returns once another one answers."""
        self.kill("superlink")
        wait_until(self.answers, START_WITHIN_S)

    def kill(self, name: str) -> None:
        """Kills a process outright, and returns once the supervisor has started another."""
        file = self.directory / "run" / f"{name}.pid"
        pid = int(file.read_text())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: int(file.read_text() or pid) != pid, START_WITHIN_S)

    def answers(self) -> bool:
        from server.errors import CenterError
        from server.operations.superlink import list_sites

        with contextlib.suppress(CenterError):
            list_sites(self._center())
            return True
        return False

    def stop(self) -> int:
        """Stops all of it as an operator would, and returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=60)

    def _center(self) -> Any:
        from server.operations.center import open_center

        return open_center(self.directory)


def wait_until(true: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCenter]:
    """A center that runs; skips where nginx is not installed."""
    from server.operations.center import Center
    from server.operations.create import create_center
    from server.operations.proxy import find_nginx
    from simulation.engines.rehearsal import free_ports

    if find_nginx() is None:
        pytest.skip("nginx is not installed")
    directory = tmp_path_factory.mktemp("center") / "center"
    port, proxy_port = free_ports(2)
    create_center(Center(directory, f"127.0.0.1:{proxy_port}", port, proxy_port))
    with (directory / "logs" / "supervisor.log").open("wb") as log:
        command = [sys.executable, "-m", "server", "start", "--directory", str(directory)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    running = RunningCenter(directory, f"127.0.0.1:{proxy_port}", port, process)
    try:
        wait_until(running.answers, START_WITHIN_S)
        yield running
    finally:
        running.stop()


HOSPITAL_YAML = """
site: {name}
role: {role}
data_root: .
state_dir: state
tables: {{clinical: {{file: clinical.csv, patient_id: id}}}}
modalities:
  clinical:
    reader: table
    features: {{age_years: age, size_mm: size, er: {{column: er, codes: {{"-": negative, "+": positive}}}}}}
targets:
  recurrence:
    event: {{column: event, codes: {{no: 0, yes: 1}}}}
    event_days: [days]
    followup_days: [days]
"""
SMALL_STUDY: dict[str, Any] = {
    "study": "small",
    "task": "recurrence_clinical",
    "features": "clinical: age_years, size_mm, er{negative|positive}",
    "time-edges-days": "365, 730, 1461, 2922",
    "rounds": 3,
    "optimizer": "adamw",
    "learning-rate": 0.05,
    "join-timeout-s": 2.0,
    "test-fraction": 0.3,
    "split": "small",
}


@pytest.fixture
def hospitals(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """Writes hospitals with clinical tables only: size drives recurrence, on real files."""

    def write(patients: dict[str, int], evaluate_only: tuple[str, ...] = ()) -> dict[str, Path]:
        return write_hospitals(tmp_path / "hospitals", patients, evaluate_only)

    return write


def write_hospitals(root: Path, patients: dict[str, int], evaluate_only: tuple[str, ...] = ()) -> dict[str, Path]:
    """Each hospital's YAML, by its name."""
    import numpy as np

    files = {}
    for number, (name, count) in enumerate(patients.items()):
        chance = np.random.default_rng(number)
        age, size = chance.uniform(30, 80, count), chance.gamma(4, 6, count)
        event_days = chance.exponential(9000 * np.exp(-(size - 24) / 10)) + 1
        censored_days = chance.uniform(400, 4000, count)
        lines = ["id,age,size,er,event,days"]
        for index in range(count):
            event = event_days[index] < censored_days[index]
            days = min(event_days[index], censored_days[index])
            er, word = chance.choice(["-", "+"]), "yes" if event else "no"
            lines.append(f"{name}-{index:04d},{age[index]:.0f},{size[index]:.1f},{er},{word},{days:.0f}")
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "clinical.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        files[name] = folder / f"{name}.yaml"
        role = "evaluate" if name in evaluate_only else "train"
        files[name].write_text(HOSPITAL_YAML.format(name=name, role=role), encoding="utf-8")
    return files


@dataclass(frozen=True)
class FinishedStudy:
    """A study that two of three hospitals trained in, `a` and `b`; `elm` was not in it.

    Attributes:
        sites: Each hospital's YAML.
        folder: The study's results.
    """

    sites: dict[str, Path]
    folder: Path

    @property
    def best(self) -> Path:
        """The checkpoint."""
        return self.folder / "best.safetensors"


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    """A study that has ended, trained once for all tests, which leave it as it is."""
    from shared_models.study_settings import parse_study_settings
    from simulation.engines.in_process import run_in_process

    root = tmp_path_factory.mktemp("finished")
    sites = write_hospitals(root / "hospitals", {"a": 240, "b": 200, "elm": 150})
    settings = {**SMALL_STUDY, "results-dir": str(root / "runs"), "secure-aggregation": "off", "rounds": 2}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("server.app.try_to_report", lambda results, folder: None)
        patched.setattr("client.site_result.files.draw_page", lambda *args: "")
        run_in_process({name: sites[name] for name in ("a", "b")}, parse_study_settings(settings))
    return FinishedStudy(sites, root / "runs" / "small")


@pytest.fixture
def finished_study(trained_once: FinishedStudy, tmp_path: Path) -> FinishedStudy:
    """A copy of it, which a test may change."""
    root = trained_once.folder.parents[1]
    shutil.copytree(root, tmp_path / "finished")
    sites = {name: tmp_path / "finished" / file.relative_to(root) for name, file in trained_once.sites.items()}
    return FinishedStudy(sites, tmp_path / "finished" / "runs" / "small")


@pytest.fixture
def small_study(tmp_path: Path) -> dict[str, Any]:
    """The run config of a study that those hospitals finish in seconds."""
    return {**SMALL_STUDY, "results-dir": str(tmp_path / "runs")}


@pytest.fixture
def own_layers(tmp_path: Path) -> tuple[dict[str, Path], StudySettings]:
    """Two hospitals with mammograms, after a study in which each has normalisation layers of its own (FedBN)."""
    from client.app import app
    from server.app import run_study
    from shared_models.study_settings import parse_study_settings
    from simulation.engines.in_process_grid import InProcessGrid
    from simulation.phantoms.cohort import phantom_writer
    from simulation.splits import find_sites

    words = ["linear", "sites=2", "patients=60"]
    sites = find_sites(phantom_writer("relapse_mammogram", words)(tmp_path / "phantom", workers=1))
    own = {
        "study": "own-layers",
        "task": "relapse_mammogram",
        "normalisation": "local",
        "outcome": "binary",
        "rounds": 2,
    }
    config = parse_study_settings({**own, "secure-aggregation": "off", "results-dir": str(tmp_path / "runs")})
    run_study(InProcessGrid(app, sites, config.to_flat()), config)
    return sites, config
