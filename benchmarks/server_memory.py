"""Memory of the center in a round of many sites, over that of a round of few.

    python benchmarks/server_memory.py                                   # exits nonzero above 1.2
    python benchmarks/server_memory.py --strategy fedmedian krum scaffold
    python benchmarks/server_memory.py --strategy fedavg+secure          # with secure aggregation
    python benchmarks/server_memory.py --million 100 --sites 32 --rounds 1   # says how much, without a bar

The center's own code makes rounds, from the question to the checkpoint, in a process of its own for each number of
sites; the figure is the most that this process ever had in memory (VmHWM), programs and libraries in it. Sites are
light: each answers with the same changes, which lie in a file and come as the bytes that arrive over a network; with
secure aggregation each masks them by the protocol's own code, in another process.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from light_sites import MODALITY, SITE_PATIENTS, LightSites, SecureLightSites, names_of
from rich.console import Console
from rich.table import Table

from server.study.aggregation.rule import load_rule
from server.study.enrolment import Enrolment
from server.study.rounds import train_round
from server.study.weights.checkpoint import LAST, Checkpoint, save_checkpoint
from shared_models.messages import Arrays, TrainReply
from shared_models.messages.bfloat16 import rounded_arrays
from shared_models.study_settings import StudySettings
from shared_models.task import load_task
from simulation.engines.in_process_grid import InProcessGrid

BAR, FEW, MANY = 1.2, 4, 32
LAYERS, SECURE = 16, "+secure"


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", nargs="+", default=["fedavg", "fedmedian", f"fedavg{SECURE}"])
    parser.add_argument("--sites", nargs="+", type=int, default=[FEW, MANY], metavar="N")
    parser.add_argument("--million", type=float, default=3.75, help="weights of the network, in millions [3.75: 15 MB]")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # one process of the table
    options = parser.parse_args()
    if options.alone:
        print(*measure(options.strategy[0], options.sites[0], options.million, options.rounds))
        return 0
    heads = ("strategy", "sites", "MiB at most", "ratio", "s a round")
    table = Table(*heads, title=f"{options.million:g} million weights")
    worst = 0.0
    for strategy in options.strategy:
        first = 0.0
        for sites in options.sites:
            mebibytes, seconds = in_own_process(strategy, sites, options)
            first = first or mebibytes
            worst = max(worst, mebibytes / first)
            figures = (f"{mebibytes:.0f}", f"{mebibytes / first:.2f}", f"{seconds:.1f}")
            table.add_row(strategy, str(sites), *figures)
    Console().print(table)
    if len(options.sites) > 1:
        Console().print(f"{worst:.2f} (bar {BAR}): {'passes' if worst <= BAR else 'TOO MUCH'}")
    return int(worst > BAR)


def in_own_process(strategy: str, sites: int, options: argparse.Namespace) -> tuple[float, float]:
    """What `measure` gives in a new process."""
    own = ["--strategy", strategy, "--sites", str(sites), "--million", str(options.million)]
    command = [sys.executable, __file__, "--alone", *own, "--rounds", str(options.rounds)]
    mebibytes, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(mebibytes), float(seconds)


def measure(strategy: str, sites: int, million: float, rounds: int) -> tuple[float, float]:
    """The most MiB that this process had in memory, and seconds of a round."""
    logging.disable(logging.WARNING)
    secure = strategy.endswith(SECURE)
    config = StudySettings(
        study="memory",
        task="relapse_mammogram",
        strategy=strategy.removesuffix(SECURE),
        rounds=rounds,
        min_sites=sites,
        hostile_sites=1,
        secure_aggregation="on" if secure else "off",
        sites=",".join(names_of(sites)),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = config.model_copy(update={"results_dir": name})
        (folder / config.study).mkdir()
        grid: InProcessGrid = LightSites(sites, reply_of(million, config), folder)
        if secure:
            grid = SecureLightSites(sites, weights(million, 1e-3), config, folder)
        counts = {"train": SITE_PATIENTS, "validation": 0, "test": 0}
        site = Enrolment(True, counts, {MODALITY: SITE_PATIENTS}, 0)
        state = Checkpoint(config.to_flat(), 0, weights(million), {}, dict.fromkeys(grid._names.values(), site))
        started = time.monotonic()
        for _ in range(rounds):
            state = train_round(grid, load_task(config), load_rule(config), config, state, folder / config.study)
            save_checkpoint(state, folder / config.study / LAST)
        seconds = (time.monotonic() - started) / rounds
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kibibytes) / 1024, seconds


def weights(million: float, scale: float = 1.0) -> Arrays:
    """Some layers of noise, which do not compress."""
    chance = np.random.default_rng(0)
    size = int(million * 1e6 / LAYERS)
    return {
        f"layers.{n}.weight": chance.standard_normal(size, dtype=np.float32) * np.float32(scale) for n in range(LAYERS)
    }


def reply_of(million: float, config: StudySettings) -> TrainReply:
    """An answer to a request to train, with small changes in the numbers that travel by default."""
    change = rounded_arrays(weights(million, 1e-3))
    rule_change = change if config.strategy in ("scaffold", "fednova") else {}
    return TrainReply(model=change, patients=SITE_PATIENTS, loss=0.5, validation={}, rule_change=rule_change)


if __name__ == "__main__":
    sys.exit(main())
