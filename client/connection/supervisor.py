"""Keeps the site's SuperNode alive for as long as the hospital takes part.

It starts Flower again whenever it ends: after a crash, a reboot of the center, or a night without network. After a
crash the center counts the lost connection for up to 60 s and refuses a second one of the same key, so that a refusal
never ends it either.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, NoReturn

from client.connection.supernode import guarded_environment, run_once
from client.connection.supernode_log import SuperNodeLogParser
from client.connection.warm_process import warm_process
from client.errors import ExitCode, SiteError

if TYPE_CHECKING:
    from pathlib import Path

    from client.connection.supernode import Launch, Say

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 60.0
HEALTHY_S = 120.0  # a life this long starts the waiting times anew
FORGOTTEN_S = 90.0  # by then the center has dropped a lost connection (60 s without a heartbeat, and some room)
WHILE_COUNTED_S = 10.0  # longest wait until then
EXPLAIN_EVERY = 20  # refusals in a row between two lists of the likely causes
LOG_BYTES, LOG_FILES = 5_000_000, 5
STOPPED_BY_CTRL_C = 130


class Stopped(BaseException):
    """A signal asked this process to end; like KeyboardInterrupt, nothing on the way may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_forever(launch: Launch, say: Say) -> int:
    """Keeps the site in the federation until a signal ends it.

    Args:
        launch: What to start.
        say: Takes each sentence for the terminal.

    Returns:
        The exit code: 0 after SIGTERM or SIGHUP, 130 after Ctrl-C.

    Raises:
        SiteError: If the site's SuperNode already runs.
    """
    with claim(launch.state_dir), _open_log(launch.state_dir) as log, _signals():

        def report(sentence: str) -> None:
            log.info("* %s", sentence)
            say(sentence)

        try:
            with warm_process(launch.state_dir, guarded_environment(launch.state_dir), report):
                _keep_running(launch, log, report)
        except Stopped as stopped:
            report("stopped")
            return STOPPED_BY_CTRL_C if stopped.number == signal.SIGINT else ExitCode.OK


def _keep_running(launch: Launch, log: logging.Logger, say: Say) -> NoReturn:
    wait_s, refusals, last_joined = FIRST_WAIT_S, 0, float("-inf")
    while True:
        story, started = SuperNodeLogParser(), time.monotonic()
        status = run_once(launch, story, log, say)
        ended = time.monotonic()
        say(story.ending(status))
        if story.joined:
            refusals, last_joined = 0, float("-inf") if story.evicted else ended
            wait_s = FIRST_WAIT_S if ended - started > HEALTHY_S else wait_s
        counted = ended - last_joined < FORGOTTEN_S
        if story.refused and counted:
            say("it still counts the connection that was lost, for up to a minute")
        elif story.refused:
            refusals += 1
            if refusals % EXPLAIN_EVERY == 2:
                say(_likely_causes(launch))
        pause = (min(wait_s, WHILE_COUNTED_S) if counted else wait_s) * random.uniform(0.75, 1.25)
        say(f"reconnecting in {pause:.0f} s")
        time.sleep(pause)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _likely_causes(launch: Launch) -> str:
    public = f"{launch.center.private_key.name}.pub"
    return (
        "the center keeps refusing this site's key; it is one of these:\n"
        f"  - the key is not registered: ask the center to run: python -m server register {launch.site} {public}\n"
        "    (send them that file; compare the fingerprint that python -m client check prints by telephone)\n"
        "  - the site was unregistered: make a new key and have that one registered\n"
        "  - another computer is connected with the same key: stop that one"
    )


@contextmanager
def claim(state_dir: Path) -> Iterator[None]:
    """Makes this process the site's only SuperNode, until it ends in whatever way.

    Raises:
        SiteError: If another process is.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "supernode.pid").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            process = file.read().strip() or "unknown"
            raise SiteError(
                what="this site already takes part",
                where=str(state_dir / "supernode.pid"),
                found=f"process {process}",
                fix=f"leave it running, or stop it first: kill {process}",
                exit_code=ExitCode.USAGE,
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def _open_log(state_dir: Path) -> Iterator[logging.Logger]:
    folder = state_dir / "logs"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = RotatingFileHandler(folder / "supernode.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.Logger("supernode")
    log.addHandler(file)
    try:
        yield log
    finally:
        file.close()


@contextmanager
def _signals() -> Iterator[None]:
    """Turns the first SIGTERM, SIGINT or SIGHUP into `Stopped`; later ones cannot disturb the clean stop."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)

    def stop(number: int, _frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
