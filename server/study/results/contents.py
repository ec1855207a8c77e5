"""Contents of a study's `results.json`: per site, pooled by role, and how they came about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from server.study.exchange import Answer
from server.study.missing_sites import missing_sites
from server.study.results.aggregation_section import aggregation_section
from server.study.results.patients_section import Descriptions, PatientFlow, patient_flow, sites_of, total_description
from server.study.results.privacy_section import privacy_section
from server.study.results.rounding import finite, rounded_numbers
from server.study.results.rounds_section import RoundAttempt
from server.study.results.schema import SCHEMA_VERSION, Results
from server.study.results.site_curves import site_curves
from server.study.results.sites_section import SiteResults
from server.study.results.start_section import start_section
from server.study.results.subgroups_section import own_subgroups
from server.study.results.target_results import Role, TestStatistics, Thresholds, target_results
from server.study.scoring import Summaries, unpack
from server.study.selection import scored_by_others
from server.study.unscored import unscored
from server.study.weights.checkpoint import BEST, LAST, Checkpoint, now
from shared_models.description import Description
from shared_models.importance import Importance
from shared_models.installation import hardware, software
from shared_models.messages import Arrays, EvaluateTestReply
from shared_models.metrics.arrays import Number
from shared_models.metrics.summary import score_within_sites, target_score
from shared_models.pooled_scores import risk_cutoffs
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task


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
    trained = {site for site, one in last.enrolled.items() if one.trains}
    own = {name: {a.site: a.reply.metrics.get(name, {}) for a in answers if a.reply} for name in task.targets}
    cutoffs = risk_cutoffs(unpack(best.validation, task, config))
    test = TestStatistics(thresholds, cutoffs, tested, by_subgroup, lost or {})
    targets = {name: target_results(name, task, config, test, own[name], trained) for name in task.targets}
    return Results(
        **_how_far(task, config, last),
        best_round=best.round,
        selected_by=_selected_by(best, last, task, config) + _ended_early(last, config),
        unscored=unscored(last, config),
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


def _selected_by(best: Checkpoint, last: Checkpoint, task: Task, config: StudySettings) -> str:
    """How the best round was chosen, in words; which targets have pairs within sites, its validation patients say."""
    if best.best_value is None:
        return "last round: none was judged on validation patients"
    validation = unpack(best.validation, task, config).values()
    judged = [summary for summary in validation if not math.isnan(target_score(summary))]
    within = [not math.isnan(score_within_sites(summary)) for summary in judged]
    pairs = (
        f", within sites{'' if all(within) else ' where there are pairs, else pooled'}" if any(within) else ", pooled"
    )
    return f"validation patients{pairs}{_not_clearly_better(best, last, config)}{_other_sites(last, config)}"


def _not_clearly_better(best: Checkpoint, last: Checkpoint, config: StudySettings) -> str:
    """That the last round was taken though another had a higher value; empty where none had."""
    higher = [value for number, value in last.values if number > 0 and value > (best.best_value or 0.0)]
    if best.round != last.round or not higher:
        return ""
    rounding = "" if uses_secure_aggregation(config) else " and by more than the sites' rounding may make"
    return f"; the last round is taken, which no other exceeds by a quarter of a standard error{rounding}"


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
