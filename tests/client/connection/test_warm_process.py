from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from client.connection import warm_process as warm
from client.connection.supernode import guarded_environment

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the warm process is for Linux")

# Each child says who it is, then does what its first argument says.
ANSWER = """
import os, signal, sys, time
from pathlib import Path
from client.connection import warm_process as warm

def answer():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
    print("child", os.getpid(), sys.argv, flush=True)
    match sys.argv[1]:
        case "read": print(sys.stdin.read())
        case "fail": raise ValueError("on purpose")
        case "exit": sys.exit(int(sys.argv[2]))
        case "say": sys.exit("in words")
        case "sleep": time.sleep(3600)
        case "random": print(__import__("numpy").random.random())
import numpy
warm.run(Path(sys.argv[1]), answer)
"""
TRAIN = """
import hashlib, sys
from pathlib import Path
import torch
from client.connection import warm_process as warm

def answer():
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 62 * 62, 2))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(16, 1, 64, 64)).square().mean().backward()
        optimizer.step()
    weights = b"".join(value.detach().numpy().tobytes() for value in model.state_dict().values())
    print(torch.get_num_threads(), len(list(Path("/proc/self/task").iterdir())) > 1, hashlib.md5(weights).hexdigest())

if sys.argv[1] == "fresh":
    answer()
else:
    warm.run(Path(sys.argv[1]), answer)
"""


