"""Prediction targets (binary, categorical, continuous, time to event): per-patient losses and additive statistics.

Losses have shape `(N,)` and one patient's loss never depends on another's, so that private training can clip
each patient's gradient. That is why time to event is a discrete-time hazard and not a Cox partial likelihood.
A missing label is NaN and has loss 0. `statistics` lists what is counted of scores and truths; the first judges, or
pairs within sites where they are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from shared_models.metrics.arrays import TargetStatistic
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.calibration import Calibration
from shared_models.metrics.categorical import ConfusionMatrix
from shared_models.metrics.horizon import HorizonTable
from shared_models.metrics.one_versus_rest import OneVersusRest
from shared_models.metrics.regression import RegressionSums
from shared_models.metrics.scores import ScoreRange
from shared_models.metrics.survival import ConcordanceTable
from shared_models.metrics.within_site import WithinSiteAuc, WithinSiteConcordance, WithinSiteHorizonAuc

YEAR_DAYS = 365.25
# Counts of scores, (N,) or (N, K), and truths, (N,) or (N, 2).
Count = Callable[[NDArray[np.floating[Any]], NDArray[np.floating[Any]]], TargetStatistic]


@dataclass(frozen=True)
class Binary:
    """A binary target; the label is 0, 1 or NaN.

    Attributes:
        horizon_days: For a site that records time to event: an event by then is 1, follow-up to then without one
            is 0, and earlier censoring is unknown. None where the truth is a column of its own.
        score_ranges: Where its scores lie, once that is known: one range, or none.
    """

    horizon_days: float | None = None
    score_ranges: tuple[ScoreRange, ...] = field(default=(), kw_only=True, repr=False)
    outputs: int = field(default=1, init=False)
    scores: int = field(default=1, init=False)

    @property
    def statistics(self) -> Mapping[str, Count]:
        """What is counted of probabilities and truths."""
        return {
            "scores": partial(ScoreHistogram.of, score_range=_only(self.score_ranges)),
            "calibration": Calibration.of,
            "within_site": WithinSiteAuc.of,
        }

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        """Binary cross-entropy `(N,)` of logits `(N, 1)`."""
        known = ~truth.isnan()
        loss = functional.binary_cross_entropy_with_logits(output[:, 0], truth.nan_to_num(), reduction="none")
        return torch.where(known, loss, torch.zeros_like(loss))

    def predict(self, output: Tensor) -> Tensor:
        """Probability `(N,)`."""
        return output[:, 0].sigmoid()

    def counts(self, truth: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Patients `(negative, positive)`, additive over sites."""
        return np.asarray([(truth == 0).sum(), (truth == 1).sum()], dtype=np.float64)

    def base_logits(self, counts: NDArray[np.float64]) -> Tensor:
        """The logits `(1,)` of the prevalence: where an output bias starts."""
        return _log_odds(counts[1:], counts.sum(keepdims=True))


@dataclass(frozen=True)
class Categorical:
    """One of K classes; truth is the class index or NaN.

    Attributes:
        classes: Their names.
        score_ranges: Where each one's probabilities lie, once that is known: K ranges, or none.
    """

    classes: tuple[str, ...]
    score_ranges: tuple[ScoreRange, ...] = field(default=(), kw_only=True, repr=False)

    @property
    def statistics(self) -> Mapping[str, Count]:
        """What is counted of probabilities and truths."""
        return {
            "confusion": ConfusionMatrix.of_probabilities,
            "one_versus_rest": partial(OneVersusRest.of, score_ranges=self.score_ranges),
        }

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.classes)

    @property
    def scores(self) -> int:
        """One a class."""
        return len(self.classes)

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy `(N,)` of logits `(N, K)`."""
        known = ~truth.isnan()
        loss = functional.cross_entropy(output, truth.nan_to_num().long(), reduction="none")
        return torch.where(known, loss, torch.zeros_like(loss))

    def predict(self, output: Tensor) -> Tensor:
        """Probabilities `(N, K)`."""
        return output.softmax(dim=1)

    def counts(self, truth: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Patients of each class `(K,)`, additive over sites."""
        return np.asarray([(truth == index).sum() for index in range(self.outputs)], dtype=np.float64)

    def base_logits(self, counts: NDArray[np.float64]) -> Tensor:
        """The logits `(K,)` of the class frequencies."""
        return torch.as_tensor(np.log((counts + 0.5) / (counts.sum() + 0.5 * self.outputs)), dtype=torch.float32)


