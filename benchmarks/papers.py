"""Benchmark of the tables of the five papers, run by this system: each network against what its paper compares it with.

    python benchmarks/papers.py                                   every table, three cohorts or splits each
    python benchmarks/papers.py --only "D cbis_ddsm" "B tcga_multiomics" --seeds 5
    python benchmarks/papers.py --seeds 0 --write docs/papers.md  the page, from what was run before

Networks are trained federated, with the task's defaults; a classifier learns from the pooled patients' tables. All are
scored on the test patients of all sites, split by patient, with the same split for all rows of a seed. Each row that is
done is a line of `--csv`, and is not run again. Data sets that are not at hand (`FEDERATION_TEST_DATA` names their
folder) and classifiers that are not installed (CatBoost: `pip install catboost`) are left out, and said to be.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from paper_lines import append, read
from paper_page import page
from paper_rows import TABLES, Table
from paper_runs import NotAtHand, run_row, sites_of
from rich.console import Console


def main() -> int:
    """Runs what has not been run, prints each row, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [table.key for table in TABLES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="TABLE", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="cohorts, or splits of real data; 0: none")
    parser.add_argument("--work", type=Path, default=Path("runs/papers"), metavar="DIR", help="cohorts and checkpoints")
    parser.add_argument("--csv", type=Path, default=Path("docs/papers.csv"), metavar="CSV", help="what was found")
    parser.add_argument("--write", type=Path, metavar="MD", help="also write the page there")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    console = Console(highlight=False)
    for table in TABLES:
        if table.key in options.only:
            for seed in range(options.seeds):
                run_table(table, seed, options.work.resolve(), options.csv, console)
    if options.write:
        options.write.write_text(page(TABLES, read(options.csv)), encoding="utf-8")
    return 0


def run_table(table: Table, seed: int, work: Path, file: Path, console: Console) -> None:
    """Runs the rows of one cohort or split that the CSV does not have yet."""
    known = {(line.table, line.row, line.seed) for line in read(file)}
    missing = [row for row in table.rows if (table.key, row.name, seed) not in known]
    if not missing:
        return
    try:
        sites = sites_of(table, seed, work)
    except NotAtHand as error:
        console.print(f"{table.key}: {error}", style="yellow")
        return
    for number, row in enumerate(missing, start=1):
        started = time.monotonic()
        try:
            lines = list(run_row(table, row, seed, sites, work))
        except NotAtHand as error:
            console.print(f"{table.key}, {row.name}: {error}", style="yellow")
            continue
        append(file, lines)
        figures = ", ".join(f"{line.target} {line.metric} {line.value:.3f}" for line in lines)
        seconds = time.monotonic() - started
        console.print(f"{table.key} {seed}, {number} of {len(missing)}, {row.name}: {figures} ({seconds:.0f} s)")


if __name__ == "__main__":
    sys.exit(main())
