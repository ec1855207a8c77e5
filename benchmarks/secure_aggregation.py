"""Benchmark of secure aggregation: a study with it and the same without, in a real deployment on one machine.

    python benchmarks/secure_aggregation.py
    python benchmarks/secure_aggregation.py --sites 3 --rounds 8 --task receptors_brain_metastasis
    python benchmarks/secure_aggregation.py --alone --sites 3 --task all --scale 0.3

A real center (SuperLink, SuperExec, nginx) and real sites, each with its own key, over TLS. Seconds are the center's
own of a training round, from its question to the sum, the median of all rounds but the first; in brackets the slowest.
What is beyond training is the same round in one process taken off, where all sites work one after another and
nothing is sent. Exchanges and megabytes are those that the center's audit log has of one site. With `--alone` only that
process runs, and what is shown is its processor time a round, center and sites together: a study of all rounds less one
of a single round, so that a busy machine does not matter.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.config.site import load_site
from server.study.audit import audit_of
from shared_models.chained_log import read
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.cohort_options import cohort_writer
from simulation.engines.in_process import run_in_process
from simulation.engines.rehearsal import Federation, rehearse
from simulation.splits import Sites, write_site

ROOT = Path(__file__).resolve().parents[1]
SYNTHETIC = "synthetic_"
WAYS = {"plain": "off", "secure": "on"}


@dataclass(frozen=True)
class Round:
    """A training round of a study, in the middle of many.

    Attributes:
        median_s: Seconds at the center.
        slowest_s: Of all rounds.
        exchanges: Messages to one site.
        megabytes: Of this site's replies.
    """

    median_s: float
    slowest_s: float
    exchanges: float
    megabytes: float


def main() -> int:
    """Prints the table."""
    tasks = sorted(path.stem.removeprefix(SYNTHETIC) for path in (ROOT / "studies").glob(f"{SYNTHETIC}*.toml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", nargs="+", type=int, default=[3, 5], help="how many take part, up to five")
    parser.add_argument("--task", choices=[*tasks, "all"], default="relapse_mammogram", help="all: with --alone")
    parser.add_argument("--alone", action="store_true", help="processor time in one process; needs no nginx")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--scale", type=float, default=1.0, help="of the cohorts' sizes")
    options = parser.parse_args()
    console = Console()
    if options.alone:
        for task in tasks if options.task == "all" else [options.task]:
            for count in options.sites:
                processor_time(task, count, options, console)
        return 0
    heads = ("sites", "way", "a round, s", "in one process, s", "beyond training, s", "exchanges", "MB a site")
    table = Table(*heads, title=f"{options.task}, {options.rounds} rounds", title_justify="left")
    for count in options.sites:
        for row in measure(count, options, console):
            table.add_row(*row)
            console.print(*row, sep=" | ")
    console.print(table)
    return 0


def processor_time(task: str, count: int, options: argparse.Namespace, console: Console) -> None:
    """Prints a line: processor seconds of a plain and of a secure round, and the one over the other."""
    options = argparse.Namespace(**{**vars(options), "task": task})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = that_train(cohort_writer(task)(folder / "cohort", scale=options.scale), count, folder)
        taken = {way: _processor_seconds(sites, study(options, way, folder)) for way in WAYS}
    plain, secure = taken["plain"], taken["secure"]
    console.print(task, count, f"{plain:.2f}", f"{secure:.2f}", f"{secure / plain:.2f}", sep=" | ")


def _processor_seconds(sites: Sites, config: StudySettings) -> float:
    """Of a round: all of them less the first, by two studies."""
    taken = []
    for rounds in (1, config.rounds):
        started = time.process_time()
        run_in_process(sites, config.model_copy(update={"study": f"{config.study}{rounds}", "rounds": rounds}))
        taken.append(time.process_time() - started)
    return (taken[1] - taken[0]) / (config.rounds - 1)


def measure(count: int, options: argparse.Namespace, console: Console) -> list[tuple[str, ...]]:
    """The lines of so many sites: one for each way."""
    rows = []
    with tempfile.TemporaryDirectory() as name, console.status(f"{count} sites"):
        folder = Path(name)
        sites = that_train(cohort_writer(options.task)(folder / "cohort", scale=options.scale), count, folder)
        alone = {way: in_process(sites, study(options, way, folder)) for way in WAYS}
        (folder / "deployed").mkdir()
        with rehearse(sites, folder / "deployed") as federation:
            for way in WAYS:
                deployment = deployed(federation, study(options, way, folder))
                beyond = f"{deployment.median_s - alone[way]:.2f}"
                seconds = f"{deployment.median_s:.2f} ({deployment.slowest_s:.2f})"
                sent = (f"{deployment.exchanges:g}", f"{deployment.megabytes:.2f}")
                rows.append((str(count), way, seconds, f"{alone[way]:.2f}", beyond, *sent))
    return rows


def that_train(files: list[Path], count: int, folder: Path) -> Sites:
    """The first sites of a cohort, all of which train here."""
    chosen = {file.stem: file for file in files[:count]}
    (folder / "sites").mkdir()
    return {
        name: write_site(load_site(file), folder / "sites", site=name, role="train") for name, file in chosen.items()
    }


def study(options: argparse.Namespace, way: str, folder: Path) -> StudySettings:
    """The synthetic study of a task, with or without secure aggregation."""
    values = tomllib.loads((ROOT / "studies" / f"{SYNTHETIC}{options.task}.toml").read_text(encoding="utf-8"))
    values |= {"study": way, "rounds": options.rounds, "min-sites": 3, "secure-aggregation": WAYS[way]}
    return parse_study_settings({**values, "results-dir": str(folder / "results")})


def in_process(sites: Sites, config: StudySettings) -> float:
    """Seconds of a round in one process, the median."""
    return statistics.median(_seconds(run_in_process(sites, config)))


def deployed(federation: Federation, config: StudySettings) -> Round:
    """A round over the network."""
    seconds = _seconds(federation.finish(federation.begin(config), config))
    lines = read(audit_of(federation.center.results / config.study))
    one = min(federation.sites)
    exchanges, megabytes = _of_one_site([line for line in lines if line.get("site") == one])
    return Round(statistics.median(seconds), max(seconds), exchanges, megabytes)


def _seconds(results: dict[str, Any]) -> list[float]:
    """Of each round but the first, which also opens the patients."""
    return [attempt["seconds"] for attempt in results["rounds"]][1:]


def _of_one_site(lines: list[dict[str, Any]]) -> tuple[float, float]:
    """Exchanges and megabytes of replies a round, from the second question to train to the last."""
    asked = [index for index, line in enumerate(lines) if line["event"] == "sent" and line["message"] == "train"]
    between, rounds = lines[asked[1] : asked[-1]], len(asked) - 2
    received = [line for line in between if line["event"] == "received"]
    return len(received) / rounds, sum(line["bytes"] for line in received) / rounds / 1e6


if __name__ == "__main__":
    sys.exit(main())
