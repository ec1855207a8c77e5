"""Trained network of a study as a file: weights, settings, standardisation and thresholds, for use after the study.

It is read from a study's checkpoint, or from the smaller file that `python -m server export` writes for other
hospitals. Both are safetensors files whose metadata holds JSON; nothing in them is unpickled, and what does not fit the
task that is installed here is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shared_models.atomic_files import write_atomically
from shared_models.errors import UserError
from shared_models.folds import FoldSettings
from shared_models.messages import Arrays, StudyStatistics
from shared_models.messages.external import fingerprint
from shared_models.pooled_scores import thresholds, unpack
from shared_models.score_ranges import with_score_ranges
from shared_models.settings import SettingsError, parse_settings
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task

# Raised with what a checkpoint holds, and so with the shapes of the counts of scores in it.
CHECKPOINT, CHECKPOINT_VERSION = "breast-federation checkpoint", "4"
MODEL, MODEL_VERSION = "breast-federation model", "1"
RESEARCH_ONLY = "research only: not a medical device, not for decisions about a patient"
FIX = "ask the center for the file again, written by the release that is used here"


class ModelFileError(UserError):
    """A file of a trained network that cannot be used here."""

    default_exit_code = 4


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network as a study left it, and all that turns a patient's data into its input.

    Attributes:
        config: The study's settings.
        task: Its task, as it is installed here.
        round: The round after which these are the weights.
        weights: The network's arrays, by name.
        statistics: The study's frozen statistics, by which tables are standardised.
        thresholds: The decision threshold of each target that has one.
        score_ranges: Where its scores of validation patients lay, by target: thresholds are edges of bins made of it.
        trained_at: The sites whose patients it was trained on.
        package_version: Of the program that trained it.
        withdrawn: When a site withdrew from the study, by its name.
    """

    config: StudySettings
    task: Task
    round: int
    weights: Arrays
    statistics: StudyStatistics
    thresholds: Mapping[str, float]
    score_ranges: Arrays
    trained_at: Sequence[str]
    package_version: str
    withdrawn: Mapping[str, str]

    @cached_property
    def sha256(self) -> str:
        """Of the weights and all that scoring needs: the same in a checkpoint and in what is exported of it."""
        return fingerprint(self.weights, self.statistics.pack(), self.thresholds, self.score_ranges)


