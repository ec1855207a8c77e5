"""Trial of a sweep: one point with one seed, trained and scored on validation patients; never trained twice."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.cohort.load import Cohort
from client.config.site import load_site
from server.study.weights.checkpoint import LAST
from shared_models.atomic_files import write_atomically
from shared_models.errors import UserError
from shared_models.metrics.summary import Summary, selection_score, summarise, target_score, total_summary
from shared_models.study_settings import StudySettings
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import (
    Trained,
    from_checkpoint,
    pool_cohorts,
    score,
    study_cohorts,
    train_centrally,
)
from simulation.engines.in_process import train_in_process
from simulation.splits import Sites, fitted_to, write_site
from simulation.sweeps.plan import Point

Show = Callable[[str, int], None]
RUNS = "runs"


@dataclass(frozen=True)
class Trial:
    """A point with a seed."""

    point: Point
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        trial: The trial.
        value: On validation patients: the mean over targets of what selects rounds; None where undefined or failed.
        targets: The same of each target.
        rounds: How many were trained.
        seconds: It took.
        failure: Why there is none.
        reread: Whether an earlier start of the sweep had trained it.
    """

    trial: Trial
    value: float | None
    targets: Mapping[str, float | None]
    rounds: int
    seconds: float
    failure: str = ""
    reread: bool = False


def run_trial(trial: Trial, name: str, sites: Sites, folder: Path, show: Show) -> Outcome:
    """Trains and scores one trial, unless an earlier start of the sweep did.

    A trial that was stopped in the middle resumes after its last round. The outcome of one that fails has the reason.

    Args:
        trial: The point and the seed.
        name: The sweep's.
        sites: The sites' settings.
        folder: The sweep's.
        show: Told what is being done, and after how many rounds.
    """
    task, config = load_task(trial.point.config), fitted_to(trial.point.config, sites)
    key = _key(trial, config, sites)
    config = config.model_copy(
        update={
            "study": f"{name}-{key}",
            "results_dir": str(folder / RUNS),
            "seed": trial.seed,
            "overwrite": False,
            "resume": (folder / RUNS / f"{name}-{key}" / LAST).exists(),
        }
    )
    own = folder / RUNS / config.study
    stored = own.with_suffix(".json")
    if stored.exists():
        return Outcome(trial, **json.loads(stored.read_text(encoding="utf-8")), reread=True)
    started = time.monotonic()
    try:
        summaries, rounds = _train_and_score(trial, task, config, sites, show)
    except UserError as error:
        return Outcome(trial, None, {}, 0, time.monotonic() - started, failure=_one_line(str(error)))
    values = {target: _number(target_score(summary)) for target, summary in summaries.items()}
    value = _number(selection_score(summaries.values()))
    outcome = Outcome(trial, value, values, rounds, round(time.monotonic() - started, 3))
    facts = {key: getattr(outcome, key) for key in ("value", "targets", "rounds", "seconds")}
    write_atomically(stored, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    _forget_weights(own, config, sites)
    return outcome


def _forget_weights(own: Path, config: StudySettings, sites: Sites) -> None:
    """Deletes the run's checkpoints and what the sites keep of it: weights of many runs would fill a disk."""
    shutil.rmtree(own, ignore_errors=True)
    for file in sites.values():
        for path in load_site(file).state_dir.glob(f"*/{config.study}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _train_and_score(
    trial: Trial, task: Task, config: StudySettings, sites: Sites, show: Show
) -> tuple[dict[str, Summary], int]:
    """Statistics of the validation patients' scores by target, all sites together, and the rounds that were trained."""
    if trial.point.training == "federated":
        sites = _with_own_ledgers(sites, config)
        chosen, rounds = train_in_process(sites, config, show)
        cohorts = study_cohorts(sites, task, config)
        trained = from_checkpoint(chosen, task, config, sites)
        return _scored([(trained, cohort) for cohort in cohorts], task), rounds
    cohorts = study_cohorts(sites, task, config)
    training = [cohort for cohort in cohorts if len(cohort.parts["train"])]
    if trial.point.training == "pooled":
        show("pooled patients", 0)
        pooled = train_centrally(pool_cohorts(training), task, config)
        return _scored([(pooled, cohort) for cohort in cohorts], task), config.rounds
    pairs = []
    for cohort in training:
        show(f"{cohort.site} alone", 0)
        pairs.append((train_centrally(cohort, task, config), cohort))
    return _scored(pairs, task), config.rounds


def _scored(pairs: Sequence[tuple[Trained, Cohort]], task: Task) -> dict[str, Summary]:
    """Exact statistics, each site's patients scored by the network beside it."""
    parts: dict[str, list[Summary]] = {name: [] for name in task.targets}
    for trained, cohort in pairs:
        if len(cohort.parts["validation"]):
            for name, (scores, truth) in score(trained, cohort, task, "validation").items():
                parts[name].append(summarise(task.targets[name], scores, truth))
    return {name: total_summary(summaries) for name, summaries in parts.items() if summaries}


def _with_own_ledgers(sites: Sites, config: StudySettings) -> Sites:
    """The sites with a privacy ledger of this run: each run is what the study would be if no other were."""
    if config.privacy == "none":
        return sites
    folder, changed = Path(config.results_dir).parent / "sites", {}
    for name, file in sites.items():
        site = load_site(file)
        policy = site.policy.model_copy(update={"cohort": config.study}).model_dump(mode="json", exclude_defaults=True)
        place = folder / config.study
        changed[name] = write_site(site, place, policy=policy, state_dir=str(site.state_dir.parent))
    return changed


def _key(trial: Trial, config: StudySettings, sites: Sites) -> str:
    """Names a trial by all that it follows from, so that a sweep that starts again knows what it has."""
    settings: dict[str, Any] = config.model_dump(
        exclude={"study", "results_dir", "resume", "overwrite", "report", "seed"}, mode="json"
    )
    files = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sites.items()}
    parts = [trial.point.training, trial.seed, settings, files, version("breast-federation")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _one_line(text: str) -> str:
    return " ".join(text.split())
