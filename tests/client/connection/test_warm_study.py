from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the warm process is for Linux"),
]


def until(true: Callable[[], object], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def sites(center: Any, files: dict[str, Path]) -> Iterator[dict[str, Path]]:
    """Real hospitals that take part; yields what each has said."""
    processes, lines = [], {}
    for name, file in files.items():
        key = file.parent / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", key], check=True)
        address = f'center: {{address: "{center.address}", ca_certificate: {center.ca}, private_key: {name}}}\n'
        file.write_text(file.read_text() + address)
        center.register(name, key.with_suffix(".pub"))
        lines[name] = file.parent / "said"
        with lines[name].open("wb") as out:
            command = [sys.executable, "-P", "-u", "-m", "client", "--site", str(file)]
            processes.append(subprocess.Popen(command, stdout=out, stderr=out))
    try:
        yield lines
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(60) for process in processes] == [0] * len(processes)


def processes_in(folder: Path) -> list[int]:
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"FLWR_HOME={folder}".encode() in (process / "environ").read_bytes():
                processes.append(int(process.name))
    return processes


def warm_processes(folder: Path) -> list[int]:
    def is_warm(pid: int) -> bool:
        with suppress(OSError):
            return b"\0client.connection.warm_process\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    return sorted(filter(is_warm, processes_in(folder)))


@pytest.mark.slow
def test_a_study_goes_on_when_warm_processes_are_killed(
    center: Any, hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    from client.config.site import load_site
    from client.governance.approval import approve
    from shared_models.study_settings import parse_study_settings

    files = hospitals({"warm-a": 80, "warm-b": 60})
    study = {**small_study, "study": "warm", "rounds": 1, "join-timeout-s": 60.0}
    folder = files["warm-a"].parent.parent
    with sites(center, files) as lines:
        until(lambda: all("joined the center" in text.read_text() for text in lines.values()), 300)
        until(lambda: len(list(folder.glob("*/state/*/bin/warm.sock"))) == 2, 300)
        for file in files.values():
            approve(load_site(file), parse_study_settings(study))
        run = center.run(study)
        until(lambda: "asked to prepare" in lines["warm-a"].read_text(), 300)
        for process in warm_processes(folder):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        assert center.wait(run) == "finished:completed"
        for text in lines.values():
            for words in ("the warm process ended with status -9", "round 1: answer to train sent"):
                # A site writes its lines in its own time.
                until(lambda text=text, words=words: words in text.read_text(), 60)
    assert processes_in(folder) == []


def test_a_study_with_code_or_without_approval_is_refused_and_the_center_is_told_why(
    center: Any, hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], tmp_path: Path
) -> None:
    from flwr.cli.build import build_fab_from_files

    from server.operations.bundle import write_bundle
    from server.operations.center import open_center
    from server.operations.superlink import follow_run, start_run
    from shared_models.study_settings import parse_study_settings

    files = hospitals({"guarded-a": 40, "guarded-b": 40})
    opened = open_center(center.directory)
    settings = {**small_study, "study": "code", "sites": "guarded-a, guarded-b", "join-timeout-s": 60.0}
    folder = write_bundle(opened, parse_study_settings(settings))
    (folder / "torchvision.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    names = ("pyproject.toml", "torchvision.py")
    content = build_fab_from_files({name: folder / name for name in names})[0]
    with sites(center, files) as lines:
        until(lambda: all("joined the center" in text.read_text() for text in lines.values()), 300)
        run = start_run(opened, content, hashlib.sha256(content).hexdigest())
        assert center.wait(run) == "finished:failed"
        assert "the site refused the study: it holds other files than its settings" in "".join(follow_run(opened, run))
        run = center.run(settings)
        assert center.wait(run) == "finished:failed"
        assert "the site has not approved this study" in "".join(follow_run(opened, run))
        command = "python -m client approve STUDY.toml --site guarded-a"
        until(lambda: command in lines["guarded-a"].read_text(), 60)  # the site writes it in its own time
    apps = files["guarded-a"].parent.glob("state/*/flwr/apps/*")
    assert not list(apps)
    assert not (tmp_path / "was_run").exists()
