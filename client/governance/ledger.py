"""What privacy a cohort has spent, for good: a charge for every round of private training, whatever study or task.

A charge is on the disk before training starts, so that a crash counts too much and never too little. Epsilon is
computed anew from all charges by Opacus's accountants, in one composition: rounds, restarts, studies and tasks on the
same patients add up. Amplification by Poisson sampling assumes that nobody but the site knows who was drawn.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.config.policy import Limit
from client.errors import ExitCode, SiteError
from client.governance.chained_log import Line, append, read

PRV_UP_TO = 100.0


@dataclass(frozen=True)
class Charge:
    """One round of private training: steps of the Poisson-subsampled Gaussian mechanism.

    Attributes:
        study: Whose.
        task: What was trained.
        round: Of the study.
        noise_multiplier: The noise's deviation over the clipping norm.
        sample_rate: A patient's chance to be in a step.
        steps: How many.
    """

    study: str
    task: str
    round: int
    noise_multiplier: float
    sample_rate: float
    steps: int


def charge(ledger: Path, asked: Charge, limit: Limit) -> float:
    """Writes a charge down, before the training that it is for.

    Returns:
        The cohort's epsilon with it.

    Raises:
        SiteError: If it would pass the site's ceiling, or the ledger is damaged or cannot be written. Then nothing
            may be trained, and nothing was charged.
    """
    charges = [line for line in read(ledger) if line["event"] == "charge"]
    before = _recorded(charges, limit)
    after = max(before, epsilon([*map(_mechanism, charges), _mechanism(asdict(asked))], limit))
    if not after <= limit.epsilon:
        raise SiteError(
            what="training on would spend more privacy than the site allows",
            where=f"{ledger}, study {asked.study}, round {asked.round}",
            found=f"epsilon {before:.2f} spent, {after:.2f} with this round, at delta {limit.delta:g}",
            expected=f"at most {limit.epsilon:g}",
            fix="nothing: the study goes on without this site; only the hospital may raise policy.epsilon_ceiling",
            public="the site's privacy budget is spent",
            exit_code=ExitCode.STUDY,
        )
    spent = {"epsilon": after, "delta": limit.delta, "accountant": limit.accountant}
    append(ledger, {"event": "charge", **asdict(asked), **spent})
    return after


def charges(ledger: Path) -> list[Line]:
    """All charges, the oldest first.

    Raises:
        SiteError: If the ledger is damaged.
    """
    return [line for line in read(ledger) if line["event"] == "charge"]


def spent(ledger: Path, limit: Limit) -> float:
    """The cohort's epsilon; 0 before the first charge.

    Raises:
        SiteError: If the ledger is damaged.
    """
    found = charges(ledger)
    return max(_recorded(found, limit), epsilon(map(_mechanism, found), limit))


def epsilon(mechanisms: Iterable[tuple[float, float, int]], limit: Limit) -> float:
    """Epsilon of `(noise_multiplier, sample_rate, steps)` together; infinite where there is a step without noise.

    The order does not matter, so equal mechanisms are counted together: the accountant's time grows with different
    ones only.
    """
    steps: Counter[tuple[float, float]] = Counter()
    for noise, rate, count in mechanisms:
        steps[noise, rate] += count
    if not steps:
        return 0.0
    if any(not noise > 0 for noise, _ in steps):
        return math.inf
    history = [(noise, rate, count) for (noise, rate), count in sorted(steps.items()) if count]
    from opacus.accountants import PRVAccountant, RDPAccountant

    by_rdp = _of(RDPAccountant(), history, limit.delta)
    # PRV's grid grows with the loss, in time and memory; what costs so much needs no second decimal
    if limit.accountant == "rdp" or by_rdp > PRV_UP_TO:
        return by_rdp
    by_prv = _of(PRVAccountant(), history, limit.delta)
    return min(by_rdp, by_prv) if math.isfinite(by_prv) else by_rdp


def _of(accountant: Any, history: list[tuple[float, float, int]], delta: float) -> float:
    accountant.history = history
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)  # that the best order is the last: still an upper bound
        return float(accountant.get_epsilon(delta=delta))


def _mechanism(charge: Line) -> tuple[float, float, int]:
    return float(charge["noise_multiplier"]), float(charge["sample_rate"]), int(charge["steps"])


def _recorded(charges: Iterable[Line], limit: Limit) -> float:
    """The highest epsilon written at this delta: it never falls, not by an accountant's rounding either."""
    return max((float(line["epsilon"]) for line in charges if line["delta"] == limit.delta), default=0.0)
