"""Sites that a study names and that are not in its results: who, why, and whether the study may do without them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.errors import ExitCode
from server.study.exchange import StudyError
from shared_models.study_settings import StudySettings

if TYPE_CHECKING:
    from server.study.weights.checkpoint import Checkpoint

AWAY = "not connected"


def require_sites(config: StudySettings, enrolled: Collection[str], problems: Mapping[str, str]) -> None:
    """Refuses to begin a study in which fewer sites take part than `require_sites` asks for.

    Args:
        config: The study.
        enrolled: Sites that take part.
        problems: Why others do not.

    Raises:
        StudyError: If so.
    """
    if len(enrolled) >= config.required_sites:
        return
    reasons = "; ".join(f"{site}: {why}" for site, why in problems.items()) or "no other site is connected"
    msg = (
        f"{len(enrolled)} sites take part, but the study needs require-sites = {config.required_sites}. {reasons}. "
        "Ask them to start `python -m client --site NAME` and to approve the study, or lower require-sites, which "
        "needs no new approval"
    )
    raise StudyError(msg)


def missing_sites(config: StudySettings, last: Checkpoint, untested: Mapping[str, str]) -> dict[str, str]:
    """The sites that `sites` names and that had no part in the study, or did not stay in it to its end, and why.

    Args:
        config: The study.
        last: The study after its last round.
        untested: Why sites gave no test scores.
    """
    reasons = {}
    for site in config.expected_sites:
        enrolled = last.enrolled.get(site)
        if enrolled is None:
            reasons[site] = last.not_enrolled.get(site, AWAY)
        elif site in untested:
            reasons[site] = f"gave no test scores: {untested[site]}"
        elif enrolled.trains and last.history and not any(site in attempt["counted"] for attempt in last.history):
            reasons[site] = f"no update of it counted: {_last_reason(last.history, site)}"
    return reasons


def require_named_sites(file: Path) -> None:
    """Says which sites a study that is done names and had to do without.

    Args:
        file: Its `results.json`.

    Raises:
        StudyError: If there are any, and its settings do not say that fewer are enough.
    """
    from server.study.results.results_file import read_results

    results = read_results(file)
    asked, named = str(results.config.get("require-sites", "")), str(results.config.get("sites", "")).split(",")
    enough = asked.isdigit() and sum(map(bool, map(str.strip, named))) - len(results.missing) >= int(asked)
    if not results.missing or enough:
        return
    what = "the study is done, without sites that it names"
    raise StudyError(
        what,
        where=file,
        found="\n".join(f"{site}: {why}" for site, why in results.missing.items()),
        expected="all of `sites`, or as many as `require-sites` says",
        fix="the results are of the others: run the study again with these sites, or set require-sites to a number "
        "that is enough",
        exit_code=ExitCode.SITES_MISSING,
    )


def _last_reason(history: Sequence[Mapping[str, Any]], site: str) -> str:
    reasons = [attempt["problems"][site] for attempt in history if site in attempt["problems"]]
    return reasons[-1] if reasons else "no reason was recorded"
