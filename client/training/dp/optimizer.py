"""A step of private training: per-sample gradients, clipped, summed and noised (DP-SGD, Abadi 2016, arXiv:1607.00133).

Each site adds the whole noise of its own guarantee to each of its steps. So what a site sends is private against
whoever sees it: the center, the other sites, and all of them together, with and without secure aggregation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from client.training.dp.grad_sample_modes import make_gradients
from client.training.dp.mechanism import Mechanism
from client.training.dp.randomness import add_noise, secret_key
from client.training.loop import make_optimizer
from shared_models.study_settings import StudySettings


class PrivateOptimizer:
    """Steps of a network by clipped and noised gradients; used as any optimizer is.

    Args:
        model: The network; it trains in place, and its dropout becomes that of `PatientDropout`.
        config: The study: the optimizer under the noise, and the pull of FedProx, which no patient's data enter.
        asked: Clipping and noise.
        correct: Changes the noised gradients before each step.

    Attributes:
        moments: The optimizer under the noise, whose state has seen no gradient without it.
    """

    def __init__(
        self,
        model: nn.Module,
        config: StudySettings,
        asked: Mechanism,
        correct: Callable[[Sequence[nn.Parameter]], None] | None = None,
    ) -> None:
        self._asked = asked
        self._gradients = make_gradients(model, config.patient_gradients)
        self.moments = make_optimizer([self._gradients.weights], config, correct)

    def zero_grad(self) -> None:
        """Forgets the last step's gradients."""
        self.moments.zero_grad()

    def step(self) -> None:
        """Clips the patients' gradients, adds the noise to their sum and steps; also for a batch without patients.

        The sum is divided by the number of patients to be expected: by that of those drawn, it would tell their number.
        """
        asked = self._asked
        total = self._gradients.clipped_sum(asked.clip_norm)
        noised = add_noise(total, asked.noise_multiplier * asked.clip_norm, asked.clip_norm, secret_key())
        weights = self._gradients.weights
        weights.grad = noised.to(weights.dtype).div_(asked.sample_rate * asked.patients)
        self.moments.step()
