"""Resumption of a study from its last checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from server.study.exchange import StudyError
from server.study.weights.checkpoint import LAST, Checkpoint, approval_notice, load_checkpoint
from shared_models.agreed import CENTERS_OWN
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
MAY_DIFFER = frozenset({"rounds", "round-attempts", *CENTERS_OWN})


def resume(folder: Path, config: StudySettings) -> Checkpoint:
    """The study's last checkpoint, if it is the same study."""
    state = load_checkpoint(folder / LAST)
    own = version("breast-federation")
    if state.package_version != own:
        msg = f"cannot resume {config.study!r}: version {state.package_version} trained it, this is {own}; use that"
        raise StudyError(msg)
    require_same_settings(state, config, MAY_DIFFER)
    log.info("continuing after round %d", state.round)
    if notice := approval_notice(state.config, config):
        log.warning("%s", notice)
    return replace(state, config=config.to_flat())


def require_same_settings(state: Checkpoint, config: StudySettings, may_differ: Collection[str]) -> None:
    """Refuses to continue with a study under other settings than it began with.

    Raises:
        StudyError: If any but those that may differ do.
    """
    changed = sorted(k for k, v in config.to_flat().items() if k not in may_differ and state.config.get(k) != v)
    if changed:
        msg = f"cannot resume {config.study!r}: {', '.join(changed)} differ from the checkpoint's. Use its values."
        raise StudyError(msg)
