"""Types of the study settings, each with its check.

A check compares a setting with those above it in `StudySettings`, of which `info.data` has the valid ones: so all
problems of a file are reported at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from shared_models.features import parse_features
from shared_models.grids import parse_grids
from shared_models.report_answers import answers_text, parse_answers
from shared_models.settings import nearest
from shared_models.subgroups import parse_subgroups

TRACKERS = ("tensorboard", "mlflow")
MAX_WEIGHTED_UPDATE = 2.0**29
"""So that the sum of a thousand sites' fits into the 64 bits of secure aggregation, 24 of them a fraction."""


def parse_edges(text: str) -> tuple[float, ...]:
    """Comma-separated ends of intervals, in days.

    Raises:
        ValueError: If they are not ascending positive numbers.
    """
    try:
        edges = tuple(float(day) for day in text.split(",") if day.strip())
    except ValueError:
        edges = (math.nan,)
    if list(edges) != sorted(set(edges)) or not all(0 < edge < math.inf for edge in edges):
        msg = "expected ascending positive days, separated by commas"
        raise ValueError(msg)
    return edges


def _features(text: str) -> str:
    parse_features(text)
    return text


def _subgroups(text: str) -> str:
    parse_subgroups(text)
    return text


def _grids(text: str) -> str:
    parse_grids(text)
    return text


def _edges(text: str) -> str:
    parse_edges(text)
    return text


def _switch(value: object) -> object:
    """`true` and `false` in a TOML file as on and off."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _report(value: object) -> object:
    """A `[report]` table, or the text that was made of one, as that text."""
    return answers_text(parse_answers(value)) if isinstance(value, Mapping | str) else value


def _strategy(name: str, info: ValidationInfo) -> str:
    if (known := (info.context or {}).get("strategies")) and name not in known:
        msg = f"there is no rule {name!r}; {nearest(name, known)}"
        raise ValueError(msg)
    return name


def _count(value: object) -> object:
    """A number in a TOML file as its digits."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _require_sites(asked: str, info: ValidationInfo) -> str:
    named = [name for name in info.data.get("sites", "").split(",") if name.strip()]
    if asked == "all" and not named:
        msg = "expected a number, or the names of all in `sites`"
        raise ValueError(msg)
    if named and asked.isdigit() and int(asked) > len(named):
        msg = f"expected at most {len(named)}, as many as `sites` names"
        raise ValueError(msg)
    return asked


def _tracking(text: str) -> str:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in TRACKERS]:
        msg = f"{unknown[0]!r} is none of {', '.join(TRACKERS)}, separated by commas"
        raise ValueError(msg)
    return ", ".join(dict.fromkeys(names))


def _threshold(rule: str) -> str:
    if not re.fullmatch(r"f1|youden|(sensitivity|specificity)=0\.[0-9]{1,4}", rule, re.ASCII):
        msg = "expected f1, youden, sensitivity=0.9 or specificity=0.9, or another value below 1"
        raise ValueError(msg)
    return rule


def _warmup_rounds(count: int, info: ValidationInfo) -> int:
    if count >= info.data.get("rounds", math.inf):
        msg = f"expected fewer than rounds = {info.data['rounds']}"
        raise ValueError(msg)
    return count


def _privacy(privacy: str, info: ValidationInfo) -> str:
    plain = {"oversampling": "none", "normalisation": "shared"}
    if privacy == "patient" and any(info.data.get(name, value) != value for name, value in plain.items()):
        msg = "oversampling mixes patients, local normalisation keeps their sums: neither can be private"
        raise ValueError(msg)
    if privacy == "patient" and info.data.get("personal", "off") != "off":
        msg = "expected personal = off: a site's own network has no noise, and its scores would tell of its patients"
        raise ValueError(msg)
    return privacy


def _secure_aggregation(switch: str, info: ValidationInfo) -> str:
    few, combat = info.data.get("min_sites", 3) < 3, info.data.get("harmonisation", "none") != "none"
    if switch == "on" and (few or combat):
        msg = "needs min_sites of 3 or more, and no ComBat, which takes each site's sums"
        raise ValueError(msg)
    return switch


