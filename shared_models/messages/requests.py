"""Messages of a study, in their order: the center's requests and a site's replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from shared_models.features import FeatureStatistics
from shared_models.messages.arrays import Arrays, hash_arrays
from shared_models.messages.fields import (
    MAX_PATIENTS,
    MAX_ROUND,
    MAX_SUM,
    MAX_WEIGHT,
    Named,
    TableSums,
    Tensors,
    flag,
    names,
    number,
    text,
    whole,
)
from shared_models.messages.parts import MAX_NAME
from shared_models.messages.payload import Payload, Reply, Request, carries, leaves
from shared_models.metrics.scores import RANGE_LIMIT

PREPARE, INITIAL_WEIGHTS, TRAIN = "query.prepare", "query.weights", "train"
LACKS_WEIGHTS = "the site lacks the study's first weights"
"""How an error begins of a site to which the center sends them again."""
EVALUATE_VALIDATION, EVALUATE_TEST = "evaluate.validation", "evaluate.test"
R = TypeVar("R", bound=Reply, covariant=True)
PATIENTS = whole(0, MAX_PATIENTS)
MAX_ARRAYS = 10_000
HASH_LETTERS = 64
MAX_SCORINGS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PrepareReply(Reply):
    """A site's counts, and sums over its training patients."""

    WHEN: ClassVar[str] = "once, before round 1"

    trains: bool = leaves(
        flag(), "whether it trains or only validates", "a site that only validates is not asked to train"
    )
    patients: Mapping[str, int] = leaves(
        Named(PATIENTS), "how many patients are in each split", "its later counts are checked against it"
    )
    modalities: Mapping[str, int] = leaves(
        Named(PATIENTS),
        "how many training patients have each modality",
        "a modality's encoder is averaged over the patients who have it",
        "yes or no",
    )
    excluded: int = leaves(
        PATIENTS, "how many patients are excluded because their files cannot be used", "the results say so"
    )
    features: Mapping[str, FeatureStatistics] = leaves(
        TableSums(),
        "of each column of a table, over training patients: how many have it, its sum, its sum of squares; of a fold, "
        "without secure aggregation, in steps of five patients",
        "all hospitals' tables are standardised alike, and harmonised where the study uses it",
        "summed",
    )
    counts: Arrays = leaves(
        Tensors(MAX_SUM),
        "how many training patients each class of an outcome has (for time to event, each interval; of a "
        "continuous target, the known values and their sum)",
        "the network's outputs start at the base rates, and classes can be weighted",
        "summed",
    )
    endpoints: Mapping[str, str] = leaves(
        Named(text(MAX_NAME)),
        "what counts as each outcome, and what becomes of deaths without it, as the hospital's settings say",
        "hospitals that define an outcome differently are named before round 1, and in the results",
        default_factory=dict,
    )
    subgroups: Mapping[str, bool] = leaves(
        Named(flag()),
        "of each subgroup that the study names, whether `minimum_count` patients or more are in it",
        "a study does not begin with an empty subgroup",
        default_factory=dict,
    )


