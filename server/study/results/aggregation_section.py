"""Aggregation section of a study's results: the rule, the clipping, and whether single updates were seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.study.aggregation.rule import load_rule
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings


class AggregationSection(BaseModel):
    """How updates became one model, and who was held back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: Literal["single updates", "sums"] = Field(description="what the rule needs to see of the updates")
    seen: Literal["single updates", "sums"] = Field(description="what the center saw of them")
    clip_updates: float = Field(description="the bound of an update's norm, in medians of its round; 0: none")
    updates: int = Field(description="single updates that counted, over all rounds")
    clipped: dict[str, int] = Field(description="how many of them were clipped, by site")
    said: str = Field(description="the same, as people read it")


def aggregation_section(config: StudySettings, history: Sequence[Mapping[str, Any]]) -> AggregationSection:
    """The `aggregation` of `results.json`, from the record of each attempt of a round."""
    influences = [(site, one) for record in history for site, one in record["updates"].items()]
    clipped: dict[str, int] = {}
    for site, one in influences:
        if one["clipped"]:
            clipped[site] = clipped.get(site, 0) + 1
    secure = uses_secure_aggregation(config)
    return AggregationSection(
        needs=load_rule(config).NEEDS,
        seen="sums" if secure else "single updates",
        clip_updates=0.0 if secure else config.clip_updates,
        updates=len(influences),
        clipped=clipped,
        said=_SUMS if secure else _sentence(config, len(influences), clipped),
    )


_SUMS = (
    "The center saw updates only in secure aggregation: it knows no single update's norm, and clipped none. One "
    "hostile site can replace the model unseen."
)


def _sentence(config: StudySettings, updates: int, clipped: Mapping[str, int]) -> str:
    if not config.clip_updates:
        return "Updates were not clipped: with a plain mean one hostile site can replace the model."
    bound = f"{config.clip_updates:g} times the median norm of its round"
    if not clipped:
        return f"No update was larger than {bound}."
    sites = ", ".join(f"{site} {count}" for site, count in sorted(clipped.items()))
    return f"{sum(clipped.values())} of {updates} updates were larger than {bound}, and were clipped to it: {sites}."
