"""Benchmark of aggregation rules where hospitals differ: SCAFFOLD, FedNova and Ditto against FedAvg on two phantoms.

    python benchmarks/strategies.py                       two phantoms, five seeds each, about ten minutes of one core
    python benchmarks/strategies.py --seeds 0 1 --csv /tmp/strategies.csv
    python benchmarks/strategies.py --seeds --write docs/sweeps.md    the table, from what was run before

One phantom of tables is divided over five hospitals by a Dirichlet distribution of its outcome (concentration .3), so
that sizes and prevalences differ. All rules have the same optimizer, learning rate, passes and rounds, and a seed's
phantom, split and hospitals are the same for all. The figure is the AUC within hospitals, of all test patients; of
Ditto each hospital's own network, or the common one where a hospital has none, on the same patients as the common one.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from paper_lines import Line, append, read
from rich.console import Console
from scipy.stats import t as student

from client.cohort.load import Cohort
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

TASK, TARGET, HOSPITALS, PATIENTS, SKEW = "relapse_mammogram", "relapse", 5, 800, "dirichlet:0.3"
PHANTOMS = ("linear", "interaction")
RULES = ("FedAvg", "SCAFFOLD", "FedNova")
ROWS = (*RULES, "Ditto")
MIN_PATIENTS = 10
"""Fewest training patients of a class with whom a hospital trains a network of its own."""
SETTINGS = {
    "task": TASK,
    "outcome": "binary",
    "optimizer": "sgd",
    "learning-rate": 0.02,
    "local-epochs": 4,
    "rounds": 10,
    "secure-aggregation": "off",
    "test-fraction": 0.3,
    "overwrite": True,
}
BEGIN, END = "<!-- rules -->", "<!-- end of rules -->"


def main() -> int:
    """Runs what has not been run, prints each run, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], metavar="N", help="of the phantoms")
    parser.add_argument("--work", type=Path, default=Path("runs/strategies"), metavar="DIR", help="phantoms, studies")
    parser.add_argument(
        "--csv", type=Path, default=Path("docs/strategies.csv"), metavar="CSV", help="what was measured"
    )
    parser.add_argument("--write", type=Path, metavar="MD", help="also write the table there, between its marks")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for kind in PHANTOMS:
        for seed in options.seeds:
            run(kind, seed, options.work.resolve(), options.csv, Console(highlight=False))
    if options.write:
        before, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        write_atomically(options.write, f"{before}{BEGIN}\n{table(read(options.csv))}\n{END}{after}")
    return 0


def run(kind: str, seed: int, work: Path, file: Path, console: Console) -> None:
    """Trains one phantom's hospitals by each rule, unless the CSV has them; Ditto from what FedAvg gives."""
    if (kind, seed) in {(line.table, line.seed) for line in read(file)}:
        return
    folder, started = work / kind / str(seed), time.monotonic()
    lines = []
    for rule in RULES:
        own = {**SETTINGS, "study": rule, "strategy": rule.lower(), "seed": seed, "split-seed": seed}
        config = parse_study_settings({**own, "results-dir": str(folder / "runs")})
        sites = hospitals(kind, seed, folder, config)
        config = fitted_to(config, sites)
        task = load_task(config)
        common = from_checkpoint(train_in_process(sites, config, lambda *_: None)[0], task, config)
        cohorts = study_cohorts(sites, task, config)
        networks = {rule: dict.fromkeys(sites, common)}
        if rule == "FedAvg":
            networks["Ditto"] = {one.site: own_network(common, one, task, config) for one in cohorts}
        for name, by_site in networks.items():
            tested = [(task.targets[TARGET], *score(by_site[one.site], one, task)[TARGET]) for one in cohorts]
            value, patients = share(tested), sum(len(truth) for _, _, truth in tested)
            minutes = (time.monotonic() - started) / 60
            lines.append(Line(kind, name, seed, TARGET, "auc", *astuple(value), patients, minutes))
    append(file, lines)
    figures = ", ".join(f"{line.row} {line.value:.3f}" for line in lines)
    console.print(f"{kind} {seed}: {figures} ({time.monotonic() - started:.0f} s)")


def own_network(common: Trained, cohort: Cohort, task: Task, config: StudySettings) -> Trained:
    """A hospital's own network as a study with `personal = "ditto"` has it; the common one where it has too few."""
    own = config.model_copy(update={"personal": "ditto"})
    known = {name: truth[cohort.parts["train"]] for name, truth in cohort.truths.items()}
    if not learnable(known, task, MIN_PATIENTS):
        return common
    parts = {part: select_patients(cohort, part, task, common.statistics) for part in ("train", "validation")}
    return Trained(train_own(common.model, parts, task, own, own.seed, {}), common.statistics)


def hospitals(kind: str, seed: int, folder: Path, config: StudySettings) -> Sites:
    """The phantom, written first where it is not there yet, divided over the hospitals."""
    if not list((folder / "phantom").glob("*/*.yaml")):
        words = [kind, "ceiling=0.9", "sites=1", f"patients={PATIENTS}", f"seed={seed}"]
        phantom_writer(TASK, words)(folder / "phantom", workers=1)
    file = folder / "phantom" / "site_1" / "site_1.yaml"
    return divide_unequally(file, folder / "sites", HOSPITALS, parse_skew([SKEW]), config)


def table(lines: Sequence[Line]) -> str:
    """A row a phantom and rule: mean AUC over seeds, and its difference from FedAvg's, paired by seed."""
    rows = ["| phantom | rule | seeds | AUC within hospitals | difference from FedAvg |", "|---|---|---|---|---|"]
    for kind in PHANTOMS:
        values = {rule: {x.seed: x.value for x in lines if (x.table, x.row) == (kind, rule)} for rule in ROWS}
        for rule, by_seed in values.items():
            both = [value - values["FedAvg"][seed] for seed, value in by_seed.items() if seed in values["FedAvg"]]
            less = "" if rule == "FedAvg" else with_interval(both, "+")
            rows.append(f"| `{kind}` | {rule} | {len(by_seed)} | {with_interval([*by_seed.values()])} | {less} |")
    return "\n".join(rows)


def with_interval(values: Sequence[float], sign: str = "") -> str:
    """Mean and the 95 % interval over seeds by Student's t."""
    if len(values) < 2:
        return "-"
    reach = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):{sign}.3f} (±{reach:.3f})"


if __name__ == "__main__":
    sys.exit(main())
