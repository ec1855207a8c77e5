"""What a study found: `results.json`, and the table of it for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.checkpoint import BEST, LAST, Checkpoint, write_atomically
from server.exchange import Answer
from server.scoring import pool
from shared_models.evaluation.measures import pooled_metrics
from shared_models.messages import NUMBERS
from shared_models.run_config import RunConfig
from shared_models.task import Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

RESULTS = "results.json"
Thresholds = Mapping[str, tuple[float, str]]


def make_results(
    task: Task,
    config: RunConfig,
    best: Checkpoint,
    last: Checkpoint,
    thresholds: Thresholds,
    answers: Sequence[Answer],
    problems: Mapping[str, str],
) -> dict[str, Any]:
    """The study's results as JSON values: per site, pooled, and how they came about."""
    pooled = pool(answers, "test", task)
    return {
        "study": config.study,
        "task": task.name,
        "strategy": config.strategy,
        "rounds_completed": last.round,
        "best_round": best.round,
        "selected_by": "pooled validation" if best.best_value is not None else "last round: no validation patients",
        "targets": {
            name: {
                "threshold": thresholds.get(name, (None, ""))[0],
                "threshold_source": thresholds.get(name, (None, ""))[1],
                "pooled": _rounded(pooled_metrics(pooled[name], thresholds.get(name, (0.5, ""))[0])),
            }
            for name in task.targets
        },
        "sites": [_site(answer, best, task) for answer in answers],
        "problems": dict(problems),
        "validation": [[server_round, _finite(value)] for server_round, value in last.values],
        "rounds": list(last.history),
        "config": config.to_flat(),
        "checkpoints": {"best": BEST, "last": LAST},
    }


def _site(answer: Answer, best: Checkpoint, task: Task) -> dict[str, Any]:
    enrolled = best.enrolled[answer.site]
    facts: dict[str, Any] = {
        "site": answer.site,
        "role": "train" if enrolled["trains"] else "evaluate",
        "patients": {part: int(enrolled[f"patients/{part}"]) for part in ("train", "validation", "test")},
        "modalities": {name: int(enrolled.get(f"modality/{name}", 0)) for name in task.modalities},
        "targets": {},
    }
    if answer.content is not None:
        numbers = answer.content.metric_records[NUMBERS]
        for name in task.targets:
            metrics = {key.partition("/")[2]: value for key, value in numbers.items() if key.startswith(f"{name}/")}
            facts["targets"][name] = _rounded(metrics)
    return facts


def write_results(results: Mapping[str, Any], folder: Path) -> Path:
    """Writes `results.json` into the study's folder."""
    path = folder / RESULTS
    write_atomically(path, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
    return path


def print_results(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a table for each target with a row a site and one for all of them."""
    from rich.console import Console

    console = console or Console()
    for name, target in results["targets"].items():
        console.print(_table(results, name, target))
        if target["threshold_source"]:
            console.print(f"Threshold {target['threshold']:.3f}, from: {target['threshold_source']}.")
    chosen = f"round {results['best_round']} of {results['rounds_completed']}"
    console.print(f"Weights of {chosen}, chosen by: {results['selected_by']}.")
    for site, problem in results["problems"].items():
        console.print(f"[yellow]{site}: {problem}[/yellow]")


def _table(results: Mapping[str, Any], name: str, target: Mapping[str, Any]) -> Table:
    from rich.table import Table

    ranks = "C-index" if "c_index" in target["pooled"] else "AUC"
    cases = "events" if ranks == "C-index" else "positives"
    table = Table(title=f"{results['study']}: {name}, test patients ({results['strategy']})", title_justify="left")
    for heading in ("site", "role"):
        table.add_column(heading)
    for heading in ("patients", cases, f"{ranks} (95 % interval)", "F1", "sensitivity", "specificity"):
        table.add_column(heading, justify="right")
    for site in results["sites"]:
        role = "trains" if site["role"] == "train" else "validates only"
        table.add_row(site["site"], role, *_cells(site["targets"].get(name, {})))
    table.add_section()
    table.add_row("pooled", "", *_cells(target["pooled"]))
    return table


def _cells(metrics: Mapping[str, float | None]) -> list[str]:
    def number(key: str, digits: int) -> str:
        value = metrics.get(key)
        return "-" if value is None else f"{value:.{digits}f}"

    rank = "c_index" if "c_index" in metrics else "auc"
    interval = f" ({number(f'{rank}_low', 2)}-{number(f'{rank}_high', 2)})" if metrics.get(rank) is not None else ""
    cases = number("events" if rank == "c_index" else "positives", 0)
    rates = [number(key, 2) for key in ("f1", "sensitivity", "specificity")]
    return [number("patients", 0), cases, number(rank, 2) + interval, *rates]


def _rounded(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in metrics.items()}


def _finite(value: Any) -> float | None:
    return round(float(value), 6) if isinstance(value, int | float) and math.isfinite(value) else None
