"""Benchmark of what a researcher chooses where hospitals differ: aggregation rules and networks of one's own.

    python benchmarks/strategies.py                       two phantoms, two kinds of skew, five seeds each
    python benchmarks/strategies.py --seeds 0 1 --csv /tmp/strategies.csv
    python benchmarks/strategies.py --seeds --write docs/sweeps.md    the table, from what was run before

A phantom of tables is divided over five hospitals: by a Dirichlet distribution of its outcome, so that sizes and
prevalences differ, or by one of its patients alone, so that only sizes do. All rules have the same optimizer, learning
rate, passes and rounds, and a seed's phantom, split and hospitals are the same for all. The figure is the AUC within
hospitals, of all test patients; with FedBN and Ditto each hospital's patients are scored by its own network.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from paper_lines import Line, append, read
from rich.console import Console
from torch import nn

from client.cohort.load import Cohort
from client.config.site import load_site
from client.training.dataset import select_patients
from client.training.personal import learnable, train_own
from server.study.results.comparison_section import share
from shared_models.atomic_files import write_atomically
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import Trained, from_checkpoint, score, study_cohorts
from simulation.engines.in_process import train_in_process
from simulation.phantoms.cohort import phantom_writer
from simulation.skew import divide_unequally, parse_skew
from simulation.splits import Sites, fitted_to
from simulation.sweeps.table import t_interval, with_interval

TASK, TARGET, HOSPITALS, PATIENTS = "relapse_mammogram", "relapse", 5, 800
PHANTOMS, SKEWS = ("linear", "interaction"), ("dirichlet:0.3", "quantity:0.3")
RULES: Mapping[str, Mapping[str, Any]] = {
    "FedAvg": {"strategy": "fedavg"},
    "FedProx": {"strategy": "fedprox"},
    "server momentum": {"strategy": "fedavgm"},
    "FedNova": {"strategy": "fednova"},
    "SCAFFOLD": {"strategy": "scaffold"},
    "FedBN": {"normalisation": "local"},
}
DITTO = "Ditto, from FedAvg"
ROWS = (*RULES, DITTO)
SETTINGS = {
    "task": TASK,
    "outcome": "binary",
    "optimizer": "sgd",
    "learning-rate": 0.05,
    "batch-size": 32,
    "local-epochs": 4,
    "rounds": 10,
    "secure-aggregation": "off",
    "test-fraction": 0.3,
    "overwrite": True,
}
BEGIN, END = "<!-- rules -->", "<!-- end of rules -->"


def main() -> int:
    """Runs what has not been run, prints each cohort's figures, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], metavar="N", help="of the phantoms")
    parser.add_argument("--work", type=Path, default=Path("runs/strategies"), metavar="DIR", help="phantoms, studies")
    default = Path("docs/strategies.csv")
    parser.add_argument("--csv", type=Path, default=default, metavar="CSV", help="what was measured")
    parser.add_argument("--write", type=Path, metavar="MD", help="also write the table there, between its marks")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for skew in SKEWS:
        for seed in options.seeds:
            for kind in PHANTOMS:
                run(kind, skew, seed, options.work.resolve(), options.csv, Console(highlight=False))
    if options.write:
        before, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        write_atomically(options.write, f"{before}{BEGIN}\n{table(read(options.csv))}\n{END}{after}")
    return 0


def run(kind: str, skew: str, seed: int, work: Path, file: Path, console: Console) -> None:
    """Trains one phantom's hospitals by each rule, unless the CSV has them; Ditto from what FedAvg gives."""
    name = f"{kind}, {skew}"
    if (name, seed) in {(line.table, line.seed) for line in read(file)}:
        return
    lines, started = [], time.monotonic()
    for rule, trained, cohorts, task in networks(kind, skew, seed, work):
        tested = [(task.targets[TARGET], *score(trained, one, task)[TARGET]) for one in cohorts]
        patients, minutes = sum(len(truth) for _, _, truth in tested), (time.monotonic() - started) / 60
        lines.append(Line(name, rule, seed, TARGET, "auc", *astuple(share(tested)), patients, minutes))
        started = time.monotonic()
    append(file, lines)
    console.print(f"{name} {seed}: " + ", ".join(f"{line.row} {line.value:.3f}" for line in lines))


def networks(kind: str, skew: str, seed: int, work: Path) -> Iterator[tuple[str, Trained, Sequence[Cohort], Task]]:
    """Each rule, what it trained, and the hospitals' patients."""
    folder = work / kind / skew.replace(":", "-") / str(seed)
    for rule, changes in RULES.items():
        own = {**SETTINGS, **changes, "study": rule.replace(" ", "-"), "seed": seed, "split-seed": seed}
        config = parse_study_settings({**own, "results-dir": str(folder / "runs")})
        sites = hospitals(kind, skew, seed, folder, config)
        config = fitted_to(config, sites)
        task = load_task(config)
        chosen, cohorts = train_in_process(sites, config, lambda *_: None)[0], study_cohorts(sites, task, config)
        trained = from_checkpoint(chosen, task, config, sites)
        yield rule, trained, cohorts, task
        if rule == "FedAvg":
            yield DITTO, replace(trained, own=own_networks(trained, task, sites, config, cohorts)), cohorts, task


def own_networks(
    common: Trained, task: Task, sites: Sites, config: StudySettings, cohorts: Sequence[Cohort]
) -> dict[str, nn.Module]:
    """By hospital its own network as a study with `personal = "ditto"` has it; none where it has too few patients."""
    config, networks = config.model_copy(update={"personal": "ditto"}), {}
    for cohort in cohorts:
        known = {name: truth[cohort.parts["train"]] for name, truth in cohort.truths.items()}
        if learnable(known, task, load_site(sites[cohort.site]).policy.minimum_count):
            parts = {part: select_patients(cohort, part, task, common.statistics) for part in ("train", "validation")}
            networks[cohort.site] = train_own(common.model, parts, task, config, config.seed, {})
    return networks


def hospitals(kind: str, skew: str, seed: int, folder: Path, config: StudySettings) -> Sites:
    """The phantom, written first where it is not there yet, divided over the hospitals."""
    if not list((folder / "phantom").glob("*/*.yaml")):
        words = [kind, "ceiling=0.9", "sites=1", f"patients={PATIENTS}", f"seed={seed}"]
        phantom_writer(TASK, words)(folder / "phantom", workers=1)
    file = folder / "phantom" / "site_1" / "site_1.yaml"
    return divide_unequally(file, folder / "sites", HOSPITALS, parse_skew([skew]), config)


def table(lines: Sequence[Line]) -> str:
    """A row a rule: of FedAvg the AUC, of the others its difference from FedAvg's, paired by seed."""
    cohorts = dict.fromkeys(line.table for line in lines)
    rows = ["| rule | " + " | ".join(cohorts) + " |", "|---" * (len(cohorts) + 1) + "|"]
    for rule in ROWS:
        cells = []
        for cohort in cohorts:
            own, base = (
                {one.seed: one.value for one in lines if (one.table, one.row) == (cohort, name)}
                for name in (rule, "FedAvg")
            )
            differences = [value - base[seed] for seed, value in own.items() if seed in base]
            cells.append(mean([*own.values()]) if rule == "FedAvg" else mean(differences, signed=True))
        rows.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def mean(values: Sequence[float], signed: bool = False) -> str:
    """Mean and its 95 % interval over seeds; a dash where nothing was measured."""
    return with_interval(statistics.fmean(values), *t_interval(values), signed) if values else "-"


if __name__ == "__main__":
    sys.exit(main())
