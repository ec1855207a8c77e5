"""What a study found: `results.json`, and the table of it for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.study.checkpoint import BEST, LAST, Checkpoint
from server.study.exchange import Answer
from server.study.privacy_section import privacy_section
from server.study.scoring import Summaries
from shared_models.atomic_files import write_atomically
from shared_models.messages import EvaluateTestReply
from shared_models.metrics.summary import pooled_metrics
from shared_models.study_settings import StudySettings
from shared_models.task import Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

RESULTS = "results.json"
Thresholds = Mapping[str, tuple[float, str]]


def make_results(
    task: Task,
    config: StudySettings,
    best: Checkpoint,
    last: Checkpoint,
    thresholds: Thresholds,
    answers: Sequence[Answer[EvaluateTestReply]],
    pooled: Summaries,
    problems: Mapping[str, str],
    unverified: Sequence[str] = (),
) -> dict[str, Any]:
    """The study's results as JSON values: per site, pooled, and how they came about."""
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
        "sites": [_site(answer, best, task, config) for answer in answers],
        "left_out": dict(best.not_enrolled),
        "problems": dict(problems),
        "validation": [[server_round, _finite(value)] for server_round, value in last.values],
        "rounds": list(last.history),
        "privacy": privacy_section(config, unverified),
        "config": config.to_flat(),
        "checkpoints": {"best": BEST, "last": LAST},
    }


def _site(answer: Answer[EvaluateTestReply], best: Checkpoint, task: Task, config: StudySettings) -> dict[str, Any]:
    enrolled = best.enrolled[answer.site]
    said = bool if config.secure_aggregation else int  # in a secure study a site says only whether it has a modality
    facts: dict[str, Any] = {
        "site": answer.site,
        "role": "train" if enrolled.trains else "evaluate",
        "patients": dict(enrolled.patients),
        "modalities": {name: said(enrolled.modalities[name]) for name in task.modalities},
        "excluded": enrolled.excluded,
        "targets": {},
    }
    if answer.reply is not None:
        facts["targets"] = {name: _rounded(answer.reply.metrics.get(name, {})) for name in task.targets}
    return facts


def write_results(results: Mapping[str, Any], folder: Path) -> Path:
    """Writes `results.json` into the study's folder."""
    path = folder / RESULTS
    write_atomically(path, json.dumps(results, indent=1, allow_nan=False) + "\n")
    return path


def print_results(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a table for each target with a row a site and one for all of them."""
    from rich.console import Console

    console = console or Console()
    for name, target in results["targets"].items():
        console.print(_table(results, name, target))
        if target["threshold_source"]:
            console.print(f"Threshold {target['threshold']:.3f}, from: {target['threshold_source']}.")
        if any(value is None for site in results["sites"] for value in site["targets"].get(name, {}).values()):
            console.print("-  not defined, or of fewer patients of a class than the site lets out (`minimum_count`).")
    chosen = f"round {results['best_round']} of {results['rounds_completed']}"
    console.print(f"Weights of {chosen}, chosen by: {results['selected_by']}.")
    if "privacy" in results:  # not in results of earlier versions
        console.print(results["privacy"]["said"], highlight=False, markup=False)
    for site in results["sites"]:
        if count := site.get("excluded"):
            said = f"{site['site']}: {count} patients with files that cannot be used were excluded there."
            console.print(said, style="yellow", markup=False)
    for site, problem in {**results.get("left_out", {}), **results["problems"]}.items():
        console.print(f"{site}: {problem}", style="yellow", markup=False)


# What is told of each kind of target, by the metric that only it has: heading, metric and digits.
_INTERVAL = "(95 % interval)"
_SHOWN: Mapping[str, Sequence[tuple[str, str, int]]] = {
    "auc": (
        ("patients", "patients", 0),
        ("cases", "positives", 0),
        (f"AUC {_INTERVAL}", "auc", 2),
        ("F1", "f1", 2),
        ("sens.", "sensitivity", 2),
        ("spec.", "specificity", 2),
    ),
    "c_index": (("patients", "patients", 0), ("events", "events", 0), (f"C-index {_INTERVAL}", "c_index", 2)),
    "macro_f1": (("patients", "patients", 0), ("accuracy", "accuracy", 2), ("macro F1", "macro_f1", 2)),
    "mae": (("patients", "patients", 0), ("MAE", "mae", 2), ("RMSE", "rmse", 2), ("R2", "r2", 2)),
}


def _table(results: Mapping[str, Any], name: str, target: Mapping[str, Any]) -> Table:
    """A row a site, 80 columns wide at most: a long name breaks, a number never."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{results['study']}: {name}, test patients ({results['strategy']})"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = next(columns for metric, columns in _SHOWN.items() if metric in target["pooled"])
    outside = any(site["role"] != "train" for site in results["sites"])
    table.add_column("site", overflow="fold")
    if outside:
        table.add_column("role", no_wrap=True)
    for heading, _, _ in shown:
        # an interval's heading may take two lines, its numbers may not
        table.add_column(heading.replace(" (", "\n("), justify="right", no_wrap=True)
    for site in results["sites"]:
        role = ["trains" if site["role"] == "train" else "tests"] if outside else []
        numbers = [_cell(site["targets"].get(name, {}), metric, digits) for _, metric, digits in shown]
        table.add_row(Text(site["site"]), *role, *numbers)
    table.add_section()
    table.add_row("pooled", *([""] if outside else []), *(_cell(target["pooled"], m, digits) for _, m, digits in shown))
    return table


def _cell(metrics: Mapping[str, float | None], name: str, digits: int) -> str:
    value, low, high = (metrics.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "-"
    interval = "" if low is None or high is None else f" ({low:.{digits}f}-{high:.{digits}f})"
    return f"{value:.{digits}f}{interval}"


def _rounded(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in metrics.items()}


def _finite(value: Any) -> float | None:
    return round(float(value), 6) if isinstance(value, int | float) and math.isfinite(value) else None
