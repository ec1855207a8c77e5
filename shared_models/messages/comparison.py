"""Message of a comparison: two finished networks, scored on the same test patients of a site."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from shared_models.messages.arrays import Arrays
from shared_models.messages.external import fingerprint
from shared_models.messages.fields import MAX_ROUND, MAX_SUM, MAX_WEIGHT, Named, Tensors, number, whole
from shared_models.messages.payload import Payload, Reply, carries, leaves
from shared_models.messages.replies import MAX_SCORINGS
from shared_models.messages.requests import ModelRequest
from shared_models.metrics.scores import RANGE_LIMIT

EVALUATE_COMPARISON = "evaluate.comparison"


@dataclass(frozen=True, kw_only=True)
class EvaluateComparisonReply(Reply):
    """How two networks order and call a site's test patients, each patient by both."""

    WHEN: ClassVar[str] = "in a comparison of two finished networks, a study of its own"

    compared: Arrays = leaves(
        Tensors(MAX_SUM),
        "of each outcome, how many pairs of test patients each of the two networks orders rightly, and how many more "
        "the first than the second, with the variance; of a binary outcome, how many patients both, only the first, "
        "only the second, and neither call rightly",
        "DeLong's and McNemar's paired tests of the two networks",
        in_sums="summed",
    )
    scorings: int = leaves(
        whole(0, MAX_SCORINGS),
        "how many networks, of any study, have been scored on these test patients",
        "the results say how often they were used",
        default=0,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateComparisonRequest(ModelRequest[EvaluateComparisonReply]):
    """Asks a site to score two finished networks on the test patients of its split; nothing is trained."""

    KIND: ClassVar[str] = EVALUATE_COMPARISON
    REPLY: ClassVar[type[Payload]] = EvaluateComparisonReply

    thresholds: Mapping[str, float] = carries(
        Named(number(0, 1)), "the decision threshold of each target that has one, as the first study chose it"
    )
    second_round: int = carries(whole(1, MAX_ROUND), "the round of the second network")
    second_model: Arrays = carries(Tensors(MAX_WEIGHT), "the weights of the second network")
    second_statistics: Arrays = carries(Tensors(MAX_SUM), "the feature statistics of the second study")
    second_thresholds: Mapping[str, float] = carries(
        Named(number(0, 1)), "the decision threshold of each target that has one, as the second study chose it"
    )
    second_score_ranges: Arrays = carries(
        Tensors(RANGE_LIMIT), "where the second network's scores lie, as `score_ranges`", default_factory=dict
    )

    @property
    def question(self) -> str:
        """See `Request`; of both networks with all that scoring needs, as a site approves it."""
        return pair_of(
            fingerprint(self.model, self.statistics, self.thresholds, self.score_ranges),
            fingerprint(self.second_model, self.second_statistics, self.second_thresholds, self.second_score_ranges),
        )


def pair_of(first: str, second: str) -> str:
    """SHA-256 of two networks in their order, from that of each, in 64 hexadecimal digits."""
    return hashlib.sha256(f"{first} {second}".encode()).hexdigest()
