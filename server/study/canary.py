"""Canary of a study: one real round at all of its sites or none, of which only a verdict for each site stays.

It is a study of its own, `STUDY-canary`, with the study's settings, which hospitals approve like any other: the same
network, rows, noise and secure aggregation, and the first of its rounds. A site answers nothing in it but what comes
before round 1, and round 1. The weights that come back are checked and added up as in the study, and deleted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from server.errors import ExitCode
from server.study.audit import audit_of
from server.study.exchange import StudyError
from server.study.status import SiteProgress, StudyProgress, now
from server.study.weights.checkpoint import Checkpoint
from shared_models.agreed import settings_hash
from shared_models.atomic_files import write_atomically
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
VERDICTS = "canary.json"
SUFFIX, MAX_NAME = "-canary", 64


@dataclass(frozen=True)
class Verdict:
    """How one site did.

    Attributes:
        site: Its name.
        works: Whether all that it was asked was answered, and its update counted where it trains.
        why: Why not, in words; empty where it works.
        answered_s: From the last question to the answer, by the site's clock: the way there, and the work; None where
            it is not known.
        back_s: From there until the center had it.
        epsilon: What the round spent of its patients' privacy; None without private training.
    """

    site: str
    works: bool
    why: str = ""
    answered_s: float | None = None
    back_s: float | None = None
    epsilon: float | None = None


def canary_settings(config: StudySettings) -> StudySettings:
    """The settings of a study's canary, as hospitals approve them.

    Raises:
        StudyError: If the study names no sites, or trains nothing.
    """
    if not config.expected_sites or config.trains_nothing:
        raise StudyError(
            what="a canary asks all sites of a study to train one round, or none",
            where="validates" if config.validates else "compares" if config.compares else "sites",
            found="networks are only scored, and none trains" if config.trains_nothing else "no site is named",
            expected="a study that trains, with the names of its sites: --set sites=oak,elm,ash",
            exit_code=ExitCode.USAGE,
        )
    changed = {
        "study": config.study if config.canary else f"{config.study[: MAX_NAME - len(SUFFIX)]}{SUFFIX}",
        "canary": True,
        "require_sites": "all",
        "round_attempts": 1,
        "folds": 0,
        "repeats": 1,
        "leave_out": "none",
        "auto_resume": 0,
        "resume": False,
        "report": "",
    }
    return StudySettings.model_validate({**config.model_dump(), **changed})


def first_round(states: Iterator[Checkpoint]) -> Checkpoint:
    """The study after its first round, as `training` gives it; nothing further is asked."""
    return next(state for state in states if state.round == 1)


def verdicts(config: StudySettings, state: Checkpoint | None, progress: StudyProgress) -> list[Verdict]:
    """One for each site that the study names.

    Args:
        config: The canary's settings.
        state: After the round; None where it did not count.
        progress: What the center knows of its sites.
    """
    return [_verdict(name, state, progress) for name in config.expected_sites]


def _verdict(name: str, state: Checkpoint | None, progress: StudyProgress) -> Verdict:
    known = progress.sites.get(name, SiteProgress(doing="away"))
    why = _why_not(name, state, known)
    return Verdict(name, not why, why, known.at_site_s, known.back_s, known.epsilon)


def _why_not(name: str, state: Checkpoint | None, known: SiteProgress) -> str:
    """Why a site does not work; empty where it does.

    Where the round counts, the round decides. A problem of before may be over, as that it had not approved the canary.
    """
    if state is not None and name in state.enrolled:
        record = state.history[-1]
        if name in record["counted"] or not state.enrolled[name].trains:
            return ""
        return record["problems"].get(name, "its update did not count")
    if known.doing == "away":
        return "not connected"
    if known.doing == "failed":
        return known.problem
    return "" if known.asked else "not asked, since the study did not begin"


def store(config: StudySettings, given: list[Verdict], failure: str, folder: Path) -> Path:
    """Writes the verdicts, and deletes all else of the canary but the audit log."""
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith((audit_of(folder).name, ".lock")):
            path.unlink()
    file = folder / VERDICTS
    facts: dict[str, Any] = {
        "study": config.study,
        "settings": settings_hash(config),
        "finished": now(),
        "package_version": version("breast-federation"),
        "works": not failure and all(one.works for one in given),
        "failure": failure,
        "sites": [asdict(one) for one in given],
    }
    write_atomically(file, json.dumps(facts, indent=1) + "\n")
    return file


def lines_of(file: Path) -> list[str]:
    """The verdicts as lines for a person."""
    facts = json.loads(file.read_text(encoding="utf-8"))
    return [_line(Verdict(**one)) for one in facts["sites"]]


def _line(one: Verdict) -> str:
    took = f", {one.answered_s:.1f} s there and at work, {one.back_s:.1f} s back" if one.answered_s is not None else ""
    spent = f", epsilon {one.epsilon:.2f}" if one.epsilon is not None else ""
    return f"{one.site}: {'works' if one.works else 'FAILED: ' + one.why}{took}{spent}"


def require_all(file: Path) -> None:
    """Says which sites failed.

    Raises:
        StudyError: If any did, or the round did not count.
    """
    facts = json.loads(file.read_text(encoding="utf-8"))
    if facts["works"]:
        return
    raise StudyError(
        what="the canary failed: the study would not run as it is",
        where=file,
        found="\n".join([*lines_of(file), *filter(None, [facts["failure"]])]),
        expected="that every site answers, and that each update counts",
        fix="mend what the lines say, and run the canary again: hospitals approve it again before that",
    )
