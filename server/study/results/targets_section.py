"""Targets section of a study's results: metrics over all sites, between them, by subgroup."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from server.study.results.importance_section import ImportanceResults
from server.study.results.section import Section
from shared_models.metrics.arrays import Metric, Number
from shared_models.metrics.risk_groups import Survival


class BetweenSites(Section):
    """Random-effects summary of the sites' own values of a metric, as logits (REML, modified Hartung-Knapp)."""

    sites: int = Field(description="sites that report their value and its interval")
    trained: int = Field(description="how many of them trained the network")
    mean: Number = Field(description="mean over sites")
    mean_low: Number = Field(description="lower bound of its 95 % interval")
    mean_high: Number = Field(description="upper bound")
    tau2: Number = Field(description="variance between sites, on the logit scale")
    i2: Number = Field(description="share of the sites' variance that is not chance")
    prediction_low: Number = Field(
        description="lower bound of the 95 % prediction interval of a new hospital's value; null below five sites"
    )
    prediction_high: Number = Field(description="upper bound")


class SubgroupResults(Section):
    """Test patients in one subgroup of a column that the study names."""

    column: str = Field(description="the column")
    subgroup: str = Field(
        description="its range or category; `others` have no value of the column or lie in none, or are of a subgroup "
        "that is too small at their site to be reported"
    )
    internal: dict[str, Metric] = Field(
        description="metrics as of all test patients of sites that train; but for the pooled C-index and, without "
        "secure aggregation, for what needs scores in bins"
    )
    external: dict[str, Metric] = Field(description="the same of the sites that do not train")


class TargetResults(Section):
    """One target's results over all sites."""

    threshold: Number = Field(description="decision threshold of a binary target; null for other targets")
    threshold_source: str = Field(description="where it comes from")
    horizon_days: Number = Field(description="horizon of a time-to-event target; null for other targets")
    internal: dict[str, Metric] = Field(
        description="metrics of the test patients of all sites that train, from summed statistics: see below; null "
        "where undefined"
    )
    external: dict[str, Metric] = Field(
        description="the same of the sites that do not train; with secure aggregation null where too few do not"
    )
    pooled: dict[str, Metric] = Field(
        description="the same of all of them together, which mixes patients of known and of new sites"
    )
    classes: list[str] = Field(description="of a target with classes, in the order of its metrics by class; else none")
    survival: dict[Literal["internal", "external"], Survival | None] = Field(
        description="of a time-to-event target, curves of risk groups and follow-up; null for others and of all folds"
    )
    subgroups: list[SubgroupResults] = Field(
        default=[], description="by subgroup, where the study names any; they and `others` are all patients"
    )
    between_sites: dict[str, BetweenSites] = Field(
        description="how a metric differs between sites, by its name; empty where fewer than three sites report theirs"
    )
    importance: dict[Literal["internal", "external"], list[ImportanceResults]] = Field(
        default={},
        description="what the scores of test patients lose with a modality or a feature shuffled between them, or "
        "absent; none of a network of one modality whose features are not asked for",
    )
