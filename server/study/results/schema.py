"""Schema of a study's `results.json`.

`docs/results.md` and `docs/results.schema.json` are generated from the models here; `contents.py` fills them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from server.study.results.aggregation_section import AggregationSection
from server.study.results.comparison_section import MatrixCell, ModelComparison
from server.study.results.importance_section import ImportanceResults
from server.study.results.patients_section import PatientFlow
from server.study.results.privacy_section import PrivacySection
from server.study.results.start_section import StartSection
from server.study.results.survival_section import Survival

SCHEMA_VERSION = 3
Number = float | None
Metric = Number | list[Number]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BetweenSites(_Section):
    """Random-effects summary of the sites' own values of a metric (REML, Hartung-Knapp), on the logit scale."""

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


class SubgroupResults(_Section):
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


class SubgroupOfSite(_Section):
    """One site's test patients in one subgroup; a small one is withheld."""

    target: str = Field(description="the target")
    column: str = Field(description="the column")
    subgroup: str = Field(description="its range or category")
    metrics: dict[str, Number] = Field(description="as the site reports for all its test patients")


class TargetResults(_Section):
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


class SiteResults(_Section):
    """One site's patients, and its own metrics."""

    site: str = Field(description="the name under which the center registered it")
    role: Literal["train", "evaluate"] = Field(description="whether it trained, or was only scored")
    patients: dict[str, int] = Field(description="patients by part of the split: train, validation, test")
    modalities: dict[str, bool | int] = Field(
        description="training patients by modality; with secure aggregation only whether there are any"
    )
    excluded: int = Field(description="patients with files that cannot be used")
    since_round: int = Field(
        default=1,
        description="from which round on it took part: 1, or a later one where it enrolled late, so that its patients "
        "are not in the feature statistics",
    )
    endpoints: dict[str, str] = Field(
        default={}, description="by target, what counts as it and what becomes of deaths without it, as the site says"
    )
    differences: list[str] = Field(
        default=[],
        description="what of its tables and outcomes is unlike the other sites' before round 1, such as a mean in "
        "another unit; none with secure aggregation, where each site learns it at the site",
    )
    flow: PatientFlow | None = Field(
        description="its patients by outcome, who was left out, and characteristics; null with secure aggregation, "
        "where only sums over sites are known, and where it gave no test scores"
    )
    fingerprint: str = Field(
        description="the same where the site read the same data, split alike: a hash keyed by a secret of the site"
    )
    software: str = Field(description="versions that it ran")
    hardware: str = Field(description="what it ran on")
    targets: dict[str, dict[str, Number]] = Field(
        description="metrics of its test patients by target, computed and rounded there; null where undefined, or of "
        "fewer patients than the site lets out; in a study with folds of all its patients, each scored by the network "
        "that was trained without that patient, or without the site"
    )
    personal: dict[str, dict[str, Number]] = Field(
        default={},
        description="of a study with `personal`, the same metrics of the site's own network on the same test patients, "
        "by target; none of a target that it has too few training patients to learn by itself",
    )
    out_of_fold: dict[str, dict[str, Number]] = Field(
        default={},
        description="in the last fold of a repeat: these metrics over all its folds, as the site computed them",
    )
    curves: dict[str, dict[str, list[Number]]] = Field(
        default={},
        description="by target, its ROC, precision-recall, calibration and decision curve with their bands, by the "
        "names below, from the merged cells that it told; none with secure aggregation, of a study of folds, or of too "
        "few patients for a band of the ROC curve of 0.4 on average",
    )
    subgroups: list[SubgroupOfSite] = Field(
        default=[], description="its metrics by subgroup, where the study names any; none in a study with folds"
    )
    scorings: int = Field(
        default=0,
        description="how many networks, of any study, have been scored on these test patients, as the site counts; 0 "
        "if it does not say",
    )


class ExternalValidation(_Section):
    """The study's network at hospitals that were not in the study, scored after it had ended."""

    sha256: str = Field(description="of the network, its standardisation and its thresholds")
    round: int = Field(description="the round after which these were its weights")
    finished: str = Field(description="when the last answer was added, UTC")
    sites: list[SiteResults] = Field(description="results of each hospital")
    targets: dict[str, TargetResults] = Field(description="results over all of them, by target; under `external`")
    problems: dict[str, str] = Field(description="why hospitals that were asked gave no scores, by site")


class UpdateInfluence(_Section):
    """How one site's update stood to the others of its round."""

    norm: float = Field(description="L2 norm of the change it made to the model, as it came")
    cosine: Number = Field(
        description="between that change and the mean of the others' after clipping; null where one is 0"
    )
    clipped: bool = Field(description="whether its norm was scaled down to the bound")


class Spent(_Section):
    """What a study has spent of a site's privacy, as the site says."""

    epsilon: float = Field(description="of this study alone, all its charges so far together")
    delta: float = Field(description="at which it holds")


class RoundAttempt(_Section):
    """One attempt of a round of training."""

    round: int = Field(description="the round, from 1")
    attempt: int = Field(description="which attempt of it, from 1")
    asked: list[str] = Field(description="sites that were asked to train")
    counted: list[str] = Field(description="sites whose updates counted")
    problems: dict[str, str] = Field(description="why others did not count, by site")
    updates: dict[str, UpdateInfluence] = Field(
        description="each update's influence, by site; empty with secure aggregation, where no single update is seen"
    )
    spent: dict[str, Spent] = Field(
        default={}, description="what the study has spent until then, by site; empty without private training"
    )
    seconds: float = Field(description="how long the attempt took")


class FoldResults(_Section):
    """One fold of a study of several; all of it is in the `results.json` of the folder of its name."""

    fold: str = Field(description="its name, and its folder's beside this file")
    repeat: int = Field(description="which repeat it is of, from 1")
    left_out: str = Field(description="the site that did not train in it; empty where a part of each site's patients")
    rounds_completed: int = Field(description="rounds that counted")
    best_round: int = Field(description="the round whose weights were tested")
    targets: dict[str, TargetResults] = Field(description="its own results over all sites, by target")
    sites: list[SiteResults] = Field(description="its own results of each site")


class Results(_Section):
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
