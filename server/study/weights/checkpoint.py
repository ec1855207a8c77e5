"""Checkpoint of a study on the center's disk: one safetensors file after every round, replaced atomically.

The file's tensors are the weights, the aggregation rule's state, the frozen feature statistics and the pooled
validation sums; its metadata names the format and holds the rest as one JSON text. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from server.errors import ExitCode
from server.study.enrolment import Enrolment
from server.study.exchange import StudyError
from server.study.study_files import writing
from shared_models.agreed import agreed_settings, settings_hash
from shared_models.atomic_files import DRAFT_PREFIX, write_atomically
from shared_models.messages import Arrays
from shared_models.study_settings import StudySettings
from shared_models.trained_model import CHECKPOINT, CHECKPOINT_VERSION

LAST, BEST = "last.safetensors", "best.safetensors"
FORMAT, FORMAT_VERSION = CHECKPOINT, CHECKPOINT_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """All that a study needs to continue from here.

    Attributes:
        config: The study settings, flat.
        round: Rounds that count so far.
        model: The global weights.
        rule_state: What the aggregation rule remembers, packed; empty for averaging.
        statistics: Frozen feature statistics, packed, and what harmonised tables are adjusted to.
        validation: Summed validation statistics of `model`, packed; empty until it has been scored.
        score_ranges: Where validation scores lay: of `best`'s those that `validation` was counted in, else the next's.
        enrolled: What each site counted before round 1.
        not_enrolled: Why a site that was named or connected is not enrolled.
        history: A record of each attempt of a round.
        best_round: The round whose weights are chosen so far (`selection.py`).
        best_value: Their pooled validation value, or None before any.
        best_scores: Validation statistics of that round's weights, by site or sum: `SITE/NAME`.
        newest_scores: Those of the newest weights that were scored, as `best_scores`.
        newest_scored: Hash of these weights, as they travelled.
        values: Pooled validation value of each round's weights; NaN where undefined.
        scored_by: The sites that scored each round's weights; of a secure sum all in one, joined by `+`.
        start: What the network started from (`server/study/weights/initial_weights.py`).
        withdrawn: When a site withdrew after the study, by its name.
        delivered: Sites that have the first weights, where these travel by themselves.
        package_version: Of the program that wrote it.
        started: When the first weights were made, UTC.
    """

    config: dict[str, Any]
    round: int
    model: Arrays
    statistics: Arrays
    enrolled: dict[str, Enrolment]
    not_enrolled: dict[str, str] = field(default_factory=dict)
    rule_state: Arrays = field(default_factory=dict)
    validation: Arrays = field(default_factory=dict)
    score_ranges: Arrays = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    best_round: int = 0
    best_value: float | None = None
    best_scores: Arrays = field(default_factory=dict)
    newest_scores: Arrays = field(default_factory=dict)
    newest_scored: str = ""
    values: tuple[tuple[int, float], ...] = ()
    scored_by: dict[int, list[str]] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    delivered: tuple[str, ...] = ()
    withdrawn: dict[str, str] = field(default_factory=dict)
    package_version: str = field(default_factory=lambda: version("breast-federation"))
    started: str = field(default_factory=lambda: now())


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_ARRAYS = ("model", "rule_state", "statistics", "validation", "score_ranges", "best_scores", "newest_scores")


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes the file whole or not at all: a kill at any instant leaves the previous one.

    Raises:
        StudyError: If it cannot be written, as on a full disk.
    """
    tensors = {f"{group}:{name}": array for group in _ARRAYS for name, array in getattr(checkpoint, group).items()}
    facts = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint) if f.name not in _ARRAYS}
    facts["enrolled"] = {site: dataclasses.asdict(counted) for site, counted in checkpoint.enrolled.items()}
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "study": json.dumps(facts)}
    with writing(path):
        write_atomically(path, save(tensors, metadata=metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what `save_checkpoint` wrote.

    Raises:
        StudyError: If there is no such file, it is damaged, or of another format.
    """
    facts = read_facts(path)
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    groups: dict[str, Any] = {group: {} for group in _ARRAYS}
    for name, tensor in tensors.items():
        group, _, key = name.partition(":")
        groups[group][key] = tensor
    facts["enrolled"] = {site: Enrolment(**counted) for site, counted in facts["enrolled"].items()}
    facts |= {"history": tuple(facts["history"]), "values": tuple((n, v) for n, v in facts["values"])}
    facts["delivered"] = tuple(facts.get("delivered", ()))
    facts["scored_by"] = {int(number): parts for number, parts in facts.get("scored_by", {}).items()}
    return Checkpoint(**facts, **groups)


def read_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint holds besides its arrays.

    Raises:
        StudyError: If there is no such file, it is damaged, or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        msg = f"{path}: there is no checkpoint. Start the study without `resume`, or restore the file."
        raise StudyError(msg, exit_code=ExitCode.FILE) from None
    except (OSError, SafetensorError) as error:
        msg = f"{path}: the checkpoint is damaged ({error}). Restore it, or move it away and start without `resume`."
        raise StudyError(msg, exit_code=ExitCode.FILE) from None
    stamp = (metadata.get("format"), metadata.get("format_version"))
    if stamp != (FORMAT, FORMAT_VERSION):
        written = f"in format {stamp[1]}" if stamp[0] == FORMAT else "by an earlier release, or by another program"
        msg = (
            f"{path}: the checkpoint was written {written}, and this release reads format {FORMAT_VERSION} only. "
            "Continue with the release that wrote it, or run the study under another `study` name; nothing was changed."
        )
        raise StudyError(msg, exit_code=ExitCode.FILE)
    facts: dict[str, Any] = json.loads(metadata["study"])
    return facts


def require_own_folder(folder: Path) -> None:
    """Refuses a folder whose checkpoints this release cannot read, so that it overwrites none of them.

    Raises:
        StudyError: If so.
    """
    for path in (folder / LAST, folder / BEST):
        if path.exists():
            read_facts(path)


def approval_notice(before: Mapping[str, Any], config: StudySettings) -> str:
    """What hospitals must do before a resumed study continues with them; empty where they have approved it already.

    Args:
        before: The study settings of the checkpoint, flat.
        config: The study as it is to continue. Approvals are of its very settings, the rounds among them.
    """
    agreed = agreed_settings(config)
    changed = [f"{key} is {value}, was {before.get(key)}" for key, value in agreed.items() if before.get(key) != value]
    if not changed:
        return ""
    return (
        f"{'; '.join(changed)}: hospitals approved the study as it was, and each takes part again once it has approved "
        f"these settings, {settings_hash(config)}: python -m client approve STUDY.toml --site NAME"
    )


def describe(results_dir: Path, study: str) -> dict[str, Any] | None:
    """What the last checkpoint of a study says, without its arrays; None if there is none.

    Raises:
        StudyError: If it is damaged, or of another format.
    """
    path = results_dir / study / LAST
    return read_facts(path) if path.exists() else None


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Holds the study's folder for this process: two runs of one study would overwrite each other's rounds.

    Raises:
        StudyError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            msg = f"another run of this study is writing to {folder}; wait for it, or choose another `study` name"
            raise StudyError(msg) from None
        for draft in folder.glob(f"{DRAFT_PREFIX}*"):  # by a process that was killed
            draft.unlink()
        yield
