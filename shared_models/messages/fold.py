"""Fold of a study that a request is of: what every request of a study of several folds carries besides."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from shared_models.folds import FoldSettings
from shared_models.messages.fields import whole
from shared_models.messages.parts import VALUES, Parts
from shared_models.messages.payload import Payload, carries
from shared_models.study_settings import StudySettings

FOLD = "fold"
MAX_FOLD = 10_000


@dataclass(frozen=True, kw_only=True)
class InFold(Payload):
    """Which of the approved folds a request is of."""

    fold: int = carries(whole(1, MAX_FOLD), "in a study of several folds, which of them")

    @classmethod
    def read_if_there(cls, parts: Parts) -> int:
        """Takes it out of a request's parts; 0 where the request is of none."""
        return cls.read_from(parts).fold if FOLD in parts.values else 0


def in_fold(content: RecordDict, config: StudySettings) -> RecordDict:
    """A request with the fold that these settings are of; as it is where they are a study's own."""
    if not isinstance(config, FoldSettings):
        return content
    values = content[VALUES]
    assert isinstance(values, ConfigRecord)
    return RecordDict({**content, VALUES: ConfigRecord({**values, FOLD: config.fold})})
