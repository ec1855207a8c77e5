"""Progress of a study while it runs: one state, in `status.json`, of which the status page and `watch` are made.

The study's process writes it at each question, at each answer and at each round's end, at most once a second. It tells
what the center knows of its sites by what they sent: never anything that a site did not send.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol
from weakref import WeakKeyDictionary

from flwr.serverapp import Grid

from server.study.status import STATUS, DoneRound, Problem, Scored, SiteProgress, StudyProgress, now
from shared_models.atomic_files import replace_quickly
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
PAGE = "status.html"
EVERY_S = 1.0
MAX_PROBLEMS = 30
MAX_ROUNDS = 200  # of those that are done: the results hold all of them
RECENT = 5  # rounds by which the time that is left is judged
P = ParamSpec("P")


class Tracker(Protocol):
    """Told of each round, to show it in another program."""

    def end_round(self, fold: str, record: Mapping[str, Any]) -> None:
        """A round that counts, as the study's history has it."""

    def scored(self, fold: str, points: Sequence[Scored]) -> None:
        """Validation values of rounds."""


def _changes(method: Callable[Concatenate[Progress, P], None]) -> Callable[..., None]:
    """A change of the state, which is then written: while nothing else writes or changes it."""

    @wraps(method)
    def change(self: Progress, *values: P.args, **named: P.kwargs) -> None:
        with self._lock:
            method(self, *values, **named)
            self._write_soon()

    return change


