"""Soak of a deployment: memory and open files of all its processes while studies follow one another.

    python benchmarks/soak.py --minutes 30            # exits nonzero where a process that stays grows
    python benchmarks/soak.py --minutes 600 --secure on

A real center (SuperLink, SuperExec, nginx) and three real sites, over TLS. Every ten seconds the resident memory, the
open files and the threads of each process that stays are read; the table compares the medians of the second and of the
last quarter, since caches fill in the first. A process of a study or of a message comes and goes, and is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from campaign_deployment import SITES, TASK, deployment
from campaign_faults import CENTER, PROGRAMS, descendants
from rich.console import Console
from rich.table import Table

from shared_models.study_settings import parse_study_settings
from simulation.engines.rehearsal import Federation

EVERY_S = 10.0
MAX_GROWTH = {"MiB": (1.05, 8.0), "open files": (1.0, 3.0), "threads": (1.0, 3.0)}
"""Of each: the factor and the number by which the last quarter may be above the second."""


@dataclass(frozen=True)
class Sample:
    """A process at a moment."""

    mebibytes: float
    files: int
    threads: int


def main() -> int:
    """Runs studies until the time is over, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="[10]")
    parser.add_argument("--rounds", type=int, default=5, help="of each study [5]")
    parser.add_argument("--secure", choices=["off", "on"], default="off", help="secure aggregation [off]")
    options = parser.parse_args()
    console, samples, rounds = Console(soft_wrap=True), dict[str, list[Sample]](), 0
    with deployment(None) as scene, sampling(scene.running, samples):
        ends = time.monotonic() + 60 * options.minutes
        for number in itertools.count():
            if time.monotonic() > ends:
                break
            values = {"study": f"soak{number:04d}", "task": TASK, "rounds": options.rounds, "min-sites": SITES}
            config = parse_study_settings({**values, "secure-aggregation": options.secure, "split": "soak"})
            scene.running.finish(scene.running.begin(config), config)
            rounds += config.rounds
            console.print(f"{rounds} rounds", highlight=False)
    grown = print_table(samples, rounds, console)
    console.print("nothing grows" if not grown else f"GROWS: {', '.join(grown)}")
    return int(bool(grown))


@contextlib.contextmanager
def sampling(running: Federation, samples: dict[str, list[Sample]]) -> Iterator[None]:
    """Adds a sample of each process that stays, every ten seconds meanwhile."""
    stop = threading.Event()

    def keep_sampling() -> None:
        while not stop.wait(EVERY_S):
            for name, pid in that_stay(running).items():
                with contextlib.suppress(OSError):
                    samples.setdefault(name, []).append(sample_of(pid))

    thread = threading.Thread(target=keep_sampling)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def that_stay(running: Federation) -> dict[str, int]:
    """Process numbers by a name that stays: a party, and its program."""
    pids: dict[str, int] = {}
    for party, process in running.processes.items():
        pids[f"{party}: supervisor"] = process.pid
        for pid, line in descendants(process.pid).items():
            for program in PROGRAMS[party == CENTER]:
                if program in line:
                    pids.setdefault(f"{party}: {program}", pid)
    return pids


def sample_of(pid: int) -> Sample:
    """Reads a process's figures."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(int(fields["VmRSS"].split()[0]) / 1024, files, int(fields["Threads"]))


def print_table(samples: Mapping[str, list[Sample]], rounds: int, console: Console) -> list[str]:
    """Second and last quarter by process; the names of what grows."""
    table = Table("process", *MAX_GROWTH, title=f"{rounds} rounds: second quarter -> last quarter")
    grown: list[str] = []
    for name, of_process in samples.items():
        quarter = max(len(of_process) // 4, 1)
        second, last = of_process[quarter : 2 * quarter] or of_process, of_process[-quarter:]
        cells = []
        for measure, field in zip(MAX_GROWTH, ("mebibytes", "files", "threads"), strict=True):
            before, after = (statistics.median(getattr(one, field) for one in part) for part in (second, last))
            factor, number = MAX_GROWTH[measure]
            if after > factor * before + number:
                grown.append(f"{measure} of {name}")
            cells.append(f"{before:.0f} -> {after:.0f}")
        table.add_row(name, *cells)
    console.print(table)
    return grown


if __name__ == "__main__":
    sys.exit(main())
