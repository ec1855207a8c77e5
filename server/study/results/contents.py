"""Contents of a study's `results.json`: per site, pooled by role, and how they came about."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Literal

from server.study.exchange import Answer
from server.study.missing_sites import missing_sites
from server.study.results.aggregation_section import aggregation_section
from server.study.results.importance_section import importance_section
from server.study.results.patients_section import Descriptions, PatientFlow, patient_flow, sites_of, total_description
from server.study.results.privacy_section import privacy_section
from server.study.results.rounding import finite, rounded, rounded_numbers
from server.study.results.schema import (
    SCHEMA_VERSION,
    BetweenSites,
    Number,
    Results,
    RoundAttempt,
    SiteResults,
    TargetResults,
)
from server.study.results.site_curves import site_curves
from server.study.results.start_section import start_section
from server.study.results.subgroups_section import own_subgroups, subgroup_results
from server.study.results.survival_section import survival_section
from server.study.scoring import Summaries, unpack
from server.study.selection import scored_by_others
from server.study.weights.checkpoint import BEST, LAST, Checkpoint, now
from shared_models.description import Description
from shared_models.importance import Importance
from shared_models.installation import hardware, software
from shared_models.messages import Arrays, EvaluateTestReply
from shared_models.metrics.heterogeneity import MIN_SITES, random_effects_of_shares
from shared_models.metrics.interval import Interval
from shared_models.metrics.summary import pooled_metrics, score_within_sites, target_score, total_summary
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

Thresholds = Mapping[str, tuple[float, str]]
Role = Literal["internal", "external"]


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
    described: tuple[Descriptions, Descriptions] = ({}, {}),
    by_subgroup: tuple[Arrays, Arrays] = ({}, {}),
    lost: Mapping[Role, Importance] | None = None,
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
        described: Counts of the patients of sites that train, and of those that do not, by site or of sums over sites.
        by_subgroup: Summed statistics by subgroup, of sites that train, and of those that do not.
        lost: What scores lose with a part of the input changed, by role; None where it is not known.
    """
    targets = {}
    own = {name: {a.site: a.reply.metrics.get(name, {}) for a in answers if a.reply} for name in task.targets}
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
            **dict(zip(("internal", "external", "pooled"), map(rounded, by_role), strict=True)),
            classes=list(getattr(target, "classes", ())),
            survival={
                "internal": survival_section(target, internal, threshold),
                "external": survival_section(target, external, threshold),
            },
            subgroups=subgroup_results(by_subgroup, task, config, name, 0.5 if threshold is None else threshold),
            between_sites=between_sites(own[name], {site for site, one in last.enrolled.items() if one.trains}),
            importance={role: importance_section(name, one, task, config) for role, one in (lost or {}).items()},
        )
    return Results(
        **_how_far(task, config, last),
        best_round=best.round,
        selected_by=_selected_by(best, last, task, config) + _ended_early(last, config),
        targets=targets,
        sites=[_site(answer, last, task, config, {**described[0], **described[1]}) for answer in answers],
        flow={
            role: _flow(list(parts.values()), task)
            for role, parts in zip(("internal", "external"), described, strict=True)
        },
        problems=dict(problems),
        missing=missing_sites(config, last, problems),
        start=start_section(task, config, best.start, best.model),
        privacy=privacy_section(config, unverified),
        checkpoints={"best": BEST, "last": LAST},
    )


def unfinished_results(task: Task, config: StudySettings, last: Checkpoint, failure: str) -> Results:
    """What there is of a study that failed before its test: who took part, in which rounds, and why it ended.

    Args:
        task: The study's task.
        config: Its settings.
        last: How far it came.
        failure: Why it ended.
    """
    untested: list[Answer[EvaluateTestReply]] = [Answer(site, None, "") for site in sorted(last.enrolled)]
    return Results(
        **_how_far(task, config, last),
        best_round=last.best_round,
        selected_by="none: the study ended before its test",
        targets={},
        sites=[_site(answer, last, task, config, {}) for answer in untested],
        flow={"internal": None, "external": None},
        problems={},
        missing=missing_sites(config, last, {}) if last.enrolled else {},
        privacy=privacy_section(config),
        checkpoints={},
        failure=failure,
    )


def _how_far(task: Task, config: StudySettings, last: Checkpoint) -> dict[str, Any]:
    """The results of a study as far as it came, tested or not."""
    return {
        "schema_version": SCHEMA_VERSION,
        "package_version": version("breast-federation"),
        "started": last.started,
        "finished": now(),
        "software": software(),
        "hardware": hardware(),
        "study": config.study,
        "task": task.name,
        "strategy": config.strategy,
        "rounds_completed": last.round,
        "not_enrolled": last.not_enrolled,
        "validation": [(server_round, finite(value)) for server_round, value in last.values],
        "rounds": [RoundAttempt(**record) for record in last.history],
        "aggregation": aggregation_section(config, last.history),
        "config": config.to_flat(),
    }


