from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from server.errors import CenterError
from server.operations import supervisor
from server.operations.center import Center
from server.operations.create import create_center
from server.operations.processes import Process, center_process, process_environment
from server.operations.supervisor import supervise
from simulation.engines.rehearsal import free_ports

PARENT_AND_CHILD = """
import os, sys, time
if not os.fork():
    open('child', 'w').write(str(os.getpid()))
open(f'ran-{os.getpid()}', 'w')
time.sleep(60)
"""


@pytest.fixture
def here(tmp_path: Path) -> Center:
    center = Center(tmp_path / "center", "center.example.org:443", port=free_ports(1)[0])
    create_center(center)
    return center


Act = Callable[[list[str]], None]


def watch(center: Center, monkeypatch: pytest.MonkeyPatch, process: Process, act: Act) -> list[str]:
    """Supervises one process while `act` runs beside it on what was said, then asks the supervisor to stop."""
    lines: list[str] = []
    monkeypatch.setattr(supervisor, "center_process", lambda *_: process)

    def act_and_stop() -> None:
        try:
            act(lines)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    beside = threading.Thread(target=act_and_stop)

    def say(line: str) -> None:
        lines.append(line)
        if "started" in line:
            beside.start()

    supervise(center, ["superlink"], say)
    beside.join()
    return lines


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_process_is_back_and_its_children_are_gone(here: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process("superlink", (sys.executable, "-c", PARENT_AND_CHILD))
    pid_file = here.directory / "run" / "superlink.pid"
    seen: list[int] = []

    def act(_: list[str]) -> None:
        until(lambda: (here.directory / "child").exists() and (here.directory / "child").read_text())
        seen.append(int((here.directory / "child").read_text()))
        first = int(pid_file.read_text())
        os.kill(first, signal.SIGKILL)
        until(lambda: pid_file.read_text().strip() not in {"", str(first)})
        seen.append(int(pid_file.read_text()))

    lines = watch(here, monkeypatch, process, act)
    assert any("SIGKILL" in line for line in lines)
    assert len(seen) == 2
    for pid in seen:
        until(lambda pid=pid: not alive(pid))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_process_that_keeps_dying_is_started_ever_more_slowly(here: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process("superlink", (sys.executable, "-S", "-c", "raise SystemExit(3)"))
    waits = [f"superlink ended (exit code 3); again in {wait} s" for wait in (0.5, 1)]
    lines = watch(here, monkeypatch, process, lambda message: until(lambda: waits[-1] in message))
    assert [line for line in lines if line in waits] == waits
    assert lines[-1] == "stopping"


def test_port_in_use_is_explained(here: Center) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(here, port=other.getsockname()[1])
        with pytest.raises(CenterError, match=rf"port {taken.port}(.|\n)*in use"):
            supervise(taken, ["superlink"], print)


def test_second_supervisor_is_refused(here: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def act(_: list[str]) -> None:
        with pytest.raises(CenterError) as raised, supervisor._only_one(here):
            pass
        refused.append(str(raised.value))

    watch(here, monkeypatch, Process("superlink", (sys.executable, "-S", "-c", "import time; time.sleep(60)")), act)
    assert "already running" in refused[0]


def test_superlink_is_on_loopback_with_tls_keys_and_a_database(here: Center) -> None:
    command = center_process(here, "superlink").command
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert {"--enable-supernode-auth", "--ssl-certfile", "--database", "--superexec-auth-secret-file"} <= {*command}
    assert command[command.index("--isolation") + 1] == "process"


def test_environment_is_quiet_and_knows_flowers_programs(here: Center) -> None:
    environment = process_environment(here)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_HOME"] == str(here.directory / "flower")
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
