"""Ablated studies beside a study: each modality alone, each target alone, and without each of its sites."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from client.cohort.load import load_cohort
from client.config.site import load_site
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.errors import UserError
from shared_models.folds import each_fold
from shared_models.study_settings import StudySettings
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import from_checkpoint
from simulation.baselines.scores import Model, scored, splits_of

log = logging.getLogger("simulation")
Run = Callable[[dict[str, Path], StudySettings], object]


def ablations(task: Task, config: StudySettings) -> Iterator[tuple[str, str, StudySettings]]:
    """The study with each modality alone, and with each target alone where it has several."""
    place = {"results_dir": str(Path(config.results_dir) / config.study / "ablations"), "resume": False}
    plain = config.model_copy(update={**place, "overwrite": True, "importance": "off"})
    for name in task.modalities if len(task.modalities) > 1 else ():
        changes = {"modalities": name, "features": _of(config.features, name), "grids": _of(config.grids, name)}
        harmonised_tables = [table for table in config.harmonised_tables if table == name]
        changes |= {"harmonised": ", ".join(harmonised_tables), "study": f"{name}-alone"}
        changes |= {} if harmonised_tables else {"harmonisation": "none"}
        yield "modalities", f"federated, {name} alone", plain.model_copy(update=changes)
    for name in task.targets if len(task.targets) > 1 else ():
        yield (
            "targets",
            f"federated, {name} alone",
            plain.model_copy(update={"targets": name, "study": f"{name}-alone"}),
        )


def without_each_site(config: StudySettings) -> Iterator[tuple[str, str, StudySettings]]:
    """The study without each of its sites in turn, which is then tested as a new hospital: what each contributes."""
    training = [site for site in config.expected_sites if site not in config.never_train]
    left = max(len(training) - (2 if config.leave_out == "each" else 1), 1)  # of whom a fold leaves out one more
    for site in training:
        changes = {
            "results_dir": str(Path(config.results_dir) / config.study / "ablations"),
            "study": f"without-{site}",
            "evaluation_only_sites": ", ".join([*config.never_train, site]),
            "min_sites": min(config.min_sites, left),
            "resume": False,
            "overwrite": True,
            "importance": "off",
        }
        yield "sites", f"federated, without {site}", config.model_copy(update=changes)


def _of(lines: str, modality: str) -> str:
    """The lines of a setting by modality, `modality: ...`, that are of one."""
    each = (line.strip() for line in re.split(r"[;\n]", lines))
    return "; ".join(line for line in each if line.partition(":")[0].strip() == modality)


def run_ablation(sites: dict[str, Path], name: str, config: StudySettings, run: Run) -> Model | None:
    """An ablated network, trained as the study is; None, with the reason, where it cannot be."""
    task = load_task(config)
    there = {site: file for site, file in sites.items() if _has_patients(file, task, config, name)}
    named = [site for site in config.expected_sites if site in there]
    outside = [site for site in config.never_train if site in there]
    config = config.model_copy(update={"sites": ", ".join(named), "evaluation_only_sites": ", ".join(outside)})
    try:
        run(there, config)
        made = {}
        for split in splits_of(there, task, config):
            best = load_checkpoint(Path(config.results_dir) / split.config.study / BEST)
            trained = from_checkpoint(best, task, split.config, there)
            made[split.label] = scored(name, trained, split, task)
        return made
    except UserError as error:
        log.warning("%s is not compared: %s", name, error.public)
        return None


def _has_patients(file: Path, task: Task, config: StudySettings, name: str) -> bool:
    """Whether a site has patients of an ablated study: some record none of its modality."""
    try:
        load_cohort(load_site(file), task, each_fold(config)[0])
    except UserError as error:
        log.warning("%s: %s takes no part: %s", name, file.stem, error.public)
        return False
    return True
