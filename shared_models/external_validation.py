"""External validation of a finished network: the settings that a hospital approves, and the file sent by hand.

A validation is a study of its own that trains nothing: its settings are those of the finished study, and `validates`
and `validates-sha256` say which network is scored. The file holds the same reply that would travel over the protocol,
so that both ways give the same numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.bounded_json import parse_json
from shared_models.messages import Arrays, EvaluateExternalReply
from shared_models.messages.parts import Parts
from shared_models.study_settings import StudySettings
from shared_models.trained_model import RESEARCH_ONLY, ModelFileError, TrainedModel

FORMAT, FORMAT_VERSION = "breast-federation validation", 1
MAX_CHARACTERS = 20_000_000
MAX_NUMBERS = 10_000_000


@dataclass(frozen=True, eq=False)
class ValidationFile:
    """What a hospital tells of a finished network on its patients.

    Attributes:
        study: The study's name.
        sha256: The network's.
        site: The hospital's name.
        package_version: Of the program that scored it.
        reply: What it tells; no cell of few patients.
    """

    study: str
    sha256: str
    site: str
    package_version: str
    reply: EvaluateExternalReply


def validation_settings(model: TrainedModel, sites: Sequence[str]) -> StudySettings:
    """The settings of a validation at some sites: what they approve, and what scores alike by hand."""
    changed = {
        "study": f"{model.config.study.replace('/', '-')}-validation",
        "validates": model.config.study,
        "validates_sha256": model.sha256,
        "sites": ", ".join(sites),
        "evaluation_only_sites": ", ".join(sites),
        "min_sites": 1,
        "require_sites": "",
        "secure_aggregation": "off",
        "privacy": "none",
        "target_epsilon": 0.0,
        "strategy": "fedavg",
        "initial_weights": "seeded",
        "initial_weights_file": "",
        "initial_weights_sha256": "",
        "trained": "all",
        "folds": 0,
        "repeats": 1,
        "leave_out": "none",
        "report": "",
        "subgroups": "",
        "auto_resume": 0,
        "resume": False,
        "overwrite": False,
    }
    of_study = {key: value for key, value in model.config.model_dump().items() if key != "fold"}
    return StudySettings.model_validate({**of_study, **changed})


def write_validation(file: ValidationFile) -> str:
    """The file's text, in an order that does not depend on the way by which the reply came."""
    parts = Parts()
    file.reply.write_to(parts)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "use": RESEARCH_ONLY,
        "study": file.study,
        "sha256": file.sha256,
        "site": file.site,
        "package_version": file.package_version,
        "values": {name: _plain(value) for name, value in sorted(parts.values.items())},
        "arrays": {
            name: {key: _sparse(array) for key, array in sorted(of.items())}
            for name, of in sorted(parts.arrays.items())
        },
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_validation(path: Path) -> ValidationFile:
    """Reads what `write_validation` gave, and checks it as a message is checked.

    Raises:
        ModelFileError: If it is no such file, or holds anything that no such reply holds.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"), MAX_CHARACTERS)
        if (content.pop("format", None), content.pop("format_version", None)) != (FORMAT, FORMAT_VERSION):
            _refuse("it is of another format")
        values = {str(name): _number(value) for name, value in content["values"].items()}
        arrays = {str(name): _dense_all(of) for name, of in content["arrays"].items()}
        parts = Parts(values, arrays)
        reply = EvaluateExternalReply.read_from(parts)
        parts.require_nothing_left()
        texts = {name: _text(content, name) for name in ("study", "sha256", "site", "package_version")}
        return ValidationFile(**texts, reply=reply)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(
            what="the file of a validation cannot be used",
            where=path,
            found=f"{type(error).__name__}: {error}",
            expected="the file that `python -m client validate` wrote at the hospital, unchanged",
            fix="ask the hospital to send it again",
        ) from None


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _sparse(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """An array whose cells are mostly 0: its shape, and what is not 0."""
    flat = np.asarray(array, dtype=np.float64).ravel()
    at = np.flatnonzero(flat)
    return {"shape": list(array.shape), "at": at.tolist(), "values": flat[at].tolist()}


def _dense_all(arrays: Mapping[str, Any]) -> Arrays:
    return {str(name): _dense(array) for name, array in arrays.items()}


def _dense(array: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    shape, at = [int(side) for side in array["shape"]], np.asarray(array["at"], dtype=np.int64)
    size = math.prod(shape)
    if min(shape, default=0) < 0 or size > MAX_NUMBERS or ((at < 0) | (at >= size)).any():
        _refuse("an array that is larger than any, or has a number outside it")
    flat = np.zeros(size)
    flat[at] = np.asarray(array["values"], dtype=np.float64)
    return flat.reshape(shape)


def _text(content: Mapping[str, Any], name: str) -> str:
    text = content[name]
    if not isinstance(text, str) or not 0 < len(text) <= 200 or not text.isprintable():
        _refuse(f"{name} is no short text")
    return str(text)


def _refuse(why: str) -> None:
    raise ValueError(why)
