"""Results of a study: `results.json`, its schema, and how it is made, written and read.

`docs/results.md` and `docs/results.schema.json` are generated from the models here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.errors import ExitCode
from server.study.aggregation_section import AggregationSection, aggregation_section
from server.study.checkpoint import BEST, LAST, Checkpoint
from server.study.exchange import Answer, StudyError
from server.study.privacy_section import PrivacySection, privacy_section
from server.study.scoring import Summaries, unpack
from shared_models.atomic_files import write_atomically
from shared_models.messages import EvaluateTestReply
from shared_models.metrics.heterogeneity import MIN_SITES, random_effects_of_shares
from shared_models.metrics.interval import Interval
from shared_models.metrics.summary import pooled_metrics, score_within_sites, target_score, total_summary
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

RESULTS = "results.json"
SCHEMA_VERSION = 2
Thresholds = Mapping[str, tuple[float, str]]
Number = float | None
Metric = Number | list[Number]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BetweenSites(_Section):
    """Random-effects summary of the sites' own values of a metric (REML, Hartung-Knapp), on the logit scale."""

    sites: int = Field(description="sites that tell their value and its interval")
    trained: int = Field(description="how many of them trained the network")
    mean: Number = Field(description="mean over sites")
    mean_low: Number = Field(description="lower bound of its 95 % interval")
    mean_high: Number = Field(description="upper bound")
    tau2: Number = Field(description="variance between sites, on the logit scale")
    i2: Number = Field(description="share of the sites' variance that is not chance")
    prediction_low: Number = Field(
        description="lower bound of the 95 % prediction interval of a new hospital's value; null below five sites"
    )
    prediction_high: Number = Field(description="upper bound")


class TargetResults(_Section):
    """One target's results over all sites."""

    threshold: Number = Field(description="decision threshold of a binary target; null for other targets")
    threshold_source: str = Field(description="where it comes from")
    horizon_days: Number = Field(description="horizon of a time-to-event target; null for other targets")
    internal: dict[str, Metric] = Field(
        description="metrics of the test patients of all sites that train, from summed statistics: see below; null "
        "where undefined"
    )
    external: dict[str, Metric] = Field(
        description="the same of the sites that do not train; with secure aggregation null where too few do not"
    )
    pooled: dict[str, Metric] = Field(
        description="the same of all of them together, which mixes patients of known and of new sites"
    )
    between_sites: dict[str, BetweenSites] = Field(
        description="how a metric differs between sites, by its name; empty where fewer than three sites tell theirs"
    )


class SiteResults(_Section):
    """One site's patients, and its own metrics."""

    site: str = Field(description="the name under which the center registered it")
    role: Literal["train", "evaluate"] = Field(description="whether it trained, or was only scored")
    patients: dict[str, int] = Field(description="patients by part of the split: train, validation, test")
    modalities: dict[str, bool | int] = Field(
        description="training patients by modality; with secure aggregation only whether there are any"
    )
    excluded: int = Field(description="patients with files that cannot be used")
    targets: dict[str, dict[str, Number]] = Field(
        description="metrics of its test patients by target, computed and rounded there; null where undefined, or of "
        "fewer patients than the site lets out"
    )


class UpdateInfluence(_Section):
    """How one site's update stood to the others of its round."""

    norm: float = Field(description="L2 norm of the change it made to the model, as it came")
    cosine: Number = Field(
        description="between that change and the mean of the others' after clipping; null where one is 0"
    )
    clipped: bool = Field(description="whether its norm was scaled down to the bound")


class RoundAttempt(_Section):
    """One attempt of a round of training."""

    round: int = Field(description="the round, from 1")
    attempt: int = Field(description="which attempt of it, from 1")
    asked: list[str] = Field(description="sites that were asked to train")
    counted: list[str] = Field(description="sites whose updates counted")
    problems: dict[str, str] = Field(description="why others did not count, by site")
    updates: dict[str, UpdateInfluence] = Field(
        description="each update's influence, by site; empty with secure aggregation, where no single update is seen"
    )
    seconds: float = Field(description="how long the attempt took")


