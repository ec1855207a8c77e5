"""Start section of a study's results: what the network began with, and what of it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.study.weights.delivery import frozen_of
from shared_models.messages import Arrays
from shared_models.study_settings import StudySettings
from shared_models.task import Bag, Task


class StartSection(BaseModel):
    """What the network began with, and what of it was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["seeded", "file"] = Field("seeded", description="random weights of the study's seed, or a file's")
    format: str = Field("", description="of the file: whose names its arrays had")
    sha256: str = Field("", description="of the arrays of the file, as hospitals approved it")
    arrays: int = Field(0, description="arrays of the network that are of the file")
    expected: int = Field(0, description="arrays that could have been")
    share: float = Field(0.0, description="share of their numbers")
    numbers: int = Field(0, description="numbers of the network")
    frozen: int = Field(0, description="how many of them stayed as they started, and travelled once")
    said: str = Field("", description="the same, as people read it")


def start_section(task: Task, config: StudySettings, start: Mapping[str, Any], model: Arrays) -> StartSection:
    """The `start` of `results.json`.

    Args:
        task: The study's task.
        config: Its settings.
        start: What the checkpoint says of the file.
        model: The network's arrays.
    """
    frozen = frozen_of(config)
    numbers = sum(array.size for array in model.values())
    still = sum(array.size for name, array in model.items() if name in frozen)
    sentences = [_source(config, start), *_random_networks(task, config)]
    if still:
        sentences.append(f"{still / numbers:.0%} of its {numbers:,} numbers stayed as they started.")
    section = {"numbers": numbers, "frozen": still, "said": " ".join(sentences)}
    if config.initial_weights == "file":
        section |= {"source": "file", "format": config.initial_weights_format, "sha256": config.initial_weights_sha256}
        section |= {"arrays": len(start["names"]), "expected": start["expected"], "share": start["share"]}
    return StartSection.model_validate(section)


def _source(config: StudySettings, start: Mapping[str, Any]) -> str:
    if config.initial_weights == "seeded":
        return f"The network started from random weights of seed {config.seed}."
    part = "the network" if config.initial_weights_format == "study" else f"the backbone {config.backbone}"
    fits = f"{len(start['names'])} of {start['expected']} arrays of {part}, {start['share']:.0%} of its numbers"
    return f"Weights of a file ({config.initial_weights_format}, SHA-256 {config.initial_weights_sha256[:12]}): {fits}."


def _random_networks(task: Task, config: StudySettings) -> list[str]:
    """What should have been trained before, and was not."""
    sentences = []
    if config.backbone != "task" and config.initial_weights == "seeded":
        sentences.append(f"NOT PRETRAINED: the backbone {config.backbone} has random weights, for want of a file.")
    if config.tile_network != "file" and any(isinstance(kind, Bag) for kind in task.modalities.values()):
        sentences.append(f"NOT PRETRAINED: features of tiles are of {config.tile_network}, whose weights are random.")
    return sentences
