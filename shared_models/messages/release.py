"""Release that a request comes from: every request says it, so that two releases that differ are told in a sentence.

A site of another release would otherwise fail on a message that it cannot read, or count something else under the same
name. A package of another version may take part as long as its messages and the task are the same.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from importlib.metadata import version

from flwr.app import ConfigRecord, RecordDict

from shared_models.installation import DISTRIBUTION
from shared_models.messages.comparison import EvaluateComparisonRequest
from shared_models.messages.external import EvaluateExternalRequest
from shared_models.messages.fields import text
from shared_models.messages.parts import VALUES, Parts
from shared_models.messages.payload import RELEASE, Payload, Request, carries, fields_of
from shared_models.messages.requests import REQUESTS
from shared_models.messages.secure import EXCHANGES
from shared_models.metrics.summary import shape_of_counts
from shared_models.study_settings import StudySettings
from shared_models.task import load_task

MAX_RELEASE = 200
MESSAGES = ", messages "
"""What follows it in the text must be the same at both; what comes before may differ."""


@dataclass(frozen=True, kw_only=True)
class FromRelease(Payload):
    """The release that a request comes from."""

    release: str = carries(
        text(MAX_RELEASE), "the center's version of this package, and hashes of its messages and of the task"
    )

    @classmethod
    def read_if_there(cls, parts: Parts) -> str:
        """Takes it out of a request's parts; empty where the request does not say it."""
        return cls.read_from(parts).release if RELEASE in parts.values else ""


@functools.lru_cache(maxsize=8)
def release_of(config: StudySettings) -> str:
    """This installation's version, and what its messages and the study's task are made of, as short hashes."""
    task = load_task(config)
    contents = [(name, task.modalities[name]) for name in task.modalities]
    counts = [(name, shape_of_counts(target)) for name, target in sorted(task.targets.items())]
    science = (contents, sorted(task.targets.items()), sorted(task.weights.items()), counts)
    return f"{DISTRIBUTION} {version(DISTRIBUTION)}{MESSAGES}{_messages_hash()}, task {_short(repr(science))}"


def differ(one: str, other: str) -> bool:
    """Whether two releases cannot take part in one study: their messages or the task differ."""
    return one.partition(MESSAGES)[2] != other.partition(MESSAGES)[2]


def from_release(content: RecordDict, config: StudySettings) -> RecordDict:
    """A request with the release that it comes from."""
    values = content.get(VALUES)
    if not isinstance(values, ConfigRecord):
        return content
    return RecordDict({**content, VALUES: ConfigRecord({**values, RELEASE: release_of(config)})})


@functools.cache
def _messages_hash() -> str:
    """A hash of the names and kinds of all fields of all messages."""
    kinds = [(request.KIND, fields_of(one)) for request in _ALL for one in (request, request.REPLY)]
    return _short(
        repr([(kind, [(name, type(facts["kind"]).__name__) for name, facts in of.items()]) for kind, of in kinds])
    )


_ALL: tuple[type[Request[Payload]], ...] = (
    *REQUESTS,
    EvaluateExternalRequest,
    EvaluateComparisonRequest,
    *EXCHANGES,
)


def _short(written: str) -> str:
    return hashlib.sha256(written.encode()).hexdigest()[:8]
