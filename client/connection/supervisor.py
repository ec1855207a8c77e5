"""Supervisor of the site's SuperNode: restarts it for as long as the hospital takes part.

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
from typing import TYPE_CHECKING, NoReturn

from client.connection.reachability import connection_remark
from client.connection.supernode import LaunchConfig, Report, guarded_environment, run_once
from client.connection.supernode_log import SuperNodeLogParser
from client.connection.warm_process import warm_process
from client.errors import ExitCode, SiteError
from shared_models.backoff import Backoff
from shared_models.log_files import log_file

if TYPE_CHECKING:
    from pathlib import Path

FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_S = 2.0, 60.0, 120.0
FORGOTTEN_S = 90.0  # by then the center has dropped a lost connection (60 s without a heartbeat, and some room)
WHILE_COUNTED_S = 10.0  # longest wait until then
EXPLAIN_EVERY = 20  # refusals in a row between two lists of the likely causes
STOPPED_BY_CTRL_C = 130


class Stopped(BaseException):
    """A signal asked this process to end; like KeyboardInterrupt, nothing on the way may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_forever(launch: LaunchConfig, report: Report, json_log: bool = False) -> int:
    """Keeps the site in the federation until a signal ends it.

    Args:
        launch: What to start.
        report: Takes each sentence for the terminal.
        json_log: Whether each line of `supernode.log` is a JSON object.

    Returns:
        The exit code: 0 after SIGTERM or SIGHUP, 130 after Ctrl-C.

    Raises:
        SiteError: If the site's SuperNode already runs.
    """
    with claim(launch.state_dir), _open_log(launch.state_dir, json_log) as log, _signals():

        def report_and_log(sentence: str) -> None:
            log.info("* %s", sentence)
            report(sentence)

        try:
            with warm_process(launch.state_dir, guarded_environment(launch.state_dir), report_and_log):
                _keep_running(launch, log, report_and_log)
        except Stopped as stopped:
            report_and_log("stopped")
            return STOPPED_BY_CTRL_C if stopped.number == signal.SIGINT else ExitCode.OK


def _keep_running(launch: LaunchConfig, log: logging.Logger, report: Report) -> NoReturn:
    center = launch.center
    backoff, refusals, last_joined = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_S), 0, float("-inf")
    while True:
        parser, started = SuperNodeLogParser(launch.site), time.monotonic()
        status = run_once(launch, parser, log, report)
        ended = time.monotonic()
        report(parser.ending(status))
        if remark := connection_remark(center.address, center.ca_certificate):
            report(remark)
        if parser.joined:
            refusals, last_joined = 0, float("-inf") if parser.evicted else ended
        counted = ended - last_joined < FORGOTTEN_S
        if parser.refused and counted:
            report("it still counts the connection that was lost, for up to a minute")
        elif parser.refused:
            refusals += 1
            if refusals % EXPLAIN_EVERY == 2:
                report(_likely_causes(launch))
        wait_s = backoff.next(ended - started if parser.joined else 0.0)  # trying for hours is no healthy life
        pause_s = (min(wait_s, WHILE_COUNTED_S) if counted else wait_s) * random.uniform(0.75, 1.25)
        report(f"reconnecting in {pause_s:.0f} s")
        time.sleep(pause_s)


def _likely_causes(launch: LaunchConfig) -> str:
    public = f"{launch.center.private_key.name}.pub"
    return (
        "the center keeps refusing this site's key; it is one of these:\n"
        f"  - the key is not registered: ask the center to run: python -m server register {launch.site} {public}\n"
        "    (send them that file; compare the fingerprint that python -m client check prints by telephone)\n"
        "  - the site was unregistered: make a new key and have that one registered\n"
        "  - another computer is connected with the same key: stop that one\n"
        "  - this computer's clock is wrong: python -m client check compares it with the center's"
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
def _open_log(state_dir: Path, json_log: bool) -> Iterator[logging.Logger]:
    folder = state_dir / "logs"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = log_file(folder / "supernode.log", logging.Formatter("%(asctime)s %(message)s"), json_log)
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
