"""Two studies that are compared, and the difference of a measure of theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from server.report.study import Outcome, Study
from shared_models.metrics.arrays import Metric
from shared_models.pages.drawing import BLUE, ORANGE, Role
from shared_models.pages.numbers import NONE, bounds, number, span

MAX_SITES = 25
"""Hospitals that are listed or drawn."""
LOOKS: tuple[tuple[str, str, Role], ...] = ((BLUE, "-", "internal"), (ORANGE, "--", "external"))
"""Colour, dash and marker of the first study and of the second; the markers are those of the two roles elsewhere."""


@dataclass(frozen=True)
class Pair:
    """The two studies.

    Attributes:
        first: The one that is compared.
        second: The one that it is compared with.
    """

    first: Study
    second: Study

    @property
    def names(self) -> tuple[str, str]:
        """What they are called; two runs of one name are told apart."""
        one, other = (study.results.study for study in self.both)
        return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")

    @property
    def both(self) -> tuple[Study, Study]:
        """In their order."""
        return self.first, self.second

    @property
    def outcomes(self) -> list[tuple[Outcome, Outcome]]:
        """Targets that both have, of the same kind and horizon."""
        others = {outcome.name: outcome for outcome in self.second.outcomes}
        shared = [(one, others[one.name]) for one in self.first.outcomes if one.name in others]
        return [(a, b) for a, b in shared if (a.kind, a.within) == (b.kind, b.within)]

    @property
    def same_patients(self) -> bool:
        """Whether all sites are the same, and read the same data, split alike."""
        one, other = ({s.site: s.fingerprint for s in study.results.sites} for study in self.both)
        return one == other and all(one.values())


def difference_of(first: Outcome, second: Outcome, role: Role) -> tuple[float, float, float] | None:
    """The difference of the measures that judge a target, with its bounds; None where it has none."""
    return difference(*((o.metrics(role), o.primary(o.metrics(role))[0]) for o in (first, second)))


def difference(
    first: tuple[Mapping[str, Metric], str], second: tuple[Mapping[str, Metric], str]
) -> tuple[float, float, float] | None:
    """First less second with the bounds of Zou and Donner, of two samples taken as independent; None without bounds.

    Scores of the same patients agree, so that of them the interval is wider than it need be.

    Args:
        first: Metrics, and the name of one of them.
        second: likewise.
    """
    (one, own), (other, others) = first, second
    a, b, of_a, of_b = one.get(own), other.get(others), bounds(one, own), bounds(other, others)
    if not isinstance(a, float) or not isinstance(b, float) or of_a is None or of_b is None:
        return None
    return a - b, a - b - math.hypot(a - of_a[0], of_b[1] - b), a - b + math.hypot(of_a[1] - a, b - of_b[0])


def told_difference(gap: tuple[float, float, float] | None, digits: int = 3) -> str:
    """A difference in words: `+0.013 (−0.021 to 0.047)`."""
    return f"{number(gap[0], digits, sign=True)} ({span(gap[1:], digits)})" if gap else NONE


def more(sites: int) -> str:
    """That not all hospitals are shown; empty where they are."""
    return f"The first {MAX_SITES} of {sites} are listed." if sites > MAX_SITES else ""
