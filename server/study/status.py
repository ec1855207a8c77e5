"""State of a study while it runs, as `status.json` holds it: what the status page and `watch` show."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from server.errors import CenterError, ExitCode

STATUS = "status.json"

Doing = Literal["away", "idle", "working", "answered", "failed"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SiteProgress(_Part):
    """What the center knows of one site.

    Attributes:
        doing: Whether it is not connected, was not asked, works on a question, has answered it, or has failed at it.
        since: Since when, UTC.
        asked: When it got the question, UTC; empty before the first.
        message: The kind of the question.
        at_site_s: From the question to the moment the answer was made, by the site's own clock: the way there, and the
            work; None where the two clocks disagree.
        back_s: From there until the center had the answer.
        counted: Rounds in which its update counted.
        missed: Rounds in which it did not.
        norm: L2 norm of its last update; None where no single update is seen.
        clipped: Whether that was scaled to the bound.
        epsilon: What the study has spent there, as the site charged it; None without private training.
        delta: At which delta.
        problem: The last one, in words.
    """

    doing: Doing = "idle"
    since: str = ""
    asked: str = ""
    message: str = ""
    at_site_s: float | None = None
    back_s: float | None = None
    counted: int = 0
    missed: int = 0
    norm: float | None = None
    clipped: bool = False
    epsilon: float | None = None
    delta: float | None = None
    problem: str = ""


class Scored(_Part):
    """The validation value of a round's weights, with a 95 % interval where its statistics give one."""

    round: int
    value: float | None
    low: float | None = None
    high: float | None = None


class DoneRound(_Part):
    """One attempt of a round."""

    round: int
    attempt: int
    seconds: float
    asked: int
    counted: int


class Problem(_Part):
    """Something that went wrong, in words."""

    time: str
    site: str
    text: str


class StudyProgress(_Part):
    """The state of a study that runs or has ended."""

    version: Literal[1] = 1
    study: str
    task: str
    strategy: str
    rounds: int
    state: Literal["running", "completed", "failed"] = "running"
    stage: str = "starting"
    started: str
    updated: str
    round_began: str = ""
    fold: str = ""
    fold_number: int = 0
    folds: int = 0
    round: int = 0
    attempt: int = 0
    best_round: int = 0
    private: bool = False
    secure: bool = False
    left_s: float | None = None
    sites: dict[str, SiteProgress] = {}
    curve: list[Scored] = []
    done: list[DoneRound] = []
    problems: list[Problem] = []
    missing: dict[str, str] = {}
    failure: str = ""

    @property
    def last_problem(self) -> Problem | None:
        """The newest."""
        return self.problems[-1] if self.problems else None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_status(file: Path) -> StudyProgress:
    """Reads what a study wrote.

    Raises:
        CenterError: If it is damaged, or of another release.
    """
    try:
        return StudyProgress.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise CenterError(
            what="the status of the study cannot be read",
            where=file,
            found=str(error).splitlines()[0],
            expected="what this release writes",
            fix="read it with the release that runs the study; its results are not touched by this",
            exit_code=ExitCode.FILE,
        ) from None