class Progress:
    """Keeps a study's state and writes it.

    Args:
        state: As the study begins.
        folder: The study's folder of results; None writes nothing.
        draw: Makes the status page of the state.
        tracker: Shows rounds elsewhere.
    """

    def __init__(
        self,
        state: StudyProgress,
        folder: Path | None = None,
        draw: Callable[[StudyProgress], str] | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        self.state = state
        self._folder, self._draw, self._tracker = folder, draw, tracker
        self._lock, self._written = threading.RLock(), 0.0
        self._timer: threading.Timer | None = None

    @_changes
    def stage(self, name: str) -> None:
        """What the study does now, in words."""
        self.state.stage = name

    @_changes
    def fold(self, label: str, number: int, folds: int) -> None:
        """Begins one of several folds, whose rounds count from 1 again."""
        self.state = self.state.model_copy(
            update={"fold": label, "fold_number": number, "folds": folds, "round": 0, "best_round": 0}
            | {"curve": [], "done": [], "left_s": None}
        )

    @_changes
    def here(self, connected: Iterable[str], named: Iterable[str]) -> None:
        """Who is connected, of whom the study waits for."""
        connected = {*connected}
        for name in {*named, *self.state.sites} | connected:
            site = self._site(name)
            if (site.doing == "away") != (name not in connected) or not site.since:
                site.doing, site.since = "idle" if name in connected else "away", now()

    @_changes
    def begin_round(self, number: int, attempt: int) -> None:
        """A round's attempt begins."""
        self.state.round, self.state.attempt, self.state.round_began = number, attempt, now()
        self.stage("training")

    @_changes
    def asked(self, sites: Iterable[str], message: str) -> None:
        """Sites are asked something."""
        for name in sites:
            site = self._site(name)
            site.doing, site.message, site.since = "working", message, now()
            site.asked, site.at_site_s, site.back_s = site.since, None, None

    @_changes
    def heard(self, name: str, asked_at: float, made_at: float) -> None:
        """A site's answer is here.

        Args:
            name: The site.
            asked_at: When the question was made, in seconds since 1970 by the center's clock.
            made_at: When the answer was, by the site's.
        """
        site, there, back = self._site(name), made_at - asked_at, time.time() - made_at
        site.doing, site.since = "answered", now()
        site.at_site_s, site.back_s = (round(there, 1), round(back, 1)) if min(there, back) >= 0 else (None, None)

    @_changes
    def failed(self, problems: Mapping[str, str]) -> None:
        """Why sites gave nothing usable."""
        for name, text in problems.items():
            site = self._site(name)
            if site.doing in ("working", "answered") or site.problem != text:
                self.state.problems = [*self.state.problems, Problem(time=now(), site=name, text=text)][-MAX_PROBLEMS:]
            site.problem = text
            if site.doing != "away":
                site.doing, site.since = "failed", now()

    @_changes
    def end_round(self, record: Mapping[str, Any], counts: bool) -> None:
        """A round's attempt ends.

        Args:
            record: As the study's history holds it.
            counts: Whether the round counts, so that no other attempt of it follows.
        """
        asked, counted = record["asked"], record["counted"]
        for name in asked:
            site, update = self._site(name), record["updates"].get(name, {})
            site.counted += name in counted
            site.missed += counts and name not in counted
            site.norm, site.clipped = update.get("norm"), bool(update.get("clipped"))
            if spent := record["spent"].get(name):
                site.epsilon, site.delta = spent.get("epsilon"), spent.get("delta")
        facts = {name: record[name] for name in ("round", "attempt", "seconds")}
        one = DoneRound(**facts, asked=len(asked), counted=len(counted))
        self.state.done = [*self.state.done, one][-MAX_ROUNDS:]
        recent = [attempt.seconds for attempt in self.state.done[-RECENT:]]
        folds_left = max(self.state.folds - self.state.fold_number, 0)
        left = self.state.rounds * (1 + folds_left) - record["round"]
        self.state.left_s = sum(recent) / len(recent) * left
        if self._tracker and counts:
            self._tracker.end_round(self.state.fold, record)

    @_changes
    def scored(self, *points: Scored, best_round: int) -> None:
        """Validation values of rounds, in the place of those that were known of them."""
        curve = {point.round: point for point in (*self.state.curve, *points)}
        self.state.curve, self.state.best_round = [curve[number] for number in sorted(curve)], best_round
        if self._tracker:
            self._tracker.scored(self.state.fold, points)

    def end(self, missing: Mapping[str, str], failure: str = "") -> None:
        """The study has ended."""
        with self._lock:
            self._end(missing, failure)
            self._write()

    def _end(self, missing: Mapping[str, str], failure: str) -> None:
        self.state.state, self.state.failure = "failed" if failure else "completed", failure
        self.state.stage, self.state.missing, self.state.left_s = "ended", dict(missing), None
        for site in self.state.sites.values():
            site.doing, site.since = ("idle", now()) if site.doing == "working" else (site.doing, site.since)

    def _site(self, name: str) -> SiteProgress:
        return self.state.sites.setdefault(name, SiteProgress())

    def _write_soon(self) -> None:
        """Writes now, or within a second: what comes in between is written together."""
        wait_s = self._written + EVERY_S - time.monotonic()
        if self._folder is None or self._timer is not None:
            return
        if wait_s <= 0:
            self._write()
            return
        self._timer = threading.Timer(wait_s, self._write)
        self._timer.daemon = True
        self._timer.start()

    def _write(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._written = None, time.monotonic()
            if self._folder is None:
                return
            self.state.updated = now()
            try:
                replace_quickly(self._folder / STATUS, self.state.model_dump_json())
                if self._draw:
                    replace_quickly(self._folder / PAGE, self._draw(self.state))
            except OSError as error:  # a full disk: the study itself says so when its own files cannot be written
                log.warning("the status cannot be written: %s", error)


def begin_progress(
    config: StudySettings,
    folder: Path | None = None,
    draw: Callable[[StudyProgress], str] | None = None,
    tracker: Tracker | None = None,
) -> Progress:
    """The progress of a study that begins; see `Progress`."""
    state = StudyProgress(
        study=config.study.partition("/")[0],
        task=config.task,
        strategy=config.strategy,
        rounds=config.rounds,
        private=config.privacy == "patient",
        secure=uses_secure_aggregation(config),
        started=now(),
        updated=now(),
    )
    return Progress(state, folder, draw, tracker)


# A grid is one run's way to its sites, and its progress goes with it.
_RUNS: WeakKeyDictionary[Grid, Progress] = WeakKeyDictionary()


def watch(grid: Grid, progress: Progress) -> None:
    """Lets what is asked over this grid show in a study's progress."""
    _RUNS[grid] = progress


def progress_of(grid: Grid) -> Progress:
    """The progress of the study that this grid is for."""
    if grid not in _RUNS:
        _RUNS[grid] = begin_progress(StudySettings())
    return _RUNS[grid]
