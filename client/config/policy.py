"""Schema of a site's privacy policy: `policy` in its YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from shared_models.settings import Settings

Accountant = Literal["prv", "rdp"]


@dataclass(frozen=True)
class Limit:
    """What the site allows.

    Attributes:
        epsilon: The ceiling.
        delta: The chance that epsilon does not hold.
        accountant: How epsilon is computed.
    """

    epsilon: float
    delta: float
    accountant: Accountant = "prv"


class Policy(Settings):
    """`policy` in a site's YAML. The center never sees it and cannot weaken it."""

    tasks: tuple[str, ...] = Field((), description="tasks that may run here; empty: all that are installed")
    modalities: tuple[str, ...] = Field((), description="modalities that may be used; empty: all that are mapped")
    features: dict[str, tuple[str, ...]] = Field(
        {}, description="of each table the features that may be used, [] for all; a table left out gives none; {}: all"
    )
    approval: Literal["optional", "required"] = Field(
        "required", description="required: a center's study waits until this site has approved its exact settings"
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
    delta: float = Field(1e-4, gt=0, lt=0.5, description="probability that epsilon does not hold; below 1 / patients")
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
