"""Benchmark on five real data sets: federated (FedAvg), pooled and local training, split by patient.

    python benchmarks/real_data.py                          # everything
    python benchmarks/real_data.py --only cbis_ddsm bcbm --seeds 1

Each seed draws the weights and, but for CBIS-DDSM with its published test set, the split by patient: AUC (or
C-index) and the bounds of its 95 % interval over test patients are means over seeds. "local" trains at each site alone
and is scored, as the others are, on the test patients of all sites: the mean over sites. Exits nonzero below a bar.

Settings are the defaults, but for CBIS-DDSM's learning rate: of three, each run takes the best on its validation
patients. Every run also keeps the round that was best on them. No test patient has a say.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from breastdcedl import write_sites
from real_data_runs import GRAD_SAMPLE_MODES, ROOT, DataSet, MetricsByTarget, leave_out, settings, train
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from client.cohort.load import load_cohort
from client.config.site import PublishedSplit, load_site
from client.errors import SiteError
from client.tables.read import read_table
from shared_models.metrics.summary import Metrics
from shared_models.task import load_task
from simulation.splits import Sites, divide, find_sites

DATA = Path(os.environ.get("FEDERATION_TEST_DATA", ROOT.parent / "shared" / "data"))
FIRST_SEED = 42
RANKS = ("auc", "c_index", "macro_f1")


def _divided(name: str, **how: Any) -> Callable[[Path], Sites]:
    file = ROOT / "site_configs" / f"{name}.yaml"
    return lambda folder: divide(file, folder, data_root=DATA / name, **how)


def _mammography(folder: Path) -> Sites:
    test = ROOT / "site_configs" / "cbis_ddsm_test.yaml"
    return _divided("cbis_ddsm", into=5)(folder) | find_sites([test], DATA / "cbis_ddsm", folder)


# Two of Duke's eight scanner models had ten patients and one: each joins another model of its maker.
SCANNERS = {"avanto": "0", "optima": "1", "excite_hdx": "23", "hdxt": "4", "skyra": "5", "trio": "67"}
_duke = _divided("duke", by="Manufacturer Model Name", groups=SCANNERS)

# Tested on where the set brings no test patients: a sixth would be 20 of BCBM's patients.
THIRD = {"test-fraction": 0.3}
CHANCE = (0.35, 0.65)
RATES = tuple({"optimizer": "sgd", "learning-rate": rate} for rate in (0.02, 0.05, 0.1))
DATA_SETS = {
    "tcga_multiomics": DataSet(
        "tcga_multiomics",
        _divided("tcga_multiomics", by="region"),
        THIRD,
        bar={"basal_or_her2": (0.97, 1.0)},
        gap=0.01,
        leave_out=True,
    ),
    "cbis_ddsm": DataSet(
        "cbis_ddsm", _divided("cbis_ddsm", into=5), THIRD, seeds=5, choices=RATES, bar={"relapse": (0.84, 0.90)}
    ),
    # Logistic regression, .860 cross-validated in the training set, has .834 (a random forest .843) on the published
    # test set: its 201 patients are harder, and give an interval of +-.055. No bar.
    "cbis_ddsm_test": DataSet("cbis_ddsm", _mammography, choices=RATES),
    # A split tests 35 patients, with a standard error of 0.1: three would leave chance too much room.
    "bcbm": DataSet(
        "bcbm", _divided("bcbm", into=5), THIRD, seeds=10, bar={"er": CHANCE, "pr": CHANCE, "her2": CHANCE}
    ),
    "breastdcedl": DataSet("breastdcedl", lambda folder: write_sites(DATA / "breastdcedl", folder), THIRD),
    "duke": DataSet("duke", _duke, THIRD),
    "duke_5_years": DataSet(
        "duke", _duke, THIRD | {"task": "recurrence_mri", "modalities": "clinical", "outcome": "binary"}
    ),
}


def main() -> int:
    """Prints the tables and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--work", type=Path, metavar="DIR", help="an empty folder; a temporary one if left out")
    options = parser.parse_args()
    console = Console(width=150)
    if not DATA.is_dir():
        console.print(f"the data are not here: {DATA} (name their parent folder in FEDERATION_TEST_DATA)")
        return 4
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        good = [run(name, work / name, options.seeds, console) for name in options.only]
        if "bcbm" in options.only:
            good.append(refuses_lesions(work, console))
    return int(not all(good))


