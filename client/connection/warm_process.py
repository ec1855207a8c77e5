"""A process that has imported torch and Flower once, and forks a child for each message.

Flower starts `flwr-clientapp` by its name for every message: seconds of imports for training that may take
milliseconds. A site's PATH therefore begins with a folder where that name is `client/connection/launcher.py`, which
asks the process here for a child; the child runs `client.connection.clientapp` as a fresh process would.

The process imports, and does nothing else: OpenMP and CUDA break in a child once they have run in the parent, and no
message leaves anything behind for the next. It lives as long as the supervisor that started it. While it is away, the
launcher starts fresh processes. Code is imported once: after an update of the packages, restart the command.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from client.connection import launcher
from shared_models.backoff import Backoff

FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_S = 1.0, 60.0, 120.0
LOOK_EVERY_S, STOP_S = 0.2, 10.0
REQUEST_S = 10.0
# numpy's BLAS would start a thread here when it is imported; training uses torch's, which this does not touch.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
# What Flower's SuperExec starts by name for a task of whatever type.
PROGRAMS = ("flwr-clientapp", "flwr-agentapp", "flwr-connector", "flwr-model", "flwr-serverapp", "flwr-simulation")
SCRIPT = '#!/bin/sh\nexec {python} -I -S {launcher} {folder} "$@"\n'


def install_launcher(state_dir: Path) -> Path:
    """Writes the site's own `flwr-clientapp`, and returns its folder: only the owner can enter.

    The other programs that a SuperNode can be asked to start are the same one: a center that sends an AgentApp would
    otherwise have Flower run its code here, past the bundle guard.
    """
    folder = state_dir / "bin"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    parts = {"python": sys.executable, "launcher": launcher.__file__, "folder": folder.resolve()}
    for program in PROGRAMS:
        script = folder / program
        text = SCRIPT.format(**{name: shlex.quote(str(part)) for name, part in parts.items()})
        script.write_text(text, encoding="utf-8")
        script.chmod(0o700)
    return folder


@contextmanager
def warm_process(state_dir: Path, environment: Mapping[str, str], report: Callable[[str], None]) -> Iterator[None]:
    """Keeps a site's warm process running meanwhile, and starts it again whenever it ends."""
    stop = threading.Event()
    keeper = threading.Thread(target=_keep_running, args=(state_dir, environment, report, stop), daemon=True)
    if sys.platform.startswith("linux"):  # elsewhere, libraries of the system do not survive a fork
        keeper.start()
    try:
        yield
    finally:
        stop.set()
        if keeper.is_alive():
            keeper.join(STOP_S)


def _keep_running(
    state_dir: Path, environment: Mapping[str, str], report: Callable[[str], None], stop: threading.Event
) -> None:
    backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_S)
    while not stop.is_set():
        started = time.monotonic()
        try:
            process = start(state_dir, environment)
        except OSError as error:
            report(f"the warm process cannot be started ({error.strerror}); messages take some seconds longer")
            return
        while process.poll() is None and not stop.wait(LOOK_EVERY_S):
            pass
        if stop.is_set():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        if process.stdin:
            process.stdin.close()
        if not stop.is_set():
            report(f"the warm process ended with status {status}; until it is back, messages take some seconds longer")
            stop.wait(backoff.next(time.monotonic() - started))


def start(state_dir: Path, environment: Mapping[str, str], command: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Starts a warm process; its standard input is its lifeline, and it ends when that closes, by kill -9 too."""
    logs = state_dir / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (logs / "warm.log").open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-P",
                *(command or ("-m", "client.connection.warm_process", str(install_launcher(state_dir)))),
            ],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=state_dir,
            env={**environment, **ONE_THREAD},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone
        )


def run(folder: Path, answer: Callable[[], None]) -> NoReturn:
    """Forks a child for each launcher that calls, until the supervisor is gone.

    Args:
        folder: Where to listen.
        answer: What a child runs, with `sys.argv` and standard streams as its launcher's.
    """
    gc.collect()
    gc.freeze()  # the collector would write to every page, and so copy all of them to each child
    if (connection := _fork_for_each(_listen(folder), sys.stdin.fileno())) is None:
        os.killpg(0, signal.SIGKILL)
        os._exit(1)
    _run_child(connection, answer)


def _listen(folder: Path) -> socket.socket:
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may have 107 characters, a site's folder more
    Path("warm.new").unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    listener.bind("warm.new")
    os.umask(before)
    listener.listen()
    Path("warm.new").rename("warm.sock")  # who finds it is answered
    os.chdir(here)
    return listener


def _fork_for_each(listener: socket.socket, lifeline: int) -> socket.socket | None:
    """Returns in each child, with its launcher's connection; in the parent None, once the lifeline has closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # SIGCHLD ignored: the kernel reaps the children
    while True:
        ready, _, _ = select.select([listener.fileno(), lifeline], [], [])
        if lifeline in ready:
            return None
        connection, _ = listener.accept()
        with suppress(OSError):  # no room for one more process: the launcher learns it from the closed connection
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return connection
        connection.close()


def _run_child(connection: socket.socket, answer: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        sys.argv = ["flwr-clientapp", *_take_over(connection)]
        threading.Thread(target=_forward_signals, args=(connection,), daemon=True).start()
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed()  # else every child would draw what the parent was dealt
        answer()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        with suppress(OSError):
            connection.send(bytes([status & 255]))
        os._exit(status & 255)  # as multiprocessing ends its children: the parent's clean-up is the parent's


def _take_over(connection: socket.socket) -> list[str]:
    """Takes the launcher's arguments and standard streams, and tells it so."""
    connection.settimeout(REQUEST_S)
    header, streams, _, _ = socket.recv_fds(connection, 4, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    body, size = b"", int.from_bytes(header)
    while len(body) < size:
        if not (more := connection.recv(size - len(body))):
            raise ConnectionError("the launcher has gone")  # noqa: EM101
        body += more
    connection.sendall(launcher.STARTED)
    connection.settimeout(None)
    return [os.fsdecode(argument) for argument in body.split(b"\0")[:-1]]


def _forward_signals(connection: socket.socket) -> None:
    """Raises here the signals that reach the launcher; ends this process when the launcher is gone."""
    main_thread = threading.main_thread().ident
    with suppress(OSError):
        while number := connection.recv(1):
            if main_thread:
                signal.pthread_kill(main_thread, number[0])
    os._exit(1)


if __name__ == "__main__":
    from client.connection import clientapp

    run(Path(sys.argv[1]), clientapp.main)
