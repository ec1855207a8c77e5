"""Ray engine: a study over many GPUs or machines, by Flower's own simulation.

`flwr run` would start a SuperLink of its own that keeps the first working directory it ever had, so that another
checkout's code runs; ours starts in the study's folder and ends with the study.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from client.config.site import load_site
from server.study.exchange import StudyError
from shared_models.flower_environment import flower_environment
from shared_models.study_settings import StudySettings
from simulation.engines.budgets import only_here
from simulation.splits import Sites, write_site

if TYPE_CHECKING:
    from rich.console import Console

START_WITHIN_S = 60.0


def run_on_ray(sites: Sites, config: StudySettings, console: Console | None = None) -> dict[str, Any]:
    """Runs the study with a virtual SuperNode a site, and returns the results.

    Raises:
        StudyError: If Ray is not installed, or the study failed.
    """
    try:
        import ray  # noqa: F401
    except ImportError:
        msg = "Ray is not installed: pip install 'breast-federation[ray]', or leave out --engine ray"
        raise StudyError(msg) from None
    study = Path(config.results_dir).resolve() / config.study
    work = study / "ray"
    shutil.rmtree(work, ignore_errors=True)
    for name, file in sorted(sites.items()):
        write_site(load_site(file), work / "sites", site=name)
    settings = {
        **config.to_flat(),
        "results-dir": str(Path(config.results_dir).resolve()),
        "simulated-sites": str(work / "sites"),
    }
    environment = flower_environment(work / "flower")
    before = _modified(study / "results.json")
    with only_here(sites, config), _superlink(work, environment) as address:
        connection = {"superlink": {"default": "here", "here": {"address": address, "insecure": True}}}
        (work / "flower" / "config.toml").write_text(tomli_w.dumps(connection), encoding="utf-8")
        (work / "app").mkdir()
        (work / "app" / "pyproject.toml").write_text(tomli_w.dumps(_app(settings)), encoding="utf-8")
        command = ["flwr", "run", str(work / "app"), "here", "--stream"]
        command += ["--federation-config", f"num-supernodes={len(sites)}"]
        with (work / "run.log").open("w") as log:
            status = (
                console.status(f"running on Ray; log in {work / 'run.log'}") if console else contextlib.nullcontext()
            )
            with status:
                subprocess.run(command, env=environment, cwd=work, stdout=log, stderr=log, check=False)
    if _modified(study / "results.json") == before:
        msg = f"the study on Ray did not finish; its log is in {work / 'run.log'}"
        raise StudyError(msg)
    results: dict[str, Any] = json.loads((study / "results.json").read_text(encoding="utf-8"))
    return results


@contextlib.contextmanager
def _superlink(work: Path, environment: dict[str, str]) -> Iterator[str]:
    (work / "flower").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["flower-superlink", "--simulation", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
    with (work / "superlink.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=work, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_WITHIN_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                msg = f"the SuperLink for Ray did not start; its log is in {work / 'superlink.log'}"
                raise StudyError(msg)
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _app(settings: dict[str, Any]) -> dict[str, Any]:
    components = {
        "serverapp": "simulation.engines.ray_apps:server_app",
        "clientapp": "simulation.engines.ray_apps:client_app",
    }
    return {
        "project": {"name": "simulation", "version": version("breast-federation")},
        "tool": {"flwr": {"app": {"publisher": "breast-federation", "components": components, "config": settings}}},
    }


def _modified(file: Path) -> float:
    return file.stat().st_mtime_ns if file.exists() else 0.0