@dataclass(frozen=True)
class Regression:
    """A continuous target; `scale` (in the number's unit) brings its errors to the order of 1."""

    statistics: ClassVar[Mapping[str, Count]] = {
        "errors": RegressionSums.of,
    }

    scale: float = 1.0
    outputs: int = field(default=1, init=False)
    scores: int = field(default=1, init=False)

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        """Smooth L1 `(N,)` of `output * scale` against the truth, in units of `scale`."""
        known = ~truth.isnan()
        loss = functional.smooth_l1_loss(output[:, 0], truth.nan_to_num() / self.scale, reduction="none")
        return torch.where(known, loss, torch.zeros_like(loss))

    def predict(self, output: Tensor) -> Tensor:
        """The number `(N,)` in its own unit."""
        return output[:, 0] * self.scale

    def counts(self, truth: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """`(patients, sum)`, additive over sites."""
        known = truth[~np.isnan(truth)]
        return np.asarray([len(known), known.sum()], dtype=np.float64)

    def base_logits(self, counts: NDArray[np.float64]) -> Tensor:
        """The mean `(1,)`, in units of `scale`."""
        return torch.as_tensor(counts[1:] / max(counts[0], 1.0) / self.scale, dtype=torch.float32)


@dataclass(frozen=True)
class TimeToEvent:
    """Time to an event as discrete-time hazards; truth is `(N, 2)`: days, and 1 for an event or 0 for censoring.

    Gensheimer & Narasimhan 2019 (10.7717/peerj.6257): the likelihood is a product over intervals, one sigmoid
    an interval, so the loss is a sum over one patient's own intervals. A censored patient counts as having
    survived an interval if they were seen for at least half of it. After the last edge everyone is censored.

    Attributes:
        edges_days: The end of each of the K intervals, ascending; the first starts at 0.
        horizon_days: By when the event is predicted to happen; no later than the last edge.
        score_ranges: Where its risks lie, once that is known: one range, or none.
    """

    edges_days: tuple[float, ...] = tuple(YEAR_DAYS * year for year in (1, 2, 3, 4, 5, 7, 10))
    horizon_days: float = 5 * YEAR_DAYS
    score_ranges: tuple[ScoreRange, ...] = field(default=(), kw_only=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon_days", min(self.horizon_days, self.edges_days[-1]))

    @property
    def statistics(self) -> Mapping[str, Count]:
        """What is counted of risks and truths; what concerns the horizon takes it along."""
        score_range = _only(self.score_ranges)
        return {
            "concordance": partial(ConcordanceTable.of_truth, score_range=score_range),
            "within_site": WithinSiteConcordance.of,
            "horizon": partial(HorizonTable.of, horizon_days=self.horizon_days, score_range=score_range),
            "within_site_at_horizon": partial(WithinSiteHorizonAuc.of, horizon_days=self.horizon_days),
        }

    @property
    def outputs(self) -> int:
        """One logit an interval."""
        return len(self.edges_days)

    @property
    def scores(self) -> int:
        """One risk, from which a line for each interval makes its hazard: proportional odds."""
        return 1

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        """Negative log-likelihood `(N,)` of hazard logits `(N, K)`."""
        survived, failed = self._intervals(truth)
        return (survived * functional.softplus(output) + failed * functional.softplus(-output)).sum(dim=1)

    def predict(self, output: Tensor) -> Tensor:
        """Probability of the event by the horizon `(N,)`."""
        return self.risk_by(output, self.horizon_days)

    def risk_by(self, output: Tensor, days: float) -> Tensor:
        """Probability of the event by a day `(N,)`; within an interval the hazard is constant, after the last 0."""
        edges = np.asarray([0.0, *self.edges_days])
        passed = np.clip((days - edges[:-1]) / np.diff(edges), 0.0, 1.0)
        return -torch.expm1(-(functional.softplus(output) * output.new_tensor(passed)).sum(dim=1))

    def counts(self, truth: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Patients `(2, K)` who survived and who failed in each interval, additive over sites."""
        survived, failed = self._intervals(torch.as_tensor(np.asarray(truth, dtype=np.float32)))
        return np.stack([survived.sum(dim=0).numpy(), failed.sum(dim=0).numpy()]).astype(np.float64)

    def base_logits(self, counts: NDArray[np.float64]) -> Tensor:
        """The logits `(K,)` of the life table's hazards."""
        return _log_odds(counts[1], counts.sum(axis=0))

    def _intervals(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        known = ~truth.isnan().any(dim=1, keepdim=True)
        days, event = truth[:, :1].nan_to_num(), truth[:, 1:].nan_to_num()
        end = torch.tensor(self.edges_days, dtype=truth.dtype, device=truth.device)
        start = torch.cat([torch.zeros_like(end[:1]), end[:-1]])
        failed = known & (event == 1) & (days > start) & (days <= end)
        failed[:, :1] |= known & (event == 1) & (days <= 0)
        needed = torch.where(event == 1, end, (start + end) / 2)
        survived = known & (days >= needed) & ~failed
        return survived.to(truth.dtype), failed.to(truth.dtype)


Target = Binary | Categorical | Regression | TimeToEvent


def _only(ranges: tuple[ScoreRange, ...]) -> ScoreRange | None:
    return ranges[0] if ranges else None


def _log_odds(positive: NDArray[np.float64], total: NDArray[np.float64]) -> Tensor:
    """Log odds with half a patient added to each side, so that an empty class stays finite."""
    return torch.as_tensor(np.log((positive + 0.5) / (total - positive + 0.5)), dtype=torch.float32)
