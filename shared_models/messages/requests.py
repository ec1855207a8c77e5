"""Requests of the center in a study, in their order, each with the reply that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from shared_models.messages.arrays import Arrays, hash_arrays
from shared_models.messages.fields import (
    MAX_ROUND,
    MAX_SUM,
    MAX_WEIGHT,
    Named,
    Tensors,
    names,
    number,
    text,
    whole,
)
from shared_models.messages.payload import Payload, Reply, Request, carries
from shared_models.messages.replies import (
    EvaluateTestReply,
    EvaluateValidationReply,
    InitialWeightsReply,
    PrepareReply,
    TrainReply,
)
from shared_models.metrics.scores import RANGE_LIMIT

PREPARE, INITIAL_WEIGHTS, TRAIN = "query.prepare", "query.weights", "train"
LACKS_WEIGHTS = "the site lacks the study's first weights"
"""How an error begins of a site to which the center sends them again."""
EVALUATE_VALIDATION, EVALUATE_TEST = "evaluate.validation", "evaluate.test"
R = TypeVar("R", bound=Reply, covariant=True)
HASH_LETTERS = 64


@dataclass(frozen=True)
class PrepareRequest(Request[PrepareReply]):
    """Asks a site for its counts, before round 1."""

    KIND: ClassVar[str] = PREPARE
    REPLY: ClassVar[type[Reply]] = PrepareReply


@dataclass(frozen=True, kw_only=True)
class InitialWeightsRequest(Request[InitialWeightsReply]):
    """Brings the first weights, where some are from a file or stay as they are: these travel in no round."""

    KIND: ClassVar[str] = INITIAL_WEIGHTS
    REPLY: ClassVar[type[Payload]] = InitialWeightsReply

    model: Arrays = carries(
        Tensors(MAX_WEIGHT), "the network's first weights, where some of them are of a file or stay as they are"
    )
    from_file: Sequence[str] = carries(names(), "the names of those that are of a file, whose hash the site approved")


@dataclass(frozen=True, kw_only=True)
class ModelRequest(Request[R]):
    """What every request after `prepare` brings."""

    round: int = carries(whole(1, MAX_ROUND), "the round, from 1 on")
    model: Arrays = carries(Tensors(MAX_WEIGHT), "the global weights, without those that stay as they are")
    statistics: Arrays = carries(
        Tensors(MAX_SUM),
        "all sites' feature statistics, ComBat's references, class weights and, with secure aggregation, class counts; "
        "frozen before round 1",
    )
    frozen: str = carries(
        text(HASH_LETTERS),
        "SHA-256 of the weights that stay as they are, which the site keeps; empty where none do",
        default="",
    )
    score_ranges: Arrays = carries(
        Tensors(RANGE_LIMIT),
        "where the scores of each target lie, from pooled validation patients: two numbers, between which half of the "
        "bins are; nothing before these have been scored",
        default_factory=dict,
    )

    @property
    def question(self) -> str:
        """See `Request`; with the ranges that scores are counted in."""
        return hash_arrays(self.model | ranges_named(self.score_ranges))

    @property
    def frozen_hash(self) -> str:
        """See `Request`; of the statistics, and of the weights that stay as they are."""
        return hash_arrays(self.statistics) + self.frozen


@dataclass(frozen=True, kw_only=True)
class TrainRequest(ModelRequest[TrainReply]):
    """Asks a site to score the weights on its validation patients, and to train them on its training patients."""

    KIND: ClassVar[str] = TRAIN
    REPLY: ClassVar[type[Reply]] = TrainReply

    rule_state: Arrays = carries(
        Tensors(MAX_WEIGHT),
        "the state of an aggregation rule with a half at the sites: under `scaffold` the mean control variate, and the "
        "round in which each site's was last counted; nothing under the other rules",
        default_factory=dict,
    )

    @property
    def question(self) -> str:
        """See `Request`; with the rule's state, where there is one."""
        state = {f"rule_state:{name}": array for name, array in self.rule_state.items()}
        return hash_arrays(self.model | ranges_named(self.score_ranges) | state)


@dataclass(frozen=True, kw_only=True)
class EvaluateValidationRequest(ModelRequest[EvaluateValidationReply]):
    """Asks a site to score the last round's weights on its validation patients, as each round did the one before."""

    KIND: ClassVar[str] = EVALUATE_VALIDATION
    REPLY: ClassVar[type[Reply]] = EvaluateValidationReply


@dataclass(frozen=True, kw_only=True)
class EvaluateTestRequest(ModelRequest[EvaluateTestReply]):
    """Asks a site to score the best round's weights on its test patients."""

    KIND: ClassVar[str] = EVALUATE_TEST
    REPLY: ClassVar[type[Reply]] = EvaluateTestReply

    thresholds: Mapping[str, float] = carries(
        Named(number(0, 1)),
        "the decision threshold of each target that has one, from pooled validation patients",
    )

    @property
    def question(self) -> str:
        """See `Request`; with the thresholds."""
        thresholds = {f"threshold {name}": np.array(value) for name, value in self.thresholds.items()}
        weights = {f"weights {name}": array for name, array in self.model.items()}
        return hash_arrays(weights | ranges_named(self.score_ranges) | thresholds)


def ranges_named(ranges: Arrays) -> Arrays:
    """Ranges of scores under names of their own, beside other arrays to be hashed."""
    return {f"score range {name}": array for name, array in ranges.items()}


REQUESTS: tuple[type[Request[Payload]], ...] = (
    PrepareRequest,
    InitialWeightsRequest,
    TrainRequest,
    EvaluateValidationRequest,
    EvaluateTestRequest,
)
