"""Parsing of settings (TOML, YAML) into frozen pydantic models, with errors that name the nearest key."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from shared_models.errors import UserError


class SettingsError(UserError, ValueError):
    """Settings that cannot be used: one line for each problem, each with its place and what is expected."""

    default_public = "the study settings are not valid at this site"
    default_exit_code = 3


RENAMED: Mapping[str, str] = {"measured": "extracted", "set_aside": "excluded"}
"""Words of earlier releases that a person may still write, and what they are called now."""


UNKNOWN = "unknown_key"


class Settings(BaseModel):
    """A frozen group of settings; keys may be written with `-` or `_`, unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys_only(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, Mapping):
            return validate(values)
        values = {str(key).replace("-", "_"): value for key, value in values.items()}
        unknown = [key for key in values if key not in cls.model_fields]
        known = {key: value for key, value in values.items() if key in cls.model_fields}
        hints = "; ".join(f"unknown key {key!r}: {nearest(key, cls.model_fields)}" for key in unknown[:10])
        try:
            checked = validate(known)
        except ValidationError as error:
            if not unknown:
                raise
            problems = [InitErrorDetails(type=PydanticCustomError(UNKNOWN, "{hints}", {"hints": hints}), input=values)]
            raise ValidationError.from_exception_data(cls.__name__, [*problems, *map(_again, error.errors())]) from None
        if unknown:
            raise ValueError(hints)
        return checked


_SHORT = reprlib.Repr()  # a few lines of YAML's aliases can stand for a list of billions
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200

Model = TypeVar("Model", bound=Settings)


def parse_settings(model: type[Model], values: Mapping[str, Any], source: str, context: Any = None) -> Model:
    """Validates `values` as `model`.

    Args:
        model: The settings class.
        values: What was read from `source`.
        source: Where it was read, for messages ("site_configs/duke.yaml"); empty where the caller's message says it.
        context: What the class's validators need to know besides.

    Raises:
        SettingsError: With every problem on a line of its own.
    """
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        place = f"{source}: " if source else ""
        problems = error.errors()
        inner = {problem["loc"][:-1] for problem in problems}  # without its invalid items, a list is also too short
        problems = [one for one in problems if one["type"] != "too_short" or one["loc"] not in inner]
        raise SettingsError("\n".join(f"{place}{_sentence(problem)}" for problem in problems)) from None


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a misspelt `name`: what it is called now, the nearest valid one, or all of them when none is near."""
    choices = sorted(names)
    if (now := RENAMED.get(name)) in choices:
        return f"{name!r} is now called {now!r}"
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"choose from: {', '.join(choices)}"


def _again(problem: Any) -> InitErrorDetails:
    """A problem as pydantic takes it."""
    kind = PydanticCustomError(UNKNOWN, problem["msg"]) if problem["type"] == UNKNOWN else problem["type"]
    return InitErrorDetails(type=kind, loc=problem["loc"], input=problem["input"], ctx=problem.get("ctx", {}))


def _sentence(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "(top level)"
    if problem["type"] == "missing":
        return f"{place} is missing, and has no default"
    given = problem.get("input")
    if problem["type"] == "union_tag_invalid":  # of what a key of the mapping chooses, as `reader` does
        key, tag, tags = (problem["ctx"][name] for name in ("discriminator", "tag", "expected_tags"))
        known = [name.strip("' ") for name in tags.split(",")]
        return f"{place}.{key.strip(chr(39))}: there is no {tag!r}; {nearest(tag, known)}"
    if isinstance(given, str):
        given = re.sub(r"\S+", _hide_password, given)
    shown = "" if isinstance(given, Mapping) else f" (found {_SHORT.repr(given)})"
    return f"{place}: {problem['msg'].removeprefix('Value error, ').removeprefix(f'{place}: ')}{shown}"


def _hide_password(word: re.Match[str]) -> str:
    """`scheme://***@host` of `scheme://user:password@host`: one pass, however long a center makes the word."""
    user, at, host = word[0].rpartition("@")
    scheme, mark, rest = user.partition("://")
    hidden = f"{scheme}{mark}***" if mark and ":" in rest else "***"
    return f"{hidden}{at}{host}" if ":" in (rest if mark else user) else word[0]
