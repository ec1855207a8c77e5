"""Numbers of secure aggregation: how many sites must answer, and how many may be lost, for `c` colluders."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

MAX_SITES = 1023
MAX_ROUNDS = 1_000_000
FRACTION_BITS = 24


def default_colluders(sites: int) -> int:
    """How many sites may collude with the center, where a study does not say: fewer than a third, at least one."""
    return max(1, ceil(sites / 3) - 1)


@dataclass(frozen=True)
class Quorum:
    """What holds for one kind of message.

    Attributes:
        sites: n, sites of the roster that take part in the kind, whether they are there or not.
        colluders: c, how many of them may tell the center all that they know.

    Raises:
        ValueError: If so few sites hide none.
    """

    sites: int
    colluders: int

    def __post_init__(self) -> None:
        if self.colluders < 1 or not self.least_group <= self.sites <= MAX_SITES:
            msg = f"{self.sites} sites, of which {self.colluders} may collude: at least {self.least_group} are needed"
            raise ValueError(msg)

    @property
    def threshold(self) -> int:
        """t: 2 t > n + c, so that any two quorums share an honest site."""
        return (self.sites + self.colluders) // 2 + 1

    @property
    def least_group(self) -> int:
        """m: of so many members, two are honest."""
        return self.colluders + 2

    @property
    def may_be_lost(self) -> int:
        """How many sites a sum survives the loss of."""
        return self.sites - self.threshold


@dataclass(frozen=True)
class Terms:
    """What the hospitals approved of a study's secure sums; the same at all of them and at the center.

    Attributes:
        approval: Hash of the approved settings, 64 hexadecimal digits; of a fold, of its own.
        colluders: c.
        rounds: Of the study; messages before and after training have rounds 0 and `rounds` + 1.
        attempts: How often a site masks its answer to one kind in one round.
        survivor_sets: Different sets of members over which one group's block may be opened, in all folds of a study
            together; None: n.
        update_bound: B, the largest entry of an update; what is larger is clamped.
        patients_bound: N, the most patients of one site that count.
        study: Hash of what the folds of a study share; empty: the approval is the study's.

    Raises:
        ValueError: If a sum of `MAX_SITES` sites might not fit into 64 bits, or another number is out of its range.
    """

    approval: str
    colluders: int
    rounds: int
    attempts: int = 3
    survivor_sets: int | None = None
    update_bound: float = 100.0
    patients_bound: int = 1_000_000
    study: str = ""

    def __post_init__(self) -> None:
        largest = self.update_bound * self.patients_bound * 2.0**FRACTION_BITS
        if not (self.update_bound > 0 and self.patients_bound > 0 and largest < 2.0**53):
            msg = f"an update of {self.update_bound:g} times {self.patients_bound} patients does not fit into 53 bits"
            raise ValueError(msg)
        counts = (self.colluders, self.rounds, self.attempts, 1 if self.survivor_sets is None else self.survivor_sets)
        if min(counts) < 1 or self.rounds > MAX_ROUNDS:
            msg = "colluders, rounds, attempts and survivor-sets are at least 1"
            raise ValueError(msg)

    def hides(self, sites: int) -> bool:
        """Whether so many sites that take part in a kind can be added up."""
        return sites >= self.colluders + 2

    def quorum(self, sites: int) -> Quorum:
        """What holds for a kind in which `sites` take part.

        Raises:
            ValueError: If they are too few.
        """
        return Quorum(sites, self.colluders)
