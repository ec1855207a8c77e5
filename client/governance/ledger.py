"""Privacy ledger of a cohort: a charge for every round of private training, over all studies and tasks.

A charge is on the disk before training starts, so that a crash counts too much and never too little. Epsilon is
recomputed from all charges by Opacus's accountants, in one composition: rounds, restarts, studies and tasks on the
same patients add up. Each charge carries that composition, and checking and charging are one transaction, so that a
charge costs the same after a thousand others, and no two processes pass the ceiling together. Amplification by Poisson
sampling assumes that no one but the site knows who was drawn.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from client.config.policy import Limit
from client.errors import ExitCode, SiteError
from client.governance.chained_log import Line, Log, locked, newest, read

PRV_UP_TO = 100.0
CHARGE = "charge"
Mechanism = tuple[float, float, int]


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
    import opacus.accountants  # noqa: F401 - seconds, before others wait for this transaction

    with locked(ledger) as log:
        composed = _composed(log)
        before = composed.recorded(limit)
        composed = composed.plus(_mechanism(asdict(asked)))
        after = max(before, epsilon(composed.mechanisms, limit))
        _require_below_ceiling(ledger, asked, limit, before, after)
        spent = {"epsilon": after, "delta": limit.delta, "accountant": limit.accountant}
        log.append({"event": CHARGE, **asdict(asked), **spent, **composed.carried(limit, after)})
        return after


def _require_below_ceiling(ledger: Path, asked: Charge, limit: Limit, before: float, after: float) -> None:
    if not after <= limit.epsilon:
        raise SiteError(
            what="training on would spend more privacy than the site allows",
            where=f"{ledger}, study {asked.study}, round {asked.round}",
            found=f"epsilon {before:.2f} spent, {after:.2f} with this round, at delta {limit.delta:g}",
            expected=f"at most {limit.epsilon:g}",
            fix="nothing: the study continues without this site; only the hospital may raise policy.epsilon_ceiling",
            public="the site's privacy budget is spent",
            exit_code=ExitCode.STUDY,
        )


def charges(ledger: Path) -> list[Line]:
    """All charges, the oldest first.

    Raises:
        SiteError: If the ledger is damaged.
    """
    return [line for line in read(ledger) if line["event"] == CHARGE]


def spent(ledger: Path, limit: Limit) -> float:
    """The cohort's epsilon; 0 before the first charge.

    Raises:
        SiteError: If the ledger is damaged.
    """
    composed = _Composition.of(charges(ledger))
    return max(composed.recorded(limit), epsilon(composed.mechanisms, limit))


def spent_on(ledger: Path, study: str, limit: Limit) -> float:
    """What one study has spent by itself, in all its folds: the cohort's epsilon where it is the only one.

    Raises:
        SiteError: If the ledger is damaged.
    """
    charged = charges(ledger)
    own = [line for line in charged if _root(line["study"]) == _root(study)]
    if len(own) == len(charged):
        return last_epsilon(ledger)
    return epsilon(map(_mechanism, own), limit)


def _root(study: str) -> str:
    """The study of a fold."""
    return study.partition("/")[0]


def last_epsilon(ledger: Path) -> float:
    """What the last charge said, without checking those before it; 0 before the first.

    Raises:
        SiteError: If the ledger's end is damaged.
    """
    last = newest(ledger, CHARGE)
    return float(last["epsilon"]) if last else 0.0


def epsilon(mechanisms: Iterable[Mechanism], limit: Limit) -> float:
    """Epsilon of `(noise_multiplier, sample_rate, steps)` together; infinite where there is a step without noise.

    The order does not matter, so equal mechanisms are counted together: the accountant's time grows with different
    ones only.
    """
    together = _together(mechanisms)
    if not together:
        return 0.0
    if any(not noise > 0 for noise, _, _ in together):
        return math.inf
    history = [mechanism for mechanism in together if mechanism[2]]
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


def _mechanism(charge: Mapping[str, Any]) -> Mechanism:
    return float(charge["noise_multiplier"]), float(charge["sample_rate"]), int(charge["steps"])


@dataclass(frozen=True)
class _Composition:
    """All charges together, as the last of them carries it.

    Attributes:
        mechanisms: `(noise_multiplier, sample_rate, steps)`, equal ones counted together.
        highest: The highest epsilon written at each delta: it never falls, not by an accountant's rounding either.
    """

    mechanisms: tuple[Mechanism, ...] = ()
    highest: Mapping[float, float] = field(default_factory=dict)

    @classmethod
    def of(cls, charges: Sequence[Line]) -> _Composition:
        """From every line, whether or not they carry it."""
        highest: dict[float, float] = {}
        for line in charges:
            delta = float(line["delta"])
            highest[delta] = max(highest.get(delta, 0.0), float(line["epsilon"]))
        return cls(_together(map(_mechanism, charges)), highest)

    def recorded(self, limit: Limit) -> float:
        """What was spent at this delta, as it was written."""
        return self.highest.get(limit.delta, 0.0)

    def plus(self, asked: Mechanism) -> _Composition:
        """With one more charge."""
        return replace(self, mechanisms=_together([*self.mechanisms, asked]))

    def carried(self, limit: Limit, epsilon: float) -> dict[str, Any]:
        """What a line carries of it."""
        return {"composed": self.mechanisms, "highest": [*{**self.highest, limit.delta: epsilon}.items()]}


def _composed(log: Log) -> _Composition:
    """The charges so far, from the last one; from all of them where an older version wrote it."""
    last = log.newest(CHARGE)
    if last is None:
        return _Composition()
    if "composed" not in last:
        return _Composition.of([line for line in log.lines() if line["event"] == CHARGE])
    mechanisms = tuple((float(noise), float(rate), int(steps)) for noise, rate, steps in last["composed"])
    return _Composition(mechanisms, {float(delta): float(epsilon) for delta, epsilon in last["highest"]})


def _together(mechanisms: Iterable[Mechanism]) -> tuple[Mechanism, ...]:
    steps: Counter[tuple[float, float]] = Counter()
    for noise, rate, count in mechanisms:
        steps[noise, rate] += count
    return tuple((noise, rate, count) for (noise, rate), count in sorted(steps.items()))
