"""Comparison of two finished networks: the settings that a hospital approves, and what may be compared at all.

A comparison is a study of its own that trains nothing. Its settings are those of the first study; `compares` names
both studies, `compares-sha256` their networks, and `compares-settings` what of the second study's settings differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared_models.agreed import CENTERS_OWN
from shared_models.messages.comparison import pair_of
from shared_models.secure_aggregation.choice import MIN_SITES, uses_secure_aggregation
from shared_models.settings import SettingsError, parse_settings
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.targets import Regression, Target
from shared_models.task import Task, load_task
from shared_models.trained_model import TrainedModel

SPLIT = (
    "split",
    "split_seed",
    "validation_fraction",
    "test_fraction",
    "folds",
    "repeats",
    "leave_out",
    "evaluation_only_sites",
)
"""What decides who the test patients are."""
NOT_OF_SCORING: Mapping[str, Any] = {
    "canary": False,
    "require_sites": "",
    "privacy": "none",
    "target_epsilon": 0.0,
    "strategy": "fedavg",
    "initial_weights": "seeded",
    "initial_weights_file": "",
    "initial_weights_sha256": "",
    "trained": "all",
    "personal": "off",
    "importance": "off",
    "report": "",
    "subgroups": "",
    "auto_resume": 0,
    "resume": False,
    "overwrite": False,
}
"""Settings of training and of a study's own test, as a comparison has them."""
_SHARED = frozenset(
    {
        *SPLIT,
        *NOT_OF_SCORING,
        *(key.replace("-", "_") for key in CENTERS_OWN),
        *("study", "sites", "min_sites", "colluders", "secure_aggregation"),
        *("compares", "compares_sha256", "compares_settings"),
    }
)
"""Settings that both networks of a comparison have as the first study had them, or as the comparison has."""
MAX_NAME, DIGITS = 64, 12


def comparison_settings(first: TrainedModel, second: TrainedModel, sites: Sequence[str]) -> StudySettings:
    """The settings of a comparison at some sites: what they approve.

    Raises:
        SettingsError: If the two cannot be compared: other test patients, another task, no outcome in common, or sums
            over too few sites.
    """
    require_comparable(first, second)
    names, pair = (first.config.study, second.config.study), pair_of(first.sha256, second.sha256)
    changed = {
        **NOT_OF_SCORING,
        **_aggregation(first, second, sites),
        "study": _name(names, pair),
        "sites": ", ".join(sites),
        "compares": ", ".join(names),
        "compares_sha256": pair,
    }
    settings = first.config.model_dump() | changed
    theirs = second.config.model_dump() | changed
    other = {key: theirs[key] for key in settings if key not in _SHARED and theirs[key] != settings[key]}
    settings["compares_settings"] = json.dumps(other, sort_keys=True)
    config = parse_settings(StudySettings, settings, f"comparison of {names[0]} and {names[1]}")
    settings_compared(config)  # as each site reads them
    return config


def _name(names: tuple[str, str], pair: str) -> str:
    """The comparison's name, which is no study's own, however long theirs are."""
    name = f"{names[0]}-against-{names[1]}"
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - DIGITS - 1]}-{pair[:DIGITS]}"


def _aggregation(first: TrainedModel, second: TrainedModel, sites: Sequence[str]) -> dict[str, Any]:
    """How answers are added up: in sums alone where one of the studies had them, over as many sites as they take.

    Raises:
        SettingsError: If there are fewer sites than that.
    """
    configs = first.config, second.config
    colluders = max(config.colluders for config in configs)
    if not any(map(uses_secure_aggregation, configs)):
        return {"secure_aggregation": "off", "min_sites": 1, "colluders": colluders}
    least = max(MIN_SITES, colluders + 2)
    if len(sites) < least:
        msg = (
            f"{configs[0].study} and {configs[1].study} cannot be compared at {', '.join(sites)}: one of them had "
            f"secure aggregation, whose sums are over {least} sites or more; name as many that took part in both"
        )
        raise SettingsError(msg)
    return {"secure_aggregation": "on", "min_sites": least, "colluders": colluders}


def settings_compared(config: StudySettings) -> tuple[StudySettings, StudySettings]:
    """The settings by which a comparison's two networks are built and fed, each under its study's name.

    Raises:
        SettingsError: If `compares-settings` is no such text, or changes who is tested.
    """
    first, second = (name.strip() for name in config.compares.split(","))
    try:
        other = json.loads(config.compares_settings or "{}")
        if not isinstance(other, dict) or (wrong := _SHARED & other.keys()):
            msg = f"it may not change {', '.join(sorted(wrong))}" if isinstance(other, dict) else "it is no object"
            raise ValueError(msg)
        changed = {**config.model_dump(), **other, "study": second}
        flat = {key.replace("_", "-"): value for key, value in changed.items()}
        return config.model_copy(update={"study": first}), parse_study_settings(flat, "compares-settings")
    except ValueError as error:
        msg = f"compares-settings: {error}; `python -m server compare` writes these settings"
        raise SettingsError(msg) from None


def require_comparable(first: TrainedModel, second: TrainedModel) -> None:
    """Refuses two networks that no comparison of the same patients is possible of, in one sentence.

    Raises:
        SettingsError: If so.
    """
    one, other = first.config, second.config
    where = f"{one.study} and {other.study} cannot be compared: "
    if first.sha256 == second.sha256:
        raise SettingsError(where + "they are the same network; name two studies, or --checkpoint of one of them")
    if one.task != other.task:
        raise SettingsError(where + f"the tasks differ, {one.task} and {other.task}, so no outcome is the same")
    for study in (one, other):
        if study.folds or study.leave_out != "none":
            msg = f"{study.study} has folds, each with its own network and test patients; compare studies of one split"
            raise SettingsError(where + msg)
    if differ := [key for key in SPLIT if _sorted(getattr(one, key)) != _sorted(getattr(other, key))]:
        pairs = ((key.replace("_", "-"), getattr(one, key), getattr(other, key)) for key in differ)
        listed = "; ".join(f"{key} is {mine!r} and {theirs!r}" for key, mine, theirs in pairs)
        msg = f"they test other patients ({listed}); run one of them again with the other's split"
        raise SettingsError(where + msg)
    if not common_targets(first.task, second.task):
        raise SettingsError(where + "no outcome is the same in both, with the same definition")


def common_targets(first: Task, second: Task) -> list[str]:
    """The targets that two tasks share, equally defined; where their scores lie may differ."""
    theirs = second.targets
    return [name for name, target in first.targets.items() if name in theirs and _plain(target) == _plain(theirs[name])]


def _plain(target: Target) -> Target:
    """A target wherever its scores lie."""
    return target if isinstance(target, Regression) else replace(target, score_ranges=())


def _sorted(value: Any) -> Any:
    return sorted(name.strip() for name in value.split(",")) if isinstance(value, str) else value


def targets_compared(config: StudySettings) -> dict[str, Target]:
    """The targets of both networks of a comparison."""
    first, second = (load_task(one) for one in settings_compared(config))
    return {name: first.targets[name] for name in common_targets(first, second)}
