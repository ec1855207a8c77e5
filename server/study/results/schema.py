"""Schema of a study's `results.json`.

`docs/results.md` and `docs/results.schema.json` are generated from the models here; `contents.py` fills them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from server.study.results.aggregation_section import AggregationSection
from server.study.results.comparison_section import MatrixCell, ModelComparison
from server.study.results.patients_section import PatientFlow
from server.study.results.privacy_section import PrivacySection
from server.study.results.rounds_section import RoundAttempt
from server.study.results.section import Section
from server.study.results.sites_section import SiteResults
from server.study.results.start_section import StartSection
from server.study.results.targets_section import TargetResults
from shared_models.metrics.arrays import Number

SCHEMA_VERSION = 3


class ExternalValidation(Section):
    """The study's network at hospitals that were not in the study, scored after it had ended."""

    sha256: str = Field(description="of the network, its standardisation and its thresholds")
    round: int = Field(description="the round after which these were its weights")
    finished: str = Field(description="when the last answer was added, UTC")
    sites: list[SiteResults] = Field(description="results of each hospital")
    targets: dict[str, TargetResults] = Field(description="results over all of them, by target; under `external`")
    problems: dict[str, str] = Field(description="why hospitals that were asked gave no scores, by site")


class FoldResults(Section):
    """One fold of a study of several; all of it is in the `results.json` of the folder of its name."""

    fold: str = Field(description="its name, and its folder's beside this file")
    repeat: int = Field(description="which repeat it is of, from 1")
    left_out: str = Field(description="the site that did not train in it; empty where a part of each site's patients")
    rounds_completed: int = Field(description="rounds that counted")
    best_round: int = Field(description="the round whose weights were tested")
    targets: dict[str, TargetResults] = Field(description="its own results over all sites, by target")
    sites: list[SiteResults] = Field(description="its own results of each site")


class Results(Section):
    """What `results.json` holds."""

    schema_version: Literal[3] = Field(description="of this file; another one is refused")
    package_version: str = Field(description="of the program that wrote it")
    started: str = Field(description="when the first weights were made, UTC")
    finished: str = Field(description="when the results were")
    software: str = Field(description="versions that the center ran")
    hardware: str = Field(description="what it ran on")
    study: str = Field(description="the study's name")
    task: str = Field(description="the task's name")
    strategy: str = Field(description="the aggregation rule's name")
    rounds_completed: int = Field(description="rounds that counted, in all folds")
    best_round: int = Field(
        description="the round whose weights were tested; 0 in a study with folds: each has its own"
    )
    selected_by: str = Field(description="how that round was chosen")
    unscored: str = Field(
        default="",
        description="why no round could be judged on validation patients, so that the last one was taken, and what to "
        "do; empty where one could",
    )
    targets: dict[str, TargetResults] = Field(description="results over all sites, by target")
    sites: list[SiteResults] = Field(description="results of each site that was enrolled")
    flow: dict[Literal["internal", "external"], PatientFlow | None] = Field(
        description="patients of all sites that train, and of all others, as each site's; null where none reports "
        "them; in a study with folds as the first divides them"
    )
    not_enrolled: dict[str, str] = Field(description="why sites that were named or there did not take part, by site")
    problems: dict[str, str] = Field(description="why sites gave no test scores, by site")
    missing: dict[str, str] = Field(
        default={},
        description="sites that `sites` names and that had no part in the study or did not stay to its end, and why; "
        "then the exit code is 8, unless `require-sites` is a number and as many took part",
    )
    validation: list[tuple[int, Number]] = Field(
        description="round and validation value of its weights: mean over targets of AUC and C-index within sites "
        "(pooled where no site has pairs), macro F1, R2"
    )
    rounds: list[RoundAttempt] = Field(description="each attempt of a round")
    start: StartSection = Field(
        default_factory=StartSection, description="what the network began with, and what of it was trained"
    )
    aggregation: AggregationSection = Field(description="how updates became one model, and who was held back")
    privacy: PrivacySection = Field(description="what was protected, how, and what was not")
    config: dict[str, bool | int | float | str] = Field(description="all settings of the study")
    checkpoints: dict[str, str] = Field(
        description="files beside this one: the best and the last weights, or the best of each fold"
    )
    folds: list[FoldResults] = Field(
        default=[], description="of a study with folds each one; all else in this file is of all folds together"
    )
    withdrawn: dict[str, str] = Field(
        default={}, description="when a site withdrew after the study, by its name: these results are with it"
    )
    external_validation: ExternalValidation | None = Field(
        None, description="the network at hospitals that were not in the study; null where none was asked"
    )
    comparisons: list[ModelComparison] = Field(
        default=[], description="other models on the same test patients; in a simulation that asks for them"
    )
    matrix: list[MatrixCell] = Field(
        default=[], description="each site's own model at every site; in a simulation that asks for it"
    )
    failure: str | None = Field(
        None, description="why the study ended before its test; such a file is `unfinished.json`, of the same schema"
    )

    @property
    def untested(self) -> tuple[str, ...]:
        """The sites of the study that gave no test scores, or not in each fold."""
        return tuple(site.site for site in self.sites if site.site in self.problems)