def read_model(path: Path) -> TrainedModel:
    """Reads a checkpoint, or a file of `write_model`.

    Raises:
        ModelFileError: If there is no such file, it is damaged, or of another format, release, task or network.
    """
    facts, arrays = _read(path)
    groups: dict[str, Arrays] = {"model": {}, "statistics": {}, "validation": {}, "score_ranges": {}}
    for name, array in arrays.items():
        group, _, key = name.partition(":")
        groups.setdefault(group, {})[key] = array
    _require_same_release(path, str(facts.get("package_version", "")))
    try:
        config = _settings(facts["config"])
        task = replace(load_task(config), subgroups=())  # which only a study's own test asks for
        task = with_score_ranges(task, groups["score_ranges"])
        statistics = StudyStatistics.unpack(groups["statistics"], task, config)
        weights = _weights(groups["model"], task, config)
        return TrainedModel(
            config=config,
            task=task,
            round=int(facts["round"]),
            weights=weights,
            statistics=statistics,
            thresholds=_thresholds(facts, groups["validation"], task, config),
            score_ranges=groups["score_ranges"],
            trained_at=_trained_at(facts),
            package_version=str(facts["package_version"]),
            withdrawn={str(site): str(day) for site, day in facts.get("withdrawn", {}).items()},
        )
    except SettingsError as error:
        _unusable(path, "its settings or its task are not those of this release", " ".join(str(error).split()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        _unusable(path, "it does not hold what its task needs", f"{type(error).__name__}: {error}")


def write_model(model: TrainedModel, path: Path) -> None:
    """Writes a network as a file for others: without the rounds, the counts and the states of its training.

    Raises:
        OSError: If it cannot be written.
    """
    arrays = {f"model:{name}": array for name, array in model.weights.items()}
    arrays |= {f"statistics:{name}": array for name, array in model.statistics.pack().items()}
    arrays |= {f"score_ranges:{name}": array for name, array in model.score_ranges.items()}
    facts = {
        "config": model.config.to_flat(),
        "round": model.round,
        "thresholds": dict(model.thresholds),
        "trained_at": list(model.trained_at),
        "package_version": model.package_version,
        "withdrawn": dict(model.withdrawn),
        "use": RESEARCH_ONLY,
    }
    metadata = {"format": MODEL, "format_version": MODEL_VERSION, "model": json.dumps(facts)}
    write_atomically(path, save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata))


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    if not path.is_file():  # a pipe would never end
        found, fix = "no such file", "correct the path"
        if path.is_dir():
            found, fix = "a folder", "name the file in it, as best.safetensors"
        raise ModelFileError(what="this is no checkpoint", where=path, found=found, fix=fix)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            stamp = (metadata.get("format"), metadata.get("format_version"))
            if stamp not in ((CHECKPOINT, CHECKPOINT_VERSION), (MODEL, MODEL_VERSION)):
                _unusable(path, "it is of another format", _stamp(*stamp))
            facts = json.loads(metadata["study" if stamp[0] == CHECKPOINT else "model"])
            return facts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        _unusable(path, "it is damaged, or not a file of safetensors", f"{type(error).__name__}: {error}")


def _stamp(name: str | None, number: str | None) -> str:
    if name in (CHECKPOINT, MODEL):
        reads = f"{CHECKPOINT_VERSION} of checkpoints, {MODEL_VERSION} of models"
        return f"{name}, format {number}; this release reads format {reads}"
    return "a file of safetensors by an earlier release, or by another program"


def _require_same_release(path: Path, written_by: str) -> None:
    """Refuses another release: it may read the same files to other values."""
    here = version("breast-federation")
    if written_by.split(".")[:2] != here.split(".")[:2]:
        raise ModelFileError(
            what="the checkpoint is of another release, which may preprocess patients' data differently",
            where=path,
            found=f"release {written_by or 'unknown'}",
            expected=f"release {'.'.join(here.split('.')[:2])}, as is installed here",
            fix="install the release that trained it, beside this one",
        )


def _settings(values: Mapping[str, Any]) -> StudySettings:
    if "fold" in values:
        return parse_settings(FoldSettings, values, "checkpoint")
    return parse_study_settings(values, "checkpoint")


def _weights(arrays: Arrays, task: Task, config: StudySettings) -> Arrays:
    """The network's arrays.

    Raises:
        ValueError: If their names, shapes or types are not the network's, or a number is none.
    """
    from shared_models.trained_parts import build_network

    network = build_network(task, config).state_dict()
    expected = {name: (tuple(value.shape), value.numpy().dtype) for name, value in network.items()}
    actual = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if wrong := sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name)):
        msg = f"the network of task {task.name} has {expected.get(wrong[0], 'no')} as {wrong[0]}, and the file "
        raise ValueError(msg + f"{actual.get(wrong[0], 'has none')}; {len(wrong)} arrays differ")
    if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        msg = f"{bad[0]} holds values that are not finite numbers"
        raise ValueError(msg)
    return arrays


def _thresholds(facts: Mapping[str, Any], validation: Arrays, task: Task, config: StudySettings) -> dict[str, float]:
    if "thresholds" in facts:
        by_target = {str(name): float(value) for name, value in facts["thresholds"].items()}
    elif validation or facts["best_value"] is None:  # as the study has chosen them
        chosen = thresholds(unpack(validation, task, config), config.threshold)
        by_target = {name: value for name, (value, _) in chosen.items()}
    else:  # the weights were not scored on validation patients
        by_target = {}
    for name, value in by_target.items():
        if name not in task.targets or not (math.isfinite(value) and 0 <= value <= 1):
            msg = f"threshold {value!r} of {name!r}"
            raise ValueError(msg)
    return by_target


def _trained_at(facts: Mapping[str, Any]) -> tuple[str, ...]:
    if "trained_at" in facts:
        return tuple(str(site) for site in facts["trained_at"])
    return tuple(sorted(site for site, counted in facts["enrolled"].items() if counted["trains"]))


def _unusable(path: Path, why: str, found: str) -> NoReturn:
    raise ModelFileError(what=f"the checkpoint cannot be used: {why}", where=path, found=found, fix=FIX)