def run(name: str, work: Path, seeds: int, console: Console) -> bool:
    """Trains on one data set in every way, prints it, and returns whether the bars are cleared."""
    started = time.monotonic()
    data_set = DATA_SETS[name]
    sites = data_set.make_sites(work / "sites")
    rows: dict[str, list[MetricsByTarget]] = {way: [] for way in GRAD_SAMPLE_MODES}
    outside: dict[str, list[MetricsByTarget]] = {}
    seeds = data_set.seeds or seeds
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(name, total=None)
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            for way, metrics in train(data_set, sites, work, seed):
                rows[way].append(metrics)
                progress.update(bar, description=f"{name}: seed {seed}, {way}")
        if data_set.leave_out:
            progress.update(bar, description=f"{name}: a site left out")
            outside = leave_out(data_set, sites, work, FIRST_SEED)
    minutes = (time.monotonic() - started) / 60
    console.print(table(f"{name}: {len(sites)} sites, {seeds} seeds, {minutes:.1f} min", rows))
    if outside:
        console.print(table(f"{name}: a site that took no part in training, seed {FIRST_SEED}", outside))
    return verdict(name, rows, console)


def table(title: str, rows: dict[str, list[MetricsByTarget]]) -> Table:
    """Means over seeds (and sites) of each target's metric and of its interval, and the test patients."""
    shown = Table(title=title, title_justify="left", min_width=70)
    shown.add_column("")
    first = next(iter(rows.values()))[0]
    for target in first:
        shown.add_column(target, justify="right")
    for way, results in rows.items():
        shown.add_row(way, *(_cell([one[target] for one in results]) for target in first))
    return shown


def _cell(results: list[Metrics]) -> str:
    rank = rank_of(results[0])
    value, low, high = (
        np.mean([metrics.get(key, np.nan) for metrics in results]) for key in (rank, f"{rank}_low", f"{rank}_high")
    )
    interval = "" if np.isnan(low) else f" ({low:.2f}-{high:.2f})"
    cases = results[0].get("positives", results[0].get("events"))
    counts = f"{results[0]['patients']:.0f} patients" + ("" if cases is None else f", {cases:.0f} cases")
    return f"{rank} {value:.3f}{interval}\n{counts}"


def rank_of(metrics: Metrics) -> str:
    """The metric that a target is judged by."""
    return next(rank for rank in RANKS if rank in metrics)


def verdict(name: str, rows: dict[str, list[MetricsByTarget]], console: Console) -> bool:
    """Whether the federated means lie within the data set's bars."""
    data_set, good = DATA_SETS[name], True
    for target, (low, high) in data_set.bar.items():
        rank = rank_of(rows["pooled"][0][target])
        ours, pooled = (np.mean([result[target][rank] for result in rows[way]]) for way in ("federated", "pooled"))
        passes = low <= ours <= high and ours >= pooled - data_set.gap
        bar = f"bar {low}-{high}" + ("" if np.isinf(data_set.gap) else f", at most {data_set.gap} below pooled")
        chance = ": at chance" if (low, high) == CHANCE else ""
        console.print(f"{name} {target}: {ours:.3f} ({bar}): {'passes' + chance if passes else 'FALLS SHORT'}")
        good &= bool(passes)
    return good


def refuses_lesions(work: Path, console: Console) -> bool:
    """Tries a split by lesion, which would give AUCs of .83 to .88 by recognising patients, and shows the refusal."""
    config = settings(DATA_SETS["bcbm"], work, "by-lesion", FIRST_SEED)
    task, site = load_task(config), load_site(ROOT / "site_configs" / "bcbm.yaml", DATA / "bcbm")
    names = sorted(set(read_table(site, "lesions", ["Segmentation_Name"]).cells["Segmentation_Name"]))
    split = PublishedSplit(table="lesions", column="Segmentation_Name", train=names[::2], test=names[1::2])
    try:
        load_cohort(site.model_copy(update={"split": split, "state_dir": work / "by-lesion"}), task, config)
    except SiteError as error:
        console.print(f"bcbm, split by lesion: refused, as it should be\n{error}", style="dim", markup=False)
        return True
    console.print("bcbm, split by lesion: NOT REFUSED")
    return False


if __name__ == "__main__":
    sys.exit(main())
