"""Hash of the study settings that hospitals approve."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings

Setting = bool | int | float | str
# How a refusal begins where a person at the hospital can let the study in: the center asks such a site again.
NOT_APPROVED = "the site has not approved this study"
OTHERWISE_APPROVED = "the site has approved this study with other settings"
# How an error begins of a site where training diverged: asked again, it would only diverge again.
DIVERGED = "training diverged"
# Where the center keeps results and a file of weights, how long and for whom it waits, whether it continues from a
# checkpoint, how often by itself, or starts again, what its report says besides, and which programs show its rounds.
# `round-attempts` is not one of these: each try is another training, and another charge to the privacy ledger.
CENTERS_OWN = frozenset(
    {
        "results-dir",
        "resume",
        "overwrite",
        "join-timeout-s",
        "round-timeout-s",
        "require-sites",
        "auto-resume",
        "initial-weights-file",
        "report",
        "tracking",
    }
)


def agreed_settings(config: StudySettings) -> dict[str, Setting]:
    """Every setting but those that concern the center alone."""
    return {key: value for key, value in config.to_flat().items() if key not in CENTERS_OWN}


def settings_hash(config: StudySettings) -> str:
    """SHA-256 of the agreed settings as JSON with sorted keys, in 64 hexadecimal digits."""
    text = json.dumps(agreed_settings(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