class Results(_Section):
    """What `results.json` holds."""

    schema_version: Literal[2] = Field(description="of this file; another one is refused")
    package_version: str = Field(description="of the program that wrote it")
    study: str = Field(description="the study's name")
    task: str = Field(description="the task's name")
    strategy: str = Field(description="the aggregation rule's name")
    rounds_completed: int = Field(description="rounds that counted")
    best_round: int = Field(description="the round whose weights were tested")
    selected_by: str = Field(description="how that round was chosen")
    targets: dict[str, TargetResults] = Field(description="results over all sites, by target")
    sites: list[SiteResults] = Field(description="results of each site that was enrolled")
    not_enrolled: dict[str, str] = Field(description="why sites that were named or there did not take part, by site")
    problems: dict[str, str] = Field(description="why sites gave no test scores, by site")
    validation: list[tuple[int, Number]] = Field(
        description="round and validation value of its weights: mean over targets of AUC and C-index within sites "
        "(pooled where no site has pairs), macro F1, R2"
    )
    rounds: list[RoundAttempt] = Field(description="each attempt of a round")
    aggregation: AggregationSection = Field(description="how updates became one model, and who was held back")
    privacy: PrivacySection = Field(description="what was protected, how, and what was not")
    config: dict[str, bool | int | float | str] = Field(description="all settings of the study")
    checkpoints: dict[str, str] = Field(description="files beside this one: the best and the last weights")


def make_results(
    task: Task,
    config: StudySettings,
    best: Checkpoint,
    last: Checkpoint,
    thresholds: Thresholds,
    answers: Sequence[Answer[EvaluateTestReply]],
    tested: tuple[Summaries, Summaries],
    problems: Mapping[str, str],
    unverified: Sequence[str] = (),
) -> Results:
    """The study's results: per site, pooled by role, and how they came about.

    Args:
        task: The study's task.
        config: Its settings.
        best: The weights that were tested.
        last: Those of the last round.
        thresholds: Each target's, and where it comes from.
        answers: Each site's own answer.
        tested: Summed statistics of the sites that train, and of those that do not.
        problems: Why sites gave no test scores.
        unverified: Sites that took others' public keys from the center.
    """
    targets = {}
    for name, target in task.targets.items():
        threshold, source = thresholds.get(name, (None, ""))
        internal, external = (summaries[name] for summaries in tested)
        together = total_summary([internal, external])
        by_role = (
            pooled_metrics(one, 0.5 if threshold is None else threshold) for one in (internal, external, together)
        )
        targets[name] = TargetResults(
            threshold=threshold,
            threshold_source=source,
            horizon_days=getattr(target, "horizon_days", None),
            **dict(zip(("internal", "external", "pooled"), map(_rounded, by_role), strict=True)),
            between_sites=between_sites(name, answers, best),
        )
    return Results(
        schema_version=SCHEMA_VERSION,
        package_version=version("breast-federation"),
        study=config.study,
        task=task.name,
        strategy=config.strategy,
        rounds_completed=last.round,
        best_round=best.round,
        selected_by=_selected_by(best, task, config),
        targets=targets,
        sites=[_site(answer, best, task, config) for answer in answers],
        not_enrolled=best.not_enrolled,
        problems=dict(problems),
        validation=[(server_round, _finite(value)) for server_round, value in last.values],
        rounds=[RoundAttempt(**record) for record in last.history],
        aggregation=aggregation_section(config, last.history),
        privacy=privacy_section(config, unverified),
        config=config.to_flat(),
        checkpoints={"best": BEST, "last": LAST},
    )


