"""Benchmark of what a study claims, on made-up hospitals whose truth is known: the page docs/evaluation.md.

Whole simulations with default settings, of tables written here and read as a hospital's are. The truth is computed from
the numbers that made the tables and from the sites' own predictions, never from a study's results.

    python benchmarks/evaluation.py              # all parts
    python benchmarks/evaluation.py --only noise # one: noise, follow-up, weights, intervals
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import roc_auc_score

import simulation
from shared_models.metrics.delong import auc_interval
from shared_models.metrics.summary import pooled_metrics, summarise
from shared_models.metrics.within_site import WithinSiteConcordance
from shared_models.targets import TimeToEvent

YEAR, HORIZON_DAYS = 365.25, 5 * 365.25
EDGES = "365.25, 730.5, 1095.75, 1461, 1826.25, 2191.5"


@dataclass(frozen=True)
class Table:
    """A hospital's patients.

    Attributes:
        features: By name, `(N,)`.
        days: `(N,)` until the event or the end of follow-up.
        event: `(N,)` of 0 and 1.
    """

    features: Mapping[str, np.ndarray[Any, Any]]
    days: np.ndarray[Any, Any]
    event: np.ndarray[Any, Any]


def write_site(folder: Path, name: str, table: Table) -> Path:
    """A hospital's CSV and YAML; the YAML's path."""
    columns = {"patient": [f"{name}{row}" for row in range(len(table.days))], **table.features}
    frame = pd.DataFrame({**columns, "days": np.ceil(table.days).astype(int), "event": table.event.astype(int)})
    frame.to_csv(folder / f"{name}.csv", index=False)
    event = {"column": "event", "codes": {0: 0, 1: 1}}
    content = {
        "site": name,
        "data_root": ".",
        "state_dir": "state",
        "tables": {"main": {"file": f"{name}.csv", "patient_id": "patient"}},
        "modalities": {"clinical": {"reader": "table", "features": {one: {"column": one} for one in table.features}}},
        "targets": {"recurrence": {"event": event, "event_days": ["days"], "followup_days": ["days"]}},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder / f"{name}.yaml"


def run(folder: Path, study: str, sites: Mapping[str, Table]) -> simulation.Results:
    """A study of these hospitals with nothing set but features, intervals and horizon."""
    names = sorted({name for table in sites.values() for name in table.features})
    settings = {"study": study, "features": f"clinical: {', '.join(names)}", "time-edges-days": EDGES}
    paths = [str(write_site(folder, name, table)) for name, table in sites.items()]
    return simulation.run({**settings, "results-dir": str(folder / "runs")}, paths)


def noise(rng: np.random.Generator, folder: Path) -> dict[str, float]:
    """Three hospitals of pure noise that differ in how many have the event, one without a column.

    A network can tell the hospitals apart and nothing else.
    """
    sites = {}
    for name, rate in (("a", 0.45), ("b", 0.10), ("c", 0.10)):
        features = {f"x{index}": rng.normal(size=600) for index in range(4 - (name == "a"))}
        days = rng.exponential(-HORIZON_DAYS / math.log(1 - rate), 600)
        end = rng.uniform(3, 9, 600) * YEAR
        sites[name] = Table(features, np.minimum(days, end) + 1, days <= end)
    of = run(folder, "noise", sites).content.targets["recurrence"].internal
    return {name: of[name] for name in ("auc_within_sites", "c_index_within_sites", "auc", "c_index")}


def follow_up(rng: np.random.Generator, folder: Path) -> dict[str, float]:
    """Four hospitals where those with a feature that has no effect on the event are followed for a short time."""
    sites, event_days = {}, {}
    for name in "abcd":
        effect, short = rng.normal(size=1500), rng.integers(0, 2, 1500)
        days = rng.exponential(8 * YEAR / np.exp(0.7 * effect))
        end = np.where(short, rng.uniform(0.3, 5.5, 1500), rng.uniform(5, 10, 1500)) * YEAR
        sites[name] = Table({"effect": effect, "short": short}, np.minimum(days, end) + 1, days <= end)
        event_days |= {f"{name}{row}": one for row, one in enumerate(days)}
    results = run(folder, "follow-up", sites)
    files = [folder / "state" / name / "studies" / "follow-up" / "predictions.csv" for name in sites]
    predicted = pd.concat(map(pd.read_csv, files))
    risk = predicted[next(name for name in predicted.columns if name.startswith("recurrence"))]
    late = predicted["patient"].map(event_days).to_numpy() <= HORIZON_DAYS
    reported, truth = results.content.targets["recurrence"].internal["auc"], roc_auc_score(late, risk)
    return {"reported": reported, "truth": truth, "reported less truth": reported - truth}


def weights(rng: np.random.Generator, folder: Path) -> dict[str, float]:
    """The AUC at five years of 900 such patients by a known risk, without a study: what the weights alone do."""
    del folder
    effect, short = rng.normal(size=900), rng.integers(0, 2, 900)
    days = rng.exponential(8 * YEAR / np.exp(0.7 * effect))
    end = np.where(short, rng.uniform(0.3, 5.5, 900), rng.uniform(5, 10, 900)) * YEAR
    risk, target = 1 / (1 + np.exp(-effect)), TimeToEvent(tuple(float(edge) for edge in EDGES.split(",")))
    counted = summarise(target, risk, np.c_[np.minimum(days, end), days <= end])
    return {"reported less truth": pooled_metrics(counted, 0.5)["auc"] - roc_auc_score(days <= HORIZON_DAYS, risk)}


def intervals(rng: np.random.Generator, folder: Path) -> dict[str, float]:
    """Whether intervals of an AUC of .95 of 10 cases and 90 or 300 others, and of a C-index, hold the true value."""
    covered: dict[str, float] = {}
    for others in (90, 300):
        shift = math.sqrt(2) * 1.6448536
        scores = np.r_[rng.normal(shift, 1, 10), rng.normal(0, 1, others)]
        interval = auc_interval(1 / (1 + np.exp(-scores)), np.r_[np.ones(10), np.zeros(others)])
        covered[f"AUC, 10 and {others}"] = interval.low <= 0.95 <= interval.high
    hazard = rng.normal(size=60)
    days, end = rng.exponential(np.exp(-hazard)), rng.exponential(0.5, 60)
    truth = np.c_[np.minimum(days, end), days <= end]
    interval = WithinSiteConcordance.of(1 / (1 + np.exp(-hazard)), truth).interval()
    covered["C-index, 60 patients"] = interval.low <= _true_concordance() <= interval.high
    return covered


def _true_concordance() -> float:
    """Of exponential times with log hazards from a standard normal, under this censoring: from 3,000 patients."""
    if not _TRUE:
        rng = np.random.default_rng(0)
        hazard = rng.normal(size=3000)
        days, end = rng.exponential(np.exp(-hazard)), rng.exponential(0.5, 3000)
        truth = np.c_[np.minimum(days, end), days <= end]
        _TRUE.append(WithinSiteConcordance.of(1 / (1 + np.exp(-hazard)), truth).share())
    return _TRUE[0]


_TRUE: list[float] = []
Part = Callable[[np.random.Generator, Path], dict[str, float]]
PARTS: dict[str, tuple[Part, int]] = {
    "noise": (noise, 5),
    "follow-up": (follow_up, 5),
    "weights": (weights, 200),
    "intervals": (intervals, 2000),
}


def main() -> None:
    """Prints a table a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part")
    only = parser.parse_args().only
    for name in [only] if only else PARTS:
        part, repeats = PARTS[name]
        rows = []
        for seed in range(repeats):
            with TemporaryDirectory() as folder:
                rows.append(part(np.random.default_rng(seed), Path(folder)))
        table = pd.DataFrame(rows)
        print(f"\n{name}: {repeats} repeats\n")
        print("| | mean | least | most |\n|---|---|---|---|")
        for column in table:
            values = table[column].astype(float)
            print(f"| {column} | {values.mean():.3f} | {values.min():.3f} | {values.max():.3f} |", flush=True)


if __name__ == "__main__":
    main()
