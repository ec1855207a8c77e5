"""Policy checks at a site: every message and study checked against the `policy` of its YAML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import ExitCode, SiteError
from shared_models.folds import trainings
from shared_models.secure_aggregation.choice import uses_secure_aggregation

if TYPE_CHECKING:
    from client.config.policy import Policy
    from client.config.site import SiteConfig
    from shared_models.study_settings import StudySettings
    from shared_models.task import Task


def ledger_of(site: SiteConfig) -> Path:
    """The privacy ledger of a site's cohort, beside the folders of the sites."""
    return site.state_dir.parent / "ledger" / f"{site.policy.cohort or site.site}.jsonl"


def check_policy(site: SiteConfig, config: StudySettings, task: Task) -> None:
    """Refuses a study that asks for more than the site allows.

    Raises:
        SiteError: With everything that is not allowed.
    """
    if refused := refusals(site.policy, config, task):
        raise SiteError(
            what="the study asks for more than this site allows",
            where=f"policy, study {config.study}",
            found="; ".join(refused),
            expected="what `policy` in the site's YAML allows",
            fix="nothing: the study continues without this site; only the hospital may change its policy",
            public="the site's own policy does not allow this study",
            exit_code=ExitCode.STUDY,
        )


def refusals(policy: Policy, config: StudySettings, task: Task) -> list[str]:
    """Everything that a study asks for and the policy does not allow, a sentence each."""
    return list(_refused(policy, config, task))


def _refused(policy: Policy, config: StudySettings, task: Task) -> Iterator[str]:
    if policy.tasks and task.name not in policy.tasks:
        yield f"task {task.name}, allowed: {', '.join(policy.tasks)}"
    if policy.modalities and (others := [name for name in task.modalities if name not in policy.modalities]):
        yield f"modalities {', '.join(others)}, allowed: {', '.join(policy.modalities)}"
    for name, table in task.tables.items() if policy.features else ():
        allowed = policy.features.get(name)
        asked = [feature.name for feature in table.features]
        if allowed is None:
            yield f"features of {name}, and policy.features allows none of that table"
        elif allowed and (others := [feature for feature in asked if feature not in allowed]):
            yield f"features of {name}: {', '.join(others)}, allowed: {', '.join(allowed)}"
    if (rounds := config.rounds * trainings(config)) > policy.maximum_rounds:
        folds = f" in {trainings(config)} folds" if trainings(config) > 1 else ""
        yield f"{rounds} rounds{folds}, at most {policy.maximum_rounds}"
    if policy.differential_privacy == "required" and config.privacy == "none" and not config.trains_nothing:
        yield "training without noise, and it is required"
    if policy.secure_aggregation == "required" and not uses_secure_aggregation(config):
        yield "weights and statistics outside secure aggregation"
    if policy.secure_aggregation == "required" and config.leave_out == "each" and not config.trains_nothing:
        yield "leave-out = each: the sums of the folds with a hospital and without it show its own part"
    given = config.privacy == "patient" and not config.target_epsilon
    if given and config.noise_multiplier < policy.minimum_noise:
        yield f"a noise multiplier of {config.noise_multiplier:g}, at least {policy.minimum_noise:g}"
