"""What a hospital allows, whatever a center asks: its own words in its own YAML, checked here for every message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from client.errors import ExitCode, SiteError
from client.privacy.ledger import Accountant, Limit
from shared_models.settings import Settings

if TYPE_CHECKING:
    from client.site import SiteConfig
    from shared_models.run_config import RunConfig
    from shared_models.task import Task


class Policy(Settings):
    """`policy` in a site's YAML. The center never sees it and cannot weaken it."""

    tasks: tuple[str, ...] = Field((), description="tasks that may run here; empty: all that are installed")
    modalities: tuple[str, ...] = Field((), description="modalities that may be used; empty: all that are mapped")
    features: dict[str, tuple[str, ...]] = Field(
        {}, description="of each table the features that may be used, [] for all; a table left out gives none; {}: all"
    )
    approval: Literal["optional", "required"] = Field(
        "required", description="required: a center's study waits until this site has approved its very settings"
    )
    maximum_rounds: int = Field(1000, ge=1, description="longest study, in rounds")
    minimum_count: int = Field(
        10, ge=5, description="fewest patients of each class for which a metric of this site leaves it"
    )
    differential_privacy: Literal["optional", "required"] = Field(
        "optional", description="required: nothing is trained here without noise"
    )
    secure_aggregation: Literal["optional", "required"] = Field(
        "optional", description="required: weights and statistics leave only inside a sum over three sites or more"
    )
    partners: dict[str, Path] = Field(
        {}, description="name and public key file of the other hospitals; with it, a sum has no other members"
    )
    minimum_noise: float = Field(0.5, gt=0, description="least noise multiplier of private training")
    epsilon_ceiling: float = Field(8.0, gt=0, description="most that the cohort ever spends, over all studies")
    delta: float = Field(1e-4, gt=0, lt=0.5, description="chance that epsilon does not hold; below 1 / patients")
    accountant: Accountant = Field("prv", description="how epsilon is computed: prv is tighter, rdp the classic")
    cohort: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="names the ledger; sites of the same patients share one"
    )

    def __hash__(self) -> int:
        """Of all of it; pydantic's own hash takes no dictionaries."""
        return hash(self.model_dump_json())

    @property
    def limit(self) -> Limit:
        """The ceiling that the ledger keeps."""
        return Limit(self.epsilon_ceiling, self.delta, self.accountant)


def ledger_of(site: SiteConfig) -> Path:
    """The privacy ledger of a site's cohort, beside the folders of the sites."""
    return site.state_dir.parent / "ledger" / f"{site.policy.cohort or site.site}.jsonl"


def check_policy(site: SiteConfig, config: RunConfig, task: Task) -> None:
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
            fix="nothing: the study goes on without this site; only the hospital may change its policy",
            public="the site's own policy does not allow this study",
            exit_code=ExitCode.STUDY,
        )


def refusals(policy: Policy, config: RunConfig, task: Task) -> list[str]:
    """Everything that a study asks for and the policy does not allow, a sentence each."""
    return list(_refused(policy, config, task))


def _refused(policy: Policy, config: RunConfig, task: Task) -> Iterator[str]:
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
    if config.rounds > policy.maximum_rounds:
        yield f"{config.rounds} rounds, at most {policy.maximum_rounds}"
    if policy.differential_privacy == "required" and config.privacy == "none":
        yield "training without noise, and it is required"
    if policy.secure_aggregation == "required" and not config.secure_aggregation:
        yield "weights and statistics outside a secure sum"
    given = config.privacy == "patient" and not config.target_epsilon
    if given and config.noise_multiplier < policy.minimum_noise:
        yield f"a noise multiplier of {config.noise_multiplier:g}, at least {policy.minimum_noise:g}"