def until(true: Callable[[], object], within_s: float = 300.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def launch(state: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """What Flower's SuperNode does for a message."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = guarded_environment(state)
    return subprocess.Popen(["flwr-clientapp", *arguments], env=environment, text=True, **streams, **options)


def child_of(launcher: subprocess.Popen[str], arguments: list[str] | None = None) -> int:
    assert launcher.stdout
    _, number, line = launcher.stdout.readline().split(" ", 2)
    assert arguments is None or line == f"{arguments}\n"
    return int(number)


def status_of(launcher: subprocess.Popen[str]) -> int:
    launcher.communicate(timeout=300)
    return launcher.returncode


@contextmanager
def warm_process(state: Path, code: str) -> Iterator[subprocess.Popen[bytes]]:
    folder = warm.install_launcher(state)
    process = warm.start(state, guarded_environment(state), ("-c", code, str(folder)))
    try:
        until(lambda: (folder / "warm.sock").exists() or process.poll() is not None)
        yield process
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(300)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / ("a folder's name, " + "so long that no Unix socket's path could hold it, " * 3) / "duke"
    folder.mkdir(parents=True)
    return folder


def test_a_child_has_the_launchers_arguments_streams_and_status(state: Path) -> None:
    with warm_process(state, ANSWER) as process:
        arguments = ["flwr-clientapp", "read", "", "a b\n", "é\udcff"]
        launcher = launch(state, *arguments[1:])
        child, (output, _) = child_of(launcher, arguments), launcher.communicate("from stdin")
        assert (output, launcher.returncode) == ("from stdin\n", 0)
        assert child not in {process.pid, launcher.pid}
        for arguments, status, error in [
            (["exit", "7"], 7, ""),
            (["exit", "0"], 0, ""),
            (["say"], 1, "in words\n"),
            (["fail"], 1, "ValueError: on purpose"),
        ]:
            launcher = launch(state, *arguments)
            _, errors = launcher.communicate()
            assert (launcher.returncode, error in errors) == (status, True), errors


def test_only_the_owner_can_reach_it(state: Path) -> None:
    with warm_process(state, ANSWER):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [state / "bin", *(state / "bin").iterdir()]}
        assert modes == {"bin": 0o700, **dict.fromkeys(warm.PROGRAMS, 0o700), "warm.sock": 0o600}


def test_every_program_that_flower_starts_for_a_task_is_the_sites_own(tmp_path: Path) -> None:
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

    path = guarded_environment(tmp_path)["PATH"]
    assert set(warm.PROGRAMS) == set(TASK_TYPE_TO_COMMAND.values())
    for program in warm.PROGRAMS:
        assert shutil.which(program, path=path) == str(tmp_path / "bin" / program)


def test_children_draw_different_numbers(state: Path) -> None:
    with warm_process(state, ANSWER):
        output = {launch(state, "random").communicate()[0].splitlines()[1] for _ in range(3)}
        assert len(output) == 3


def test_messages_run_beside_each_other(state: Path) -> None:
    with warm_process(state, ANSWER):
        slow = launch(state, "sleep")
        child_of(slow)
        quick = launch(state, "exit", "5")
        quick.communicate(timeout=300)
        assert (quick.returncode, slow.poll()) == (5, None)
        slow.terminate()
        slow.communicate()


def test_a_signal_to_the_launcher_reaches_the_child(state: Path) -> None:
    with warm_process(state, ANSWER):
        launcher = launch(state, "sleep")
        child = child_of(launcher)
        launcher.terminate()
        launcher.communicate(timeout=300)
        assert launcher.returncode == 42
        until(lambda: not alive(child))


def test_the_child_of_a_killed_launcher_dies(state: Path) -> None:
    with warm_process(state, ANSWER):
        launcher = launch(state, "sleep")
        child = child_of(launcher)
        launcher.kill()
        until(lambda: not alive(child))
        launcher.communicate()


def test_a_killed_child_is_an_error_and_the_next_message_works(state: Path) -> None:
    with warm_process(state, ANSWER):
        launcher = launch(state, "sleep")
        os.kill(child_of(launcher), signal.SIGKILL)
        launcher.communicate(timeout=300)
        assert launcher.returncode == 1
        following = launch(state, "exit", "3")
        following.communicate()
        assert following.returncode == 3


def test_a_message_survives_the_warm_process_that_began_it(state: Path) -> None:
    with warm_process(state, ANSWER) as process:
        launcher = launch(state, "read")
        child = child_of(launcher)
        process.kill()
        process.wait()
        assert alive(child)
        output, _ = launcher.communicate("still here")
        assert (launcher.returncode, output) == (0, "still here\n")


def test_nothing_is_left_when_the_supervisor_is_gone(state: Path) -> None:
    with warm_process(state, ANSWER) as process:
        launcher = launch(state, "sleep")
        child = child_of(launcher)
        assert process.stdin
        process.stdin.close()  # as the system does when a process is killed
        process.wait(300)
        until(lambda: not alive(child))
        launcher.communicate(timeout=300)
        assert launcher.returncode == 1


def test_a_child_trains_on_two_threads_as_a_fresh_process_does(state: Path) -> None:
    fresh = subprocess.run([sys.executable, "-c", TRAIN, "fresh"], capture_output=True, text=True, check=True).stdout
    with warm_process(state, TRAIN):
        for _ in range(2):
            assert launch(state).communicate(timeout=300)[0] == fresh
    assert fresh.startswith("2 True")


def test_the_real_one_has_one_thread_and_has_used_neither_torch_nor_cuda(state: Path) -> None:
    code = """
import sys; from pathlib import Path; from client.connection import clientapp, warm_process as warm
import torch
def answer():
    print(torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork(), "client.app" in sys.modules)
warm.run(Path(sys.argv[1]), answer)
"""
    with warm_process(state, code) as process:
        assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1
        assert launch(state).communicate()[0] == "False False True\n"


def test_without_it_a_fresh_process_runs_the_guarded_entry(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # it names what it imports, which Flower's own does not
    launcher = launch(state, "--help")
    output, imported = launcher.communicate(timeout=300)
    assert (launcher.returncode, output.startswith("usage: flwr-clientapp")) == (0, True)
    assert "client.connection.bundle_guard" in imported


def test_it_is_started_again_after_a_kill_and_ended_at_the_end(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real, command = warm.start, ("-c", ANSWER, str(warm.install_launcher(state)))
    monkeypatch.setattr(warm, "start", lambda *a: started.append(real(*a, command)) or started[-1])
    reports: list[str] = []
    with warm.warm_process(state, guarded_environment(state), reports.append):
        until(lambda: started and (state / "bin" / "warm.sock").exists())
        started[0].kill()
        until(lambda: len(started) == 2)
        until(lambda: status_of(launch(state, "exit", "9")) == 9)
    assert reports == ["the warm process ended with status -9; until it is back, messages take some seconds longer"]
    assert started[1].returncode == -signal.SIGKILL
    assert not alive(started[1].pid)
