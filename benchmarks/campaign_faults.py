"""Faults of a deployment: processes killed or stopped, lines that fail, full disks, clocks that jump, restarts."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign_lines import Line, State

from simulation.engines.rehearsal import Federation

CENTER = "center"
LASTS_S, LONG_S = 8.0, 20.0
SUPERLINK, SUPEREXEC, STUDY, PROXY = "flower-superlink", "flower-superexec", "flwr-serverapp", "nginx"
AUTO_RESUME, SUPERNODE, WARM = "server.operations.auto_resume", "supernode_process", "warm_process"
PROGRAMS = ((SUPERNODE, WARM), (SUPERLINK, SUPEREXEC, AUTO_RESUME, PROXY))
"""Those that stay at a site, and at the center."""


@dataclass(frozen=True)
class Scene:
    """Where a fault happens.

    Attributes:
        running: The deployment.
        lines: Of each site to the center.
        clocks: A file for each party with the seconds that are added to its clock.
        site: The site that it happens to.
    """

    running: Federation
    lines: Mapping[str, Line]
    clocks: Mapping[str, Path]
    site: str

    def processes(self, party: str, program: str = "") -> list[int]:
        """Numbers of the party's processes whose command line has `program`, its supervisor among them."""
        parent = self.running.processes[party].pid
        return [parent] * (not program) + [pid for pid, line in descendants(parent).items() if program in line]


Fault = Callable[[Scene], None]


def at_center(fault: Callable[..., None], *what: object) -> Fault:
    """A fault of the center's."""
    return lambda scene: fault(scene, CENTER, *what)


def at_site(fault: Callable[..., None], *what: object) -> Fault:
    """A fault of one site's."""
    return lambda scene: fault(scene, scene.site, *what)


def kill(scene: Scene, party: str, program: str, times: int = 1) -> None:
    """Ends processes outright; more than once, as soon as they are back."""
    for number in range(times):
        if number:
            time.sleep(LASTS_S / 2)
        _signal(scene.processes(party, program), signal.SIGKILL)


def stop(scene: Scene, party: str, program: str = "") -> None:
    """Stops processes for a while, as a machine without memory or a suspended one does."""
    stopped = scene.processes(party, program)
    _signal(stopped, signal.SIGSTOP)
    time.sleep(LASTS_S)
    _signal(stopped, signal.SIGCONT)


def fill_disk(scene: Scene, party: str, program: str) -> None:
    """Lets no file of these processes grow for a while: each write fails."""
    pids = scene.processes(party, program)
    before = {pid: _limit_files(pid, (0, resource.RLIM_INFINITY)) for pid in pids}
    time.sleep(LASTS_S)
    for pid in {*before, *scene.processes(party, program)}:  # with what was started meanwhile, which inherits the bound
        _limit_files(pid, before.get(pid, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))


def restart(scene: Scene, party: str, how: int, away_s: float = 0.0) -> None:
    """Ends all that a party runs, orderly or outright, and starts it again."""
    _signal(scene.processes(party)[:1] if how == signal.SIGTERM else scene.processes(party), how)
    scene.running.processes[party].wait()
    time.sleep(away_s)
    start(scene.running, party)


def start(running: Federation, party: str) -> None:
    """Starts the center or a site, as a service manager would."""
    center = ("server", "start", "--directory", str(running.center.directory))
    running.start(party, *(center if party == CENTER else ("client", "--site", str(running.sites[party]))))


def restart_all_sites(scene: Scene) -> None:
    """Kills and starts every site, as a release of new software does."""
    for site in scene.running.sites:
        restart(scene, site, signal.SIGKILL)


def disturb(scene: Scene, sites: Sequence[str], state: State) -> None:
    """Has the lines of sites in a state for a while."""
    for site in sites:
        scene.lines[site].become(state)
    time.sleep(LONG_S)
    for site in sites:
        scene.lines[site].become("open")


def move_clock(scene: Scene, party: str, seconds: int) -> None:
    """Sets a party's clock ahead or behind, until it is set right."""
    scene.clocks[party].write_text(f"{seconds:+d}", encoding="ascii")
    time.sleep(LONG_S)
    scene.clocks[party].write_text("+0", encoding="ascii")


HOUR_S = 3600
FAULTS: Mapping[str, Fault] = {
    "the SuperLink is killed": at_center(kill, SUPERLINK),
    "the SuperLink is killed three times": at_center(kill, SUPERLINK, 3),
    "the SuperExec is killed": at_center(kill, SUPEREXEC),
    "the study's process is killed": at_center(kill, STUDY),
    "the proxy is killed": at_center(kill, PROXY),
    "the process that resumes runs is killed": at_center(kill, AUTO_RESUME),
    "the center's machine restarts outright": at_center(restart, signal.SIGKILL, LASTS_S),
    "the center is stopped and started": at_center(restart, signal.SIGTERM),
    "a site's SuperNode is killed": at_site(kill, SUPERNODE),
    "a site's warm process is killed, and what it trains": at_site(kill, WARM),
    "a site's machine restarts outright": at_site(restart, signal.SIGKILL),
    "a site is away for 20 s": at_site(restart, signal.SIGKILL, LONG_S),
    "a site is stopped and started": at_site(restart, signal.SIGTERM),
    "all sites restart outright": restart_all_sites,
    "the SuperLink hangs": at_center(stop, SUPERLINK),
    "the study's process hangs": at_center(stop, STUDY),
    "the proxy hangs": at_center(stop, PROXY),
    "the center's machine hangs": at_center(stop),
    "a site's SuperNode hangs": at_site(stop, SUPERNODE),
    "a site's machine hangs": at_site(stop),
    "a site's line is cut": lambda scene: disturb(scene, [scene.site], "cut"),
    "all lines are cut": lambda scene: disturb(scene, list(scene.lines), "cut"),
    "a site's line is stalled": lambda scene: disturb(scene, [scene.site], "stalled"),
    "a site's line is slow": lambda scene: disturb(scene, [scene.site], "slow"),
    "a site's connections break": lambda scene: disturb(scene, [scene.site], "breaking"),
    "all connections break": lambda scene: disturb(scene, list(scene.lines), "breaking"),
    "no disk for the SuperLink": at_center(fill_disk, SUPERLINK),
    "no disk for the study": at_center(fill_disk, STUDY),
    "no disk at a site": at_site(fill_disk, ""),
    "the center's clock jumps an hour ahead": at_center(move_clock, HOUR_S),
    "the center's clock jumps an hour back": at_center(move_clock, -HOUR_S),
    "a site's clock jumps an hour ahead": at_site(move_clock, HOUR_S),
    "a site's clock jumps an hour back": at_site(move_clock, -HOUR_S),
}


def descendants(pid: int) -> dict[int, str]:
    """Process number and command line of every process below `pid`."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    below, frontier = dict[int, str](), {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        below |= {child: commands.get(child, "") for child in frontier}
    return below


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _limit_files(pid: int, limits: tuple[int, int]) -> tuple[int, int]:
    """Bounds the size of a process's files, and returns the bounds before."""
    with contextlib.suppress(ProcessLookupError):
        return resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    return resource.RLIM_INFINITY, resource.RLIM_INFINITY
