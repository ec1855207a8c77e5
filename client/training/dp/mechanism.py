"""Training under differential privacy: the unit is the patient (Abadi 2016, arXiv:1607.00133).

A step draws each patient by chance, one lesion or view of each, clips each patient's own gradient and adds Gaussian
noise to their sum. Clipping, noise and the search for a noise are Opacus's; who was drawn and what noise was added come
from a seed that the operating system gives and that never leaves the site: whoever knew it could take the noise off.

What the noise does not cover is said in docs/security.md: counts, sums of features, and scores of validation and test
patients.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.data import DataLoader

from client.config.policy import Accountant, Limit, Policy
from client.errors import ExitCode, SiteError
from client.governance.ledger import Charge, epsilon
from client.training.dataset import Batch, PatientDataset, as_read
from client.training.dp.grad_sample_modes import make_gradients, require_right_gradients
from client.training.loop import make_optimizer
from shared_models.study_settings import StudySettings

MIN_NOISE, MAX_NOISE = 0.1, 1000.0


@dataclass(frozen=True)
class Mechanism:
    """A round's private training at one site.

    Attributes:
        patients: How many the site trains on.
        clip_norm: The largest norm of a patient's gradient.
        noise_multiplier: The noise's deviation over the clipping norm.
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
    """What a study asks of a site: its noise, or the least noise that keeps the study's rounds below its epsilon.

    Args:
        config: The study.
        patients: How many the site trains on.
        policy: The site's delta, accountant and least noise.

    Raises:
        SiteError: If no noise reaches the epsilon, or the study's gradients are not right for its network.
    """
    require_right_gradients(config)
    rate = min(1.0, config.batch_size / patients)
    steps = max(1, round(1 / rate))
    passes = config.local_epochs
    noise = config.noise_multiplier
    if config.target_epsilon:
        total = steps * passes * config.rounds
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


class PrivateOptimizer:
    """Steps of a network by clipped and noised gradients; used as any optimizer is.

    Args:
        model: The network; it trains in place.
        config: The study: the optimizer under the noise, and the pull of FedProx, which no patient's data enter.
        asked: Clipping and noise.
    """

    def __init__(self, model: nn.Module, config: StudySettings, asked: Mechanism) -> None:
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping

        self._gradients = make_gradients(model, config.patient_gradients, asked.clip_norm)
        weights = self._gradients.weights
        kind = DPOptimizerFastGradientClipping if self._gradients.clipped else DPOptimizer
        self._optimizer = kind(
            make_optimizer([weights], config),
            noise_multiplier=asked.noise_multiplier,
            max_grad_norm=asked.clip_norm,
            expected_batch_size=asked.sample_rate * asked.patients,
            generator=_secret(weights.device),
        )

    def zero_grad(self) -> None:
        """Forgets the last step's gradients."""
        self._optimizer.zero_grad()

    def step(self) -> None:
        """Clips the patients' gradients, adds the noise to their sum and steps; also for a batch of nobody."""
        weights, found = self._gradients.weights, self._gradients.take()
        if self._gradients.clipped:
            weights.grad = found
        else:
            weights.grad_sample = found  # type: ignore[attr-defined]
        self._optimizer.step()


def poisson_loader(patients: PatientDataset, asked: Mechanism) -> DataLoader[Batch]:
    """Batches in which each patient is by chance; some may be empty, and noise is added all the same."""
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler

    sampling_weight = UniformWithReplacementSampler(
        num_samples=len(patients), sample_rate=asked.sample_rate, steps=asked.steps, generator=_secret()
    )
    return DataLoader(patients, batch_sampler=sampling_weight, collate_fn=as_read)


def _secret(device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(int.from_bytes(os.urandom(8), "little", signed=True))
