"""Privacy section of a study's results: what was protected, how, and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.secure_aggregation.study import terms_of
from shared_models.study_settings import StudySettings


class PrivacySection(BaseModel):
    """What was protected, how, and what was not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str | None = Field(description="whose presence differential privacy hides; null without it")
    mechanism: str | None = Field(description="how; null without it")
    delta: str | None = Field(description="at which delta; null without it")
    covered_by_noise: list[str] = Field(description="what left the sites under noise")
    not_covered_by_noise: list[str] = Field(description="what left the sites without")
    only_in_sums_of_three_sites_or_more: list[str] = Field(description="what the center saw only in secure aggregation")
    colluders: int | None = Field(
        description="how many sites together with the center secure aggregation holds against; null without it"
    )
    sites_with_unverified_keys: list[str] = Field(
        description="sites that took the public keys of others from the center, in secure aggregation"
    )
    said: str = Field(description="the same, as people read it")


def privacy_section(config: StudySettings, unverified: Sequence[str] = ()) -> PrivacySection:
    """The `privacy` of `results.json`; `said` is the paragraph that people read.

    Args:
        config: The study.
        unverified: Sites that took the public keys of others from the center.

    Class weights and feature statistics get no noise and no charge: they are sums over training patients, which
    secure aggregation hides and nothing else does. A site's metrics are coarse (the site's `minimum_count`), and not
    noised. Sums that a simulation made without masks hid nothing.
    """
    private, secure = config.privacy == "patient", _hidden_in_sums(config)
    return PrivacySection(
        unit="patient" if private else None,
        mechanism=_mechanism(config) if private else None,
        delta="each site's own" if private else None,
        covered_by_noise=["weights"] if private else [],
        not_covered_by_noise=[
            *([] if private else ["weights", "mean training losses"]),
            *_sums(config),
            *_OF_A_SITE,
        ],
        only_in_sums_of_three_sites_or_more=["weights", *_sums(config)] if secure else [],
        colluders=terms_of(config).colluders if secure else None,
        sites_with_unverified_keys=list(unverified),
        said=" ".join(filter(None, (_noise_text(config), _sums_text(config), _keys_text(config, unverified)))),
    )


def _hidden_in_sums(config: StudySettings) -> bool:
    from server.study.secure_aggregation.secure_exchange import SUMS
    from server.study.secure_aggregation.summing import SecureAggregation

    return uses_secure_aggregation(config) and SUMS.get() is SecureAggregation


_OF_A_SITE = ["numbers of patients of each site", "test metrics of each site, rounded"]


def _keys_text(config: StudySettings, unverified: Sequence[str]) -> str:
    if not uses_secure_aggregation(config):
        return ""
    if not _hidden_in_sums(config):
        return (
            "The sums are those of secure aggregation, which the study would use, without its masks: this is a "
            "simulation of many sites in one process."
        )
    strength = (
        f"Secure aggregation holds against the center and up to {terms_of(config).colluders} of the sites together"
    )
    if unverified:
        took = "took other sites' public keys from the center, which must have been honest at the start"
        return f"{strength}; {', '.join(unverified)} {took} (no `policy.partners`)."
    return f"{strength}; all sites had each other's public keys from themselves."


def _sums(config: StudySettings) -> list[str]:
    made = ["z-scores", *(["class weights"] if config.class_weights == "balanced" else [])]
    made += ["ComBat's reference"] if config.harmonised_tables else []
    return [
        "counts of classes",
        f"sums of features, and what is made of them and of counts ({', '.join(made)})",
        "validation and test patients' scores, counted and summed in bins and pairs",
    ]


def _mechanism(config: StudySettings) -> str:
    noise = f"{config.noise_multiplier:g} times that norm, or the site's own least noise where that is more"
    if config.target_epsilon:
        noise = f"the least that keeps this study below epsilon {config.target_epsilon:g} at the site"
    return (
        f"DP-SGD: patients drawn by Poisson sampling, each one's gradient clipped to norm {config.clip_norm:g}, "
        f"Gaussian noise on their sum, its deviation {noise}"
    )


def _noise_text(config: StudySettings) -> str:
    if config.privacy == "none":
        return "No differential privacy: nothing that left the sites had noise on it, the weights included."
    return (
        "Differential privacy: the unit is the patient, and what is covered is each site's weights. "
        f"{_mechanism(config)}. Delta and the epsilon spent are each site's own, in its ledger."
    )


def _sums_text(config: StudySettings) -> str:
    sums, own = "; ".join(_sums(config)), " and ".join(_OF_A_SITE)
    uncovered = "Not covered by noise" if config.privacy == "patient" else "Besides the weights, these left the sites"
    if _hidden_in_sums(config):
        return (
            f"{uncovered}, but with the weights seen by the center only as sums over three sites or more: "
            f"{sums}. {uncovered} and seen site by site: {own}."
        )
    return f"{uncovered}: {sums}; {own}. There was no secure aggregation: the center saw all of it site by site."
