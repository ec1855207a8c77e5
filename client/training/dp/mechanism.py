"""Accounting of patient-level differential privacy (DP-SGD, Abadi 2016, arXiv:1607.00133).

A step draws each patient by chance (client/training/dp/sampling.py), one lesion or view of each, clips each patient's
gradient and adds Gaussian noise to their sum (client/training/dp/optimizer.py). Two cohorts are neighbours if one
patient's record is empty in one of them: how many patients there are is known, and neither the sampling rate nor the
size that a sum is divided by tells anything.

What the noise does not cover is said in docs/security.md: counts, sums of features, and scores of validation and test
patients.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from client.config.policy import Accountant, Limit, Policy
from client.errors import ExitCode, SiteError
from client.governance.ledger import Charge, epsilon
from client.training.dp.grad_sample_modes import require_right_gradients
from shared_models.folds import trainings
from shared_models.study_settings import StudySettings

MIN_NOISE, MAX_NOISE = 0.1, 1000.0


@dataclass(frozen=True)
class Mechanism:
    """A round's private training at one site.

    Attributes:
        patients: How many the site trains on.
        clip_norm: The largest norm of a patient's gradient.
        noise_multiplier: The noise's standard deviation divided by the clipping norm.
        sample_rate: A patient's chance to be in a step.
        steps: Steps in a pass over the patients.
        passes: Passes in a round.
    """

    patients: int
    clip_norm: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    passes: int

    def charge(self, config: StudySettings, server_round: int) -> Charge:
        """What a round costs, for the ledger."""
        steps = self.passes * self.steps
        return Charge(config.study, config.task, server_round, self.noise_multiplier, self.sample_rate, steps)


def mechanism(config: StudySettings, patients: int, policy: Policy) -> Mechanism:
    """What a study asks of a site: its noise, or the least noise that keeps its rounds in all folds below its epsilon.

    Args:
        config: The study.
        patients: How many the site trains on.
        policy: The site's delta, accountant and least noise.

    Raises:
        SiteError: If no noise reaches the epsilon, the site's delta is too large for its patients, or the study's
            gradients are not right for its network.
    """
    if policy.delta * patients >= 1.0:
        raise _delta_too_large(patients, policy.delta)
    require_right_gradients(config)
    rate = min(1.0, config.batch_size / patients)
    steps = max(1, round(1 / rate))
    passes = config.local_epochs
    noise = config.noise_multiplier
    if config.target_epsilon:
        total = steps * passes * config.rounds * trainings(config)
        noise = _noise_for(config.target_epsilon, rate, total, policy.limit)
        if not math.isfinite(noise):
            raise SiteError(
                what="no noise reaches the study's epsilon",
                where=f"study {config.study}",
                found=f"target-epsilon {config.target_epsilon:g} over {total} steps, at delta {policy.delta:g}",
                expected="an epsilon that some noise reaches",
                fix="ask the center for fewer rounds or a larger epsilon",
                public="no noise reaches the study's epsilon at this site",
                exit_code=ExitCode.STUDY,
            )
    return Mechanism(patients, config.clip_norm, max(noise, policy.minimum_noise), rate, steps, passes)


def _delta_too_large(patients: int, delta: float) -> SiteError:
    return SiteError(
        what="delta is not below 1 / the number of training patients",
        where="policy.delta",
        found=f"{delta:g}, with {patients} training patients",
        expected=f"less than {1 / patients:.2g}: at a larger one a patient's whole record might leave",
        fix="lower policy.delta",
        public="the site's delta is too large for the number of its training patients",
        exit_code=ExitCode.STUDY,
    )


@functools.lru_cache(maxsize=512)  # a search asks the accountant a dozen times, and every round asks for the same
def _noise_for(target: float, rate: float, steps: int, limit: Limit) -> float:
    def spent(sigma: float, accountant: Accountant = limit.accountant) -> float:
        return epsilon([(sigma, rate, steps)], replace(limit, accountant=accountant))

    return calibrate_noise_multiplier(target, spent)


def calibrate_noise_multiplier(target: float, spent: Callable[..., float]) -> float:
    """The least noise multiplier, to 1 %, whose epsilon is below the target; infinite where none of up to 1,000 is.

    Opacus's own search asks its PRV accountant far out, where it overflows. This one looks for the place by RDP.

    Args:
        target: The epsilon.
        spent: Epsilon of a noise multiplier, perhaps by the accountant `"rdp"`; falls as the noise grows.
    """
    high = MIN_NOISE
    while spent(high, "rdp") > target:
        high *= 2
        if high > MAX_NOISE:
            return math.inf
    low = high / 4  # PRV needs less noise than RDP, and not half as much
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= target else (middle, high)
    return high