def between_sites(
    target: str, answers: Sequence[Answer[EvaluateTestReply]], best: Checkpoint
) -> dict[str, BetweenSites]:
    """How the AUC or C-index that sites tell of themselves differs between them, by metric."""
    found = {}
    for metric in ("auc", "c_index"):
        own = {a.site: a.reply.metrics.get(target, {}) for a in answers if a.reply}
        told = {site: [m.get(f"{metric}{end}", math.nan) for end in ("", "_low", "_high")] for site, m in own.items()}
        told = {site: values for site, values in told.items() if not any(map(math.isnan, values))}
        if len(told) >= MIN_SITES:
            trained = sum(best.enrolled[site].trains for site in told)
            summary = random_effects_of_shares([Interval(*values) for values in told.values()])
            numbers = {name: _finite(value) for name, value in asdict(summary).items()}
            found[metric] = BetweenSites(sites=len(told), trained=trained, **numbers)
    return found


def _selected_by(best: Checkpoint, task: Task, config: StudySettings) -> str:
    """How the best round was chosen, in words; which targets have pairs within sites, its validation patients say."""
    if best.best_value is None:
        return "last round: no validation patients"
    validation = unpack(best.validation, task, config).values()
    judged = [summary for summary in validation if not math.isnan(target_score(summary))]
    within = [not math.isnan(score_within_sites(summary)) for summary in judged]
    if not any(within):
        return "validation patients, pooled"
    return "validation patients, within sites" + ("" if all(within) else " where there are pairs, else pooled")


def _site(answer: Answer[EvaluateTestReply], best: Checkpoint, task: Task, config: StudySettings) -> SiteResults:
    enrolled = best.enrolled[answer.site]
    said = (
        bool if uses_secure_aggregation(config) else int
    )  # in a secure study a site says only whether it has a modality
    targets: dict[str, dict[str, Number]] = {}
    if answer.reply is not None:
        metrics = {name: answer.reply.metrics.get(name, {}) for name in task.targets}
        targets = {name: {key: _finite(value) for key, value in own.items()} for name, own in metrics.items()}
    return SiteResults(
        site=answer.site,
        role="train" if enrolled.trains else "evaluate",
        patients=dict(enrolled.patients),
        modalities={name: said(enrolled.modalities[name]) for name in task.modalities},
        excluded=enrolled.excluded,
        targets=targets,
    )


def write_results(results: Results, folder: Path) -> Path:
    """Writes `results.json` into the study's folder."""
    path = folder / RESULTS
    write_atomically(path, results.model_dump_json(indent=1) + "\n")
    return path


def read_results(path: Path) -> Results:
    """Reads what `write_results` wrote.

    Raises:
        StudyError: If it is damaged, or of another schema version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found.get("schema_version", "none") if isinstance(found, dict) else "none"
        if schema == SCHEMA_VERSION:
            return Results.model_validate(found)
    except ValueError as error:  # not text, not JSON, or not as the schema says
        reason = str(error).splitlines()[0]
        msg = f"{path}: the results are damaged ({reason}). Restore them, or move them away and run the study again."
        raise StudyError(msg, exit_code=ExitCode.FILE) from None
    msg = (
        f"{path}: results of schema version {schema}, and this release reads version {SCHEMA_VERSION} only. Read them "
        "with the release that wrote them, or run the study under another `study` name; nothing was changed."
    )
    raise StudyError(msg, exit_code=ExitCode.FILE)


def require_own_results(folder: Path) -> None:
    """Refuses a folder whose results this release cannot read, so that it does not overwrite them.

    Raises:
        StudyError: If so.
    """
    if (folder / RESULTS).exists():
        read_results(folder / RESULTS)


def _rounded(metrics: Mapping[str, float | list[float]]) -> dict[str, Metric]:
    return {
        name: [_finite(point) for point in value] if isinstance(value, list) else _finite(value)
        for name, value in metrics.items()
    }


def _finite(value: Any) -> Number:
    return round(float(value), 6) if isinstance(value, int | float) and math.isfinite(value) else None
