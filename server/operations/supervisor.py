"""Supervisor of the center's processes, which restarts one that ends.

A SuperLink that returns within a minute or so loses nothing: its state lies in `state.db`, the ServerApp of a running
study belongs to the SuperExec, and SuperNodes reconnect by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from server.errors import CenterError
from server.operations.center import Center
from server.operations.processes import Process, center_process, process_environment
from shared_models.backoff import Backoff

CHECK_EVERY_S = 0.2
FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_S = 0.5, 30.0, 20.0
STOP_GRACE_S = 10.0
PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


@dataclass
class Running:
    """A process under supervision."""

    process: Process
    child: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_S))


def supervise(center: Center, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Runs the named processes until SIGTERM or SIGINT.

    Args:
        center: Whose processes.
        names: Some of `PROCESS_NAMES`, in the order of starting.
        say: Takes a line for the operator.

    Raises:
        CenterError: If the center already runs, or a port is taken.
    """
    supervised = [Running(center_process(center, name)) for name in names]
    stop = threading.Event()
    with _only_one(center):
        _check_ports(center, names)
        previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for running in supervised:
                _start(running, center)
            say(f"{', '.join(names)} started; logs in {center.directory / 'logs'}")
            while not stop.wait(CHECK_EVERY_S):
                for running in supervised:
                    _look_after(running, center, say)
        finally:
            say("stopping")
            _stop_all(supervised)
            for number, handler in previous.items():
                signal.signal(number, handler)


def is_supervised(center: Center) -> bool:
    """Whether a supervisor holds this center now: if so, a SuperLink that does not answer is about to."""
    with (center.directory / "run" / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def become(center: Center, name: str) -> None:
    """Replaces this program by one of the center's processes, for a service manager that supervises by itself."""
    process = center_process(center, name)
    os.chdir(center.directory)
    os.execve(process.command[0], process.command, process_environment(center))


def _start(running: Running, center: Center) -> None:
    with _log_file(center, running.process.name) as log:
        running.child = subprocess.Popen(
            running.process.command,
            cwd=center.directory,
            env=process_environment(center),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    (center.directory / "run" / f"{running.process.name}.pid").write_text(f"{running.child.pid}\n", encoding="utf-8")
    running.started_at = time.monotonic()


def _look_after(running: Running, center: Center, say: Callable[[str], None]) -> None:
    """Restarts a process that is gone; the wait doubles while it keeps dying young."""
    now = time.monotonic()
    if running.child is None:
        if now >= running.restart_at:
            _start(running, center)
        return
    code = running.child.poll()
    if code is None:
        return
    _signal(running.child.pid, signal.SIGKILL)  # its group: nginx's workers would keep the port
    wait_s = running.backoff.next(now - running.started_at)
    say(f"{running.process.name} ended ({_cause(code)}); again in {wait_s:g} s")
    running.child, running.restart_at = None, now + wait_s


def _stop_all(supervised: Sequence[Running]) -> None:
    groups = [running.child.pid for running in reversed(supervised) if running.child is not None]
    for group in groups:
        _signal(group, signal.SIGTERM)
    deadline = time.monotonic() + STOP_GRACE_S
    while time.monotonic() < deadline:
        for running in supervised:
            if running.child is not None:
                running.child.poll()  # reaps it: a zombie would keep its group alive
        if not any(_signal(group, 0) for group in groups):
            return
        time.sleep(CHECK_EVERY_S)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Whether a process group is still there to receive the signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def die_with_parent() -> None:
    """Runs in a child: a supervisor that is killed outright leaves no SuperLink behind that holds the port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def _log_file(center: Center, name: str) -> Iterator[IO[bytes]]:
    with (center.directory / "logs" / f"{name}.log").open("ab") as file:
        yield file


@contextlib.contextmanager
def _only_one(center: Center) -> Iterator[None]:
    """Holds the folder: two supervisors would fight over its ports and its database."""
    with (center.directory / "run" / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CenterError(
                what="this center is already running",
                where=center.directory,
                fix="`python -m server status` shows it; stop it before you start it again",
            ) from None
        (center.directory / "run" / "supervisor.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield


def _check_ports(center: Center, names: Sequence[str]) -> None:
    wanted = {"superlink": ("127.0.0.1", center.port), "proxy": ("", center.proxy_port)}
    for name, address in wanted.items():
        if name not in names:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise CenterError(
                    what=f"the {name} cannot listen on port {address[1]}",
                    where=center.directory / "center.toml",
                    found=str(error.strerror),
                    fix="free the port, or use another one in center.toml and nginx.conf; ports below 1024 need "
                    "CAP_NET_BIND_SERVICE (the systemd units have it)",
                ) from None
