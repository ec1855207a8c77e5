"""Sites section of a study's results: each site's patients, and its own metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from server.study.results.patients_section import PatientFlow
from server.study.results.section import Section
from shared_models.metrics.arrays import Number


class SubgroupOfSite(Section):
    """One site's test patients in one subgroup; a small one is withheld."""

    target: str = Field(description="the target")
    column: str = Field(description="the column")
    subgroup: str = Field(description="its range or category")
    metrics: dict[str, Number] = Field(description="as the site reports for all its test patients")


class SiteResults(Section):
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
