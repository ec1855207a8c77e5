"""Parameters and milliseconds per training step of every task's network, on CPU and GPU.

    python benchmarks/networks.py
    python benchmarks/networks.py --threads 2 --batch 8

A step is forward, backward and AdamW on a batch, at the task's own voxels and at those of its synthetic study. Times
are the median of several steps; the machine should do nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Grid

from client.training.loop import make_optimizer, mixed_precision
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Table, Task, load_task, task_names

STUDIES = Path(__file__).parents[1] / "studies"
FUSIONS = ("task", "concatenation", "late")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="patients a step")
    parser.add_argument("--steps", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    grid = Grid(title=f"batch {options.batch}, {options.threads} threads, median of {options.steps} steps")
    for head in ("task", "fusion", "parameters", *(f"ms a step, {v}, {d}" for d in devices for v in ("full", "study"))):
        grid.add_column(head, justify="left" if head in ("task", "fusion") else "right")
    for name in task_names():
        for fusion in FUSIONS:
            full = StudySettings(task=name, fusion=fusion)
            studies = (full, study_of(name, fusion))
            task = load_task(full)
            weights = sum(p.numel() for p in task.build_model(task, full).parameters())
            times = [step_ms(config, device, options) for device in devices for config in studies]
            grid.add_row(name, fusion, f"{weights:,}", *(f"{ms:.1f}" for ms in times))
    Console().print(grid)


def study_of(name: str, fusion: str) -> StudySettings:
    """The run config of the task's synthetic study, or the task as it is."""
    path = STUDIES / f"synthetic_{name}.toml"
    settings: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {"task": name}
    return parse_study_settings({**settings, "fusion": fusion})


def step_ms(config: StudySettings, device: str, options: argparse.Namespace) -> float:
    """The median time of a step."""
    task = load_task(config)
    model = task.build_model(task, config).to(device).train()
    optimizer = make_optimizer(model.parameters(), config)
    inputs, present, truths = batch_of(task, options.batch, device)
    times = []
    for _ in range(options.steps + 2):
        started = time.perf_counter()
        optimizer.zero_grad()
        with mixed_precision(torch.device(device)):
            loss = task.loss(model(inputs, present), truths).mean()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[2:])


def batch_of(task: Task, patients: int, device: str) -> tuple[Any, torch.Tensor, Any]:
    """Random inputs, all present, and truths."""
    inputs = {}
    for name, kind in task.modalities.items():
        shape = (kind.width,) if isinstance(kind, Table) else kind.shape
        inputs[name] = torch.randn(patients, *shape, device=device)
    truths = {}
    for name, target in task.targets.items():
        days = torch.rand(patients, 2, device=device).round() * 400
        truths[name] = days if type(target).__name__ == "TimeToEvent" else (days[:, 0] > 0).float()
    return inputs, torch.ones(patients, len(task.modalities), device=device), truths


if __name__ == "__main__":
    main()