@dataclass(frozen=True, kw_only=True)
class TrainReply(Reply):
    """The weights after training at a site, and how the weights that it was sent did on its validation patients."""

    WHEN: ClassVar[str] = "after each round"

    model: Mapping[str, np.ndarray[Any, Any]] = leaves(
        Tensors(MAX_WEIGHT),
        "the network's weights as trained here, or how training changed each of them (`wire`)",
        "they are averaged with the others'",
        "summed",
    )
    patients: int = leaves(PATIENTS, "how many patients they were trained on", "the weight in the average", "summed")
    loss: float = leaves(
        number(-MAX_SUM, MAX_SUM, nan=True),
        "the mean training loss; none in private training, since no noise would cover it",
        "the center monitors training",
        "summed",
    )
    validation: Arrays = leaves(
        Tensors(MAX_SUM),
        "scores of validation patients, counted in bins and pairs",
        "they select the best round and the threshold",
        "summed",
    )
    rule_change: Mapping[str, np.ndarray[Any, Any]] = leaves(
        Tensors(MAX_WEIGHT),
        "what the site's half of the aggregation rule adds, one number for each weight: under `scaffold` the change of "
        "its control variate, a mean gradient, under `fednova` its mean change in a step; nothing under the others",
        "the rule's state at the center is updated with it",
        "summed",
        default_factory=dict,
    )
    spent: Mapping[str, float] = leaves(
        Named(number(0, MAX_SUM)),
        "in private training: the epsilon that this study has spent here so far, as the site's ledger has it, and at "
        "which delta; neither depends on a patient's data",
        "the status page and the results list what each hospital spent",
        default_factory=dict,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateValidationReply(Reply):
    """How the last round's weights do on a site's validation patients."""

    WHEN: ClassVar[str] = "after the last round"

    validation: Arrays = leaves(
        Tensors(MAX_SUM),
        "scores of validation patients, counted in bins and pairs",
        "they select the best round and the threshold",
        "summed",
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateTestReply(Reply):
    """How the best round's weights do on a site's test patients."""

    WHEN: ClassVar[str] = "at the end"

    test: Arrays = leaves(
        Tensors(MAX_SUM),
        "where the hospital trains: scores of test patients, counted in bins and pairs; how many patients of each "
        "split have which outcome, and how many are in no split and why; sums of the columns of tables, as before "
        "round 1, of training and of test patients; for each subgroup that the study names, counts of scores and "
        "outcomes (without secure aggregation pairs and outcomes only, small subgroups together); how many pairs of "
        "test patients are no longer in the right order, and with which scores, where a modality or a feature "
        "(`importance`) is shuffled between them or absent",
        "the metrics of all hospitals that train together (internal), the flow of patients and their characteristics, "
        "what the network uses",
        "summed",
    )
    external: Arrays = leaves(
        Tensors(MAX_SUM),
        "the same where the hospital does not train",
        "the metrics of all others together (external)",
        "summed",
        default_factory=dict,
    )
    all_folds: Arrays = leaves(
        Tensors(MAX_SUM),
        "after the last fold of a study of several, without secure aggregation: the statistics that a single fold "
        "withholds because they are of fewer than `minimum_count` patients, added up over the hospital's folds",
        "no fold with few patients is reported by itself",
        "summed",
        default_factory=dict,
    )
    metrics: Mapping[str, Mapping[str, float]] = leaves(
        Named(number(-MAX_SUM, MAX_SUM, nan=True), deep=True),
        "its own metrics on its test patients, also in each subgroup that the study names, rates in steps of five "
        "patients and all else to two decimals, where each class has `minimum_count` patients or more",
        "the results list them by hospital",
    )
    personal: Mapping[str, Mapping[str, float]] = leaves(
        Named(number(-MAX_SUM, MAX_SUM, nan=True), deep=True),
        "under `personal`, the same metrics of its own network, which stays at the hospital, on the same patients",
        "the results list them beside those of the study's network",
        default_factory=dict,
    )
    provenance: Mapping[str, str] = leaves(
        Named(text(MAX_NAME)),
        "a keyed hash of the data that were read, with a secret of the hospital that never leaves; versions of this "
        "package, of Python and of PyTorch; the kind of processor and of GPU",
        "the results list them, and show whether two studies read the same data",
        default_factory=dict,
    )
    out_of_fold: Mapping[str, Mapping[str, float]] = leaves(
        Named(number(-MAX_SUM, MAX_SUM, nan=True), deep=True),
        "after the last fold of a study of several, the same metrics of all its patients, each scored by the network "
        "that was trained without that patient",
        "the results list them by hospital",
        default_factory=dict,
    )
    scorings: int = leaves(
        whole(0, MAX_SCORINGS),
        "how many networks, of any study, have been scored on these test patients",
        "the results say how often they were used",
        default=0,
    )


@dataclass(frozen=True)
class PrepareRequest(Request[PrepareReply]):
    """Asks a site for its counts, before round 1."""

    KIND: ClassVar[str] = PREPARE
    REPLY: ClassVar[type[Reply]] = PrepareReply


@dataclass(frozen=True, kw_only=True)
class InitialWeightsReply(Payload):
    """That a site has the first weights."""

    kept: int = carries(whole(0, MAX_ARRAYS), "how many arrays of the network it keeps for all rounds")


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