def _colluders(count: int, info: ValidationInfo) -> int:
    if info.data.get("secure_aggregation") == "on" and info.data.get("min_sites", math.inf) < count + 2:
        msg = f"of min_sites = {info.data['min_sites']} at least two must not be among them"
        raise ValueError(msg)
    return count


def _patients_bound(count: int, info: ValidationInfo) -> int:
    if count * info.data.get("update_bound", 0.0) >= MAX_WEIGHTED_UPDATE:
        msg = f"times update_bound = {info.data['update_bound']:g} it must be less than {MAX_WEIGHTED_UPDATE:g}"
        raise ValueError(msg)
    return count


def _folds(count: int, info: ValidationInfo) -> int:
    if count == 1:
        msg = "expected 2 or more, or 0 for one split"
        raise ValueError(msg)
    if count and info.data.get("personal", "off") != "off":
        msg = "expected one split beside `personal`: the results compare networks on one split's test patients"
        raise ValueError(msg)
    return count


def _repeats(count: int, info: ValidationInfo) -> int:
    if count > 1 and not info.data.get("folds", 2):
        msg = "expected `folds` beside it: each repeat has other folds"
        raise ValueError(msg)
    return count


def _leave_out(which: str, info: ValidationInfo) -> str:
    if which != "none" and info.data.get("folds"):
        msg = "expected it or `folds`, not both: these test each site's own patients, it tests a site as a whole"
        raise ValueError(msg)
    if which != "none" and info.data.get("personal", "off") != "off":
        msg = "expected none beside `personal`: a site that is left out has no network of its own"
        raise ValueError(msg)
    return which


def _overwrite(switch: bool, info: ValidationInfo) -> bool:
    if switch and info.data.get("resume"):
        msg = "expected it or `resume`, not both"
        raise ValueError(msg)
    return switch


def _test_fraction(share: float, info: ValidationInfo) -> float:
    folds = info.data.get("folds")
    if folds and info.data.get("validation_fraction", 0.0) + 1 / folds >= 1.0:
        share = info.data["validation_fraction"]
        msg = f"validation_fraction = {share:g} and a fold of {folds} leave no patients to train on"
        raise ValueError(msg)
    if not folds and share + info.data.get("validation_fraction", 0.0) >= 1.0:
        msg = f"with validation_fraction = {info.data['validation_fraction']:g} it must leave patients to train on"
        raise ValueError(msg)
    return share


Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Features = Annotated[str, AfterValidator(_features)]
Subgroups = Annotated[str, AfterValidator(_subgroups)]
Grids = Annotated[str, AfterValidator(_grids)]
Edges = Annotated[str, AfterValidator(_edges)]
Strategy = Annotated[Name, AfterValidator(_strategy)]
RequireSites = Annotated[
    str, BeforeValidator(_count), Field(pattern=r"^(all|[1-9][0-9]{0,4})?$"), AfterValidator(_require_sites)
]
Threshold = Annotated[str, AfterValidator(_threshold)]
Tracking = Annotated[str, AfterValidator(_tracking)]
WarmupRounds = Annotated[int, AfterValidator(_warmup_rounds)]
Privacy = Annotated[Literal["none", "patient"], AfterValidator(_privacy)]
Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
SecureAggregation = Annotated[Switch, AfterValidator(_secure_aggregation)]
Colluders = Annotated[int, AfterValidator(_colluders)]
PatientsBound = Annotated[int, AfterValidator(_patients_bound)]
OptionalName = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$")]
Folds = Annotated[int, AfterValidator(_folds)]
Repeats = Annotated[int, AfterValidator(_repeats)]
LeaveOut = Annotated[Literal["none", "each"], AfterValidator(_leave_out)]
Overwrite = Annotated[bool, AfterValidator(_overwrite)]
TestFraction = Annotated[Fraction, AfterValidator(_test_fraction)]
Report = Annotated[str, BeforeValidator(_report)]
