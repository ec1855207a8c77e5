"""Plan of a sweep, SWEEP.toml: the study, its seeds, and the settings that vary, as a grid or for a search."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from server.study.aggregation.rules import rule_names
from shared_models.setting_types import Name
from shared_models.settings import Settings, SettingsError, nearest, parse_settings
from shared_models.study_file import read_study
from shared_models.study_settings import StudySettings

Value = bool | int | float | str
Training = Literal["federated", "pooled", "local"]
TRAININGS: tuple[Training, ...] = ("federated", "pooled", "local")
MAX_RUNS = 1_000
"""Of a sweep: with more, a search over the same settings tells as much."""
BEST_IS_CHANCE = "of many runs the best is partly so by chance"
_OTHER_PATIENTS = "patients whom one run tests would choose the settings of another"
_AFTER_TRAINING = "it changes what is scored at the end, which a sweep does not do"
_OWN = "each run of a sweep has its own"
NOT_VARIED: Mapping[str, str] = {
    **dict.fromkeys(("split", "split_seed", "validation_fraction", "test_fraction", "task"), _OTHER_PATIENTS),
    **dict.fromkeys(("folds", "repeats", "leave_out"), "a sweep has one split, whose test patients it leaves alone"),
    **dict.fromkeys(("threshold", "subgroups", "importance", "report", "personal"), _AFTER_TRAINING),
    **dict.fromkeys(("personal_epochs", "personal_pull", "validates", "validates_sha256"), _AFTER_TRAINING),
    "canary": "it trains one round of a deployment",
    **dict.fromkeys(("compares", "compares_sha256", "compares_settings"), _AFTER_TRAINING),
    **dict.fromkeys(("study", "results_dir", "resume", "overwrite"), _OWN),
    "seed": "`seeds` has them",
    **dict.fromkeys(("join_timeout_s", "round_timeout_s", "auto_resume"), "it changes nothing in a simulation"),
}


class Range(Settings):
    """Numbers that a search tries."""

    low: int | float = Field(description="the least")
    high: int | float = Field(description="the largest")
    log: bool = Field(False, description="whether their logarithms are tried evenly; `low` is then above 0")


def _seeds(value: Any) -> Any:
    return list(range(value)) if type(value) is int and 0 < value <= MAX_RUNS else value


def _grids(value: Any) -> Any:
    tables = [value] if isinstance(value, Mapping) else value
    return tables if not isinstance(tables, list) else [_listed(table) for table in tables]


def _listed(table: Any) -> Any:
    if not isinstance(table, Mapping):
        return table
    return {key: value if isinstance(value, list) else [value] for key, value in table.items()}


class SweepFile(Settings):
    """SWEEP.toml."""

    sweep: Annotated[Name, Field(max_length=48)] = Field(description="name of the sweep, and of its folder")
    study: Path = Field(description="the study's TOML file, from this file's folder")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seeds), Field(min_length=1)] = Field(
        (0, 1, 2), description="seeds of each setting's runs; a number N: 0 to N - 1"
    )
    grid: Annotated[tuple[dict[str, Annotated[list[Value], Field(min_length=1)]], ...], BeforeValidator(_grids)] = (
        Field((), description="tables of settings with their values: of each table all combinations are run")
    )
    search: dict[str, Range | Annotated[list[Value], Field(min_length=1)]] = Field(
        {}, description="settings with a range or values, of which a search (Optuna's TPE) chooses"
    )
    trials: int = Field(0, ge=0, description="with `search`: how many combinations it tries")


@dataclass(frozen=True)
class Point:
    """One combination of settings.

    Attributes:
        training: Over the sites (federated), on all their patients (pooled), or at each site alone (local).
        settings: What varies, as the file names it.
        config: The study with it.
    """

    training: Training
    settings: Mapping[str, Value]
    config: StudySettings

    @property
    def label(self) -> str:
        """Name of its row in a table."""
        varied = ", ".join(f"{key}={_text(value)}" for key, value in self.settings.items())
        return varied if self.training == "federated" and varied else ", ".join(filter(None, [self.training, varied]))


@dataclass(frozen=True)
class Sweep:
    """A sweep that can be run.

    Attributes:
        name: Its name.
        study: The study as it is where nothing varies.
        seeds: Of the runs of each point.
        points: Of a grid, in the file's order; none of a search.
        search: Of a search, by setting.
        trials: Of a search, how many points.
        source: The study's file and what the command line sets over it.
    """

    name: str
    study: StudySettings
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    search: Mapping[str, Range | list[Value]]
    trials: int
    source: tuple[Path, tuple[str, ...]]

    @property
    def runs(self) -> int:
        """How many there will be."""
        return len(self.seeds) * (len(self.points) or self.trials)

    def point(self, settings: Mapping[str, Value]) -> Point:
        """The study with some settings."""
        return _point(*self.source, settings)


def read_sweep(file: Path, assignments: Sequence[str] = ()) -> Sweep:
    """Reads a sweep and checks all of it: every combination of a grid, both ends and every value of a search.

    Args:
        file: SWEEP.toml.
        assignments: `key=value` words that win over the study's file.

    Raises:
        SettingsError: If a key or value cannot be used, or there are more than `MAX_RUNS` runs.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _refused(file, str(error.strerror), "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(file, str(error), "write it as docs/sweeps.md shows") from None
    plan = parse_settings(SweepFile, content, str(file))
    if bool(plan.grid) == bool(plan.search) or bool(plan.search) != bool(plan.trials):
        given = ", ".join(key for key in ("grid", "search", "trials") if getattr(plan, key)) or "none of them"
        raise _refused(file, given, "give [[grid]], or [search] and trials")
    _require_few(plan, file)
    source = (file.parent / plan.study, tuple(assignments))
    study = read_study(source[0], assignments, rule_names())
    for key in [*plan.search, *(key for table in plan.grid for key in table)]:
        _require_may_vary(key, file)
    points = tuple(_point(*source, settings) for settings in _combinations(plan.grid))
    for settings in _edges(plan.search, file):
        _point(*source, settings)
    for config in (study, *(point.config for point in points)):
        if config.folds or config.leave_out != "none" or config.trains_nothing or config.canary:
            wrong = "folds, leave-out, validates, compares or canary"
            raise _refused(source[0], wrong, NOT_VARIED["folds"] + ": take them out")
    return Sweep(plan.sweep, study, plan.seeds, points, plan.search, plan.trials, source)


def _point(file: Path, assignments: Sequence[str], settings: Mapping[str, Value]) -> Point:
    own = {key: value for key, value in settings.items() if key != "training"}
    words = [*assignments, *(f"{key}={json.dumps(value)}" for key, value in own.items())]
    training = settings.get("training", "federated")
    if training not in TRAININGS:
        msg = f"training: there is no {training!r}; {nearest(str(training), TRAININGS)}"
        raise SettingsError(msg)
    config = read_study(file, words, rule_names())
    if training != "federated" and (config.privacy == "patient" or config.normalisation == "local"):
        msg = f'training = "{training}" is without privacy = "patient" and normalisation = "local", which are of sites'
        raise SettingsError(msg)
    return Point(next(one for one in TRAININGS if one == training), own, config)


def _combinations(tables: Sequence[Mapping[str, Sequence[Value]]]) -> Iterator[dict[str, Value]]:
    for table in tables:
        for values in itertools.product(*table.values()):
            yield dict(zip(table, values, strict=True))


def _edges(search: Mapping[str, Range | list[Value]], file: Path) -> Iterator[dict[str, Value]]:
    """Each value and each end of a range, once, beside the first of all others."""
    ends = {key: [one.low, one.high] if isinstance(one, Range) else one for key, one in search.items()}
    for key, one in search.items():
        if isinstance(one, Range) and (not one.low < one.high or (one.log and one.low <= 0)):
            raise _refused(file, f"{key}: from {one.low} to {one.high}", "low < high, and with `log` 0 < low")
    first = {key: values[0] for key, values in ends.items()}
    for key, values in ends.items():
        for value in values:
            yield {**first, key: value}


def _require_few(plan: SweepFile, file: Path) -> None:
    points = plan.trials or sum(math.prod(len(values) for values in table.values()) for table in plan.grid)
    if (runs := points * len(plan.seeds)) > MAX_RUNS:
        given = f"{runs:,} runs: {points:,} combinations of settings with {len(plan.seeds)} seeds each"
        raise _refused(file, given, f"at most {MAX_RUNS:,}: give fewer values, or [search] with trials = 50")


def _require_may_vary(key: str, file: Path) -> None:
    names, field = {name.replace("_", "-") for name in StudySettings.model_fields} | {"training"}, key.replace("_", "-")
    if field not in names:
        msg = f"{file}: unknown setting {key!r}: {nearest(field, names)}"
        raise SettingsError(msg)
    if why := NOT_VARIED.get(field.replace("-", "_")):
        msg = f"{file}: {key} cannot vary: {why}"
        raise SettingsError(msg)


def _refused(where: Path, given: str, fix: str) -> SettingsError:
    return SettingsError("the sweep cannot be run", where=where, found=given, fix=fix)


def _text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
