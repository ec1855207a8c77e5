"""Rounds section of a study's results: each attempt of a round, and how the updates stood to each other."""

from __future__ import annotations

from pydantic import Field

from server.study.results.section import Section
from shared_models.metrics.arrays import Number


class UpdateInfluence(Section):
    """How one site's update stood to the others of its round."""

    norm: float = Field(description="L2 norm of the change it made to the model, as it came")
    cosine: Number = Field(
        description="between that change and the mean of the others' after clipping; null where one is 0"
    )
    clipped: bool = Field(description="whether its norm was scaled down to the bound")


class Spent(Section):
    """What a study has spent of a site's privacy, as the site says."""

    epsilon: float = Field(description="of this study alone, all its charges so far together")
    delta: float = Field(description="at which it holds")


class RoundAttempt(Section):
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