def between_sites(own: Mapping[str, Mapping[str, Number]], trained: Collection[str]) -> dict[str, BetweenSites]:
    """How the AUC or C-index that sites tell of themselves differs between them, by metric.

    Args:
        own: One target's metrics by site, as each tells them.
        trained: The sites that trained the networks they tell of.
    """
    summaries = {}
    for metric in ("auc", "c_index"):
        estimates = {}
        for site, metrics in own.items():
            values = [finite(metrics.get(f"{metric}{end}")) for end in ("", "_low", "_high")]
            if None not in values:
                estimates[site] = Interval(*(value for value in values if value is not None))
        if len(estimates) >= MIN_SITES:
            summary = random_effects_of_shares([*estimates.values()])
            numbers = {name: finite(value) for name, value in asdict(summary).items()}
            summaries[metric] = BetweenSites(
                sites=len(estimates), trained=len(estimates.keys() & {*trained}), **numbers
            )
    return summaries


def _selected_by(best: Checkpoint, last: Checkpoint, task: Task, config: StudySettings) -> str:
    """How the best round was chosen, in words; which targets have pairs within sites, its validation patients say."""
    if best.best_value is None:
        return "last round: no validation patients"
    validation = unpack(best.validation, task, config).values()
    judged = [summary for summary in validation if not math.isnan(target_score(summary))]
    within = [not math.isnan(score_within_sites(summary)) for summary in judged]
    pairs = (
        f", within sites{'' if all(within) else ' where there are pairs, else pooled'}" if any(within) else ", pooled"
    )
    return f"validation patients{pairs}{_not_clearly_better(best, last)}{_other_sites(last, config)}"


def _not_clearly_better(best: Checkpoint, last: Checkpoint) -> str:
    """That the last round was taken though another had a higher value; empty where none had."""
    higher = [value for number, value in last.values if number > 0 and value > (best.best_value or 0.0)]
    if best.round != last.round or not higher:
        return ""
    return "; the last round is taken, which no other exceeds by a quarter of a standard error"


def _other_sites(last: Checkpoint, config: StudySettings) -> str:
    """What became of rounds that other sites scored than the best one; empty where there are none."""
    if not (others := scored_by_others(last)):
        return ""
    rounds = f"{len(others)} of {sum(number > 0 for number in last.scored_by)} scored rounds had other sites"
    if uses_secure_aggregation(config):
        return f"; {rounds}, and only those of the same were compared"
    return f"; {rounds}, and were compared at the sites in common"


def _ended_early(last: Checkpoint, config: StudySettings) -> str:
    """That `patience` ran out, for whoever wonders about the missing rounds."""
    if not config.patience or last.round >= config.rounds:
        return ""
    since = f"of which the last {config.patience} scored no better"
    return f"; training ended early, after {last.round} of {config.rounds} rounds, {since}"


def _flow(parts: Sequence[Description], task: Task) -> PatientFlow | None:
    return patient_flow(total_description(parts, task), task, sum(map(sites_of, parts))) if parts else None


def _site(
    answer: Answer[EvaluateTestReply], last: Checkpoint, task: Task, config: StudySettings, described: Descriptions
) -> SiteResults:
    enrolled = last.enrolled[answer.site]
    counted_as = (
        bool if uses_secure_aggregation(config) else int
    )  # in a secure study a site says only whether it has a modality
    targets: dict[str, dict[str, Number]] = {}
    provenance = answer.reply.provenance if answer.reply else {}
    over_folds: dict[str, dict[str, Number]] = {}
    personal: dict[str, dict[str, Number]] = {}
    if answer.reply is not None:
        targets = {name: rounded_numbers(answer.reply.metrics.get(name, {})) for name in task.targets}
        personal = {name: rounded_numbers(own) for name, own in answer.reply.personal.items() if name in task.targets}
        over_folds = {
            name: rounded_numbers(own) for name, own in answer.reply.out_of_fold.items() if name in task.targets
        }
    return SiteResults(
        site=answer.site,
        role="train" if enrolled.trains else "evaluate",
        patients=dict(enrolled.patients),
        modalities={name: counted_as(enrolled.modalities[name]) for name in task.modalities},
        excluded=enrolled.excluded,
        since_round=enrolled.since_round,
        endpoints=enrolled.endpoints,
        differences=enrolled.differences,
        flow=_flow([described[answer.site]], task) if answer.site in described else None,
        **{name: provenance.get(name, "") for name in ("fingerprint", "software", "hardware")},
        targets=targets,
        personal=personal,
        out_of_fold=over_folds,
        curves=site_curves(answer.reply, task, config),
        subgroups=[one for name in task.targets for one in own_subgroups(answer.reply, task, name)]
        if answer.reply
        else [],
        scorings=answer.reply.scorings if answer.reply else 0,
    )
