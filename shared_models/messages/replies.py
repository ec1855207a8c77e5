"""Replies of a site in a study, in their order: what leaves it, why, and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shared_models.features import FeatureStatistics
from shared_models.messages.arrays import Arrays
from shared_models.messages.fields import (
    MAX_PATIENTS,
    MAX_SUM,
    MAX_WEIGHT,
    Named,
    TableSums,
    Tensors,
    flag,
    number,
    text,
    whole,
)
from shared_models.messages.parts import MAX_NAME
from shared_models.messages.payload import Payload, Reply, carries, leaves

PATIENTS = whole(0, MAX_PATIENTS)
MAX_ARRAYS = 10_000
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
        "continuous target, the known values and their sum); without secure aggregation the sum, and all counts of a "
        "fold, in steps of five patients",
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
    steps: int = leaves(
        whole(0, MAX_PATIENTS),
        "where the aggregation rule has a half at the sites, how many steps the training took; patients, batches and "
        "passes say as much",
        "with secure aggregation weights are added up as the mean change of a step",
        "summed",
        default=0,
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
        "(`importance`) is shuffled between them or absent; with `importance = shap` sums of each feature's absolute "
        "Shapley value, in steps that hide one patient",
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
        "patients, AUC and C-index in steps that hide one patient, all else to two digits, where each class has "
        "`minimum_count` patients or more",
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


@dataclass(frozen=True, kw_only=True)
class InitialWeightsReply(Payload):
    """That a site has the first weights."""

    kept: int = carries(whole(0, MAX_ARRAYS), "how many arrays of the network it keeps for all rounds")
