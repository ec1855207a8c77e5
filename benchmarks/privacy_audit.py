"""Empirical privacy audit: membership, canary and reconstruction attacks beside the accounted epsilon.

    python benchmarks/privacy_audit.py                                     all; a quarter of an hour of one core
    python benchmarks/privacy_audit.py --only canaries
    python benchmarks/privacy_audit.py --write docs/privacy_audit.md

presence     Is one patient there? A lower bound on epsilon from many rounds, at each task's defaults.
membership   Whose record was trained on? By the loss (Yeom 2018, arXiv:1709.01604) and by the likelihood ratio with
             shadow models (LiRA, Carlini 2022, arXiv:2112.03570), on the weights that a study ends with.
canaries     A lower bound on epsilon from one training run (Steinke 2023, arXiv:2305.08846), also of mechanisms that
             were broken on purpose, which it has to find.
images       Can a patient's image be made from the update (Geiping 2020, arXiv:2003.14053)?

What trains is what a hospital runs: `fit`, `PrivateOptimizer`, `PoissonLoader`, `mechanism`. What was run is in
WORK/PART.json and is not run again. Exits nonzero where a bound on epsilon is above the accounted epsilon, or below
what a broken mechanism claims.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from privacy_audit_parts import CANARIES, IMAGES, OTHERS, PARTS, POOL, SHADOWS, TARGETS, Row
from privacy_audit_presence import PATIENTS as SOME
from privacy_audit_runs import POLICY
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ABOUT = {
    "presence": f"""One of {SOME} patients, the one who moves the weights most, is present or absent by the toss of a \
coin, in each of many rounds at noise multiplier 1. The center chose the weights and knows all patients and everything \
random about them; it measures how far the released weights lie in the direction in which this patient would move \
them. All networks have their dropout, modality dropout and one sampled lesion of several; images have few voxels.""",
    "membership": f"""Each of {SHADOWS + TARGETS} networks trains on a random half of {POOL} patients; {TARGETS} are \
attacked, and the attacker has the others. A multilayer perceptron (`fusion = "late"`, 64 hidden units) on synthetic \
mammography. Area under the ROC curve and true positive rate (TPR) at a false positive rate (FPR), with 95 % intervals \
by bootstrap over attacked networks. The noise is that for epsilon 8 at {POOL // 2} patients. The accounted epsilon is \
the largest that any network spent: that of the smallest half.""",
    "canaries": f"""{CANARIES} canaries, each included with probability one half, beside {OTHERS} other patients; 20 \
rounds. A canary either has an input of its own, far from the mean, in a logistic regression, so that its clipped \
gradient has an axis of its own; or it has the wrong outcome. AUC and epsilon: median, lowest and highest of the runs. \
In the last three lines the mechanism was broken on purpose.""",
    "images": f"""System C (`receptors_dce_mri`) at initialisation, volumes of 8 x 12 x 12 voxels. Median, lowest and \
highest of {IMAGES} patients. The first two lines need no update: an attack succeeds if it exceeds both.""",
}
PAGE = f"""\
# Empirical privacy audit

Written by `python benchmarks/privacy_audit.py --write docs/privacy_audit.md`, whose docstring describes the attacks.
The attacker is the center, and knows everything except whom it attacks. *Accounted epsilon*: by the ledger's
accountant, at delta {POLICY.delta:g}. *Epsilon, at least*: a lower bound with 95 % confidence, from the attack's
correct guesses; it would refute a smaller accounted epsilon. A weak attack proves little: the bound is of these
attacks, and others may be stronger.
"""


def main() -> int:
    """Runs what has not been run, prints the tables and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each audit by canaries")
    parser.add_argument("--work", type=Path, default=Path("runs/privacy_audit"), help="where results are kept")
    parser.add_argument("--write", type=Path, metavar="MD", help="also write the tables there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    rows = {name: run(name, options.seeds, options.work, console) for name in options.only}
    failures = [failure for part in rows.values() for row in part if (failure := row.wrong())]
    for name, part in rows.items():
        table = Table(title=name, title_justify="left")
        for head in part[0].cells:
            table.add_column(head)
        for row in part:
            table.add_row(*row.cells.values())
        console.print(table)
    if options.write:
        options.write.write_text(markdown(rows, failures), encoding="utf-8")
    for failure in failures:
        console.print(f"FALLS SHORT  {failure}", style="red")
    return int(bool(failures))


def run(name: str, seeds: int, work: Path, console: Console) -> list[Row]:
    """A part's lines, from its file where it was run before."""
    file = work / f"{name}.json"
    if file.exists():
        return [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
    part, steps = PARTS[name]
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(name, total=steps)
        rows = list(part(seeds, lambda: progress.advance(bar)))
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    return rows


def markdown(rows: dict[str, list[Row]], failures: list[str]) -> str:
    """The page of `docs/`."""
    lines = [PAGE]
    for name, part in rows.items():
        heads = list(part[0].cells)
        lines += [f"## {name.capitalize()}", "", ABOUT[name], ""]
        lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [f"| {' | '.join(row.cells.values())} |" for row in part]
        lines.append("")
    lines += (
        ["Not as it should be:", *(f"- {failure}" for failure in failures)]
        if failures
        else ["No bound of an intact mechanism exceeds its accounted epsilon; those of the broken ones do."]
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="torch")
    sys.exit(main())
