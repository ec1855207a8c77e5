"""Reader of a study's settings: its TOML file, and `--set KEY=VALUE` of a command line over it."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings

UNUSABLE = "the study's settings cannot be used"
SET = "--set"
SHOWN = 100
"""Letters of an assignment in a message: one may list thousands of features."""


class UnreadableStudyError(SettingsError):
    """The study's file cannot be read at all."""


def read_study(file: Path | None, assignments: Sequence[str] = (), strategies: Sequence[str] = ()) -> StudySettings:
    """The settings of a study.

    Args:
        file: A TOML file of `key = value` lines; None for the defaults.
        assignments: `key=value` words, which win over the file; of two with the same key, the last one wins.
        strategies: The aggregation rules there are; empty where only the center knows them.

    Raises:
        SettingsError: With every key or value that cannot be used, and the nearest key for a misspelt one.
        UnreadableStudyError: If there is no such file, or it may not be read.
    """
    values = _normalised(_read_toml(file) if file else {}) | _normalised(parse_assignments(assignments))
    try:
        return parse_study_settings(values, source="", strategies=strategies)
    except SettingsError as error:
        words = (word if len(word) <= SHOWN else f"{word[:SHOWN]}..." for word in assignments)
        where = " and ".join([*([str(file)] if file else []), *(f"{SET} {word}" for word in words)])
        fix = "correct them; docs/study_settings.md explains every key"
        raise SettingsError(UNUSABLE, where=where, found=str(error), fix=fix) from None


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Reads `key=value` words of a command line; a value is TOML, or else taken as text.

    Raises:
        SettingsError: If a word has no `=`.
    """
    values: dict[str, Any] = {}
    for word in assignments:
        key, equals, text = word.partition("=")
        if not equals:
            raise SettingsError(UNUSABLE, where=SET, found=repr(word), expected="KEY=VALUE, as in rounds=30")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def add_fold_options(parser: argparse.ArgumentParser) -> None:
    """Options of a command line for a study of several folds, and for one that starts again."""
    parser.add_argument("--folds", type=int, metavar="K", help="cross-validation: shorthand for --set folds=K")
    parser.add_argument("--repeats", type=int, metavar="R", help="with --folds: R times, with other folds")
    parser.add_argument("--leave-out", choices=("none", "each"), help="each: every site is left out in turn")
    parser.add_argument(
        "--overwrite", action="store_true", default=None, help="replace the study's results and checkpoints, if any"
    )


def take_fold_options(options: dict[str, Any]) -> list[str]:
    """Takes these options out of a command line's, as `key=value` words."""
    given = {key: options.pop(key) for key in ("folds", "repeats", "leave_out", "overwrite")}
    return [f"{key}={str(value).lower()}" for key, value in given.items() if value is not None]


def separate_assignments(words: Sequence[str]) -> list[str]:
    """`--set a=1 b=2` as `--set a=1 --set b=2`, so that argparse takes both, and leaves the words after them.

    >>> separate_assignments(["run", "--set", "rounds=3", "seed=1", "study.toml"])
    ['run', '--set', 'rounds=3', '--set', 'seed=1', 'study.toml']
    """
    separated: list[str] = []
    after_set = False  # or after one of its assignments
    for word in words:
        assigns = after_set and "=" in word and not word.startswith("-")
        separated += [SET, word] if assigns and separated[-1] != SET else [word]
        after_set = assigns or word == SET or word.startswith(f"{SET}=")
    return separated


def _normalised(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as the settings' fields are named, so that `min-sites` wins over `min_sites` wherever it comes later."""
    return {key.replace("-", "_"): value for key, value in values.items()}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        fix = "check the path, and who may read the file"
        raise UnreadableStudyError(UNUSABLE, where=file, found=str(error.strerror), fix=fix) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        expected = 'TOML: lines as: study = "recurrence"'
        fix = "correct the file, or ask for it again"
        raise SettingsError(UNUSABLE, where=file, found=str(error), expected=expected, fix=fix) from None
