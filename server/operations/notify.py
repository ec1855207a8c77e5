"""Notification of a person: a command that is run with JSON on its standard input."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from server.errors import CenterError, ExitCode
from server.report.status_page import headline
from server.study.status import StudyProgress
from shared_models.agreed import NOT_APPROVED, OTHERWISE_APPROVED

WITHIN_S = 60.0


@dataclass
class Notifier:
    """Runs a command once for each thing that waits for a person, and when the study has ended.

    Attributes:
        command: Its words.
        notified: What was notified already.
    """

    command: list[str]
    notified: set[tuple[str, str]] = field(default_factory=set)

    def look(self, state: StudyProgress) -> str:
        """Tells what is new in the state.

        Returns:
            Why the command failed, in words; empty where it did not.
        """
        problems = []
        for event, about, text in _waiting(state):
            if (event, about) in self.notified:
                continue
            self.notified.add((event, about))
            problems.append(self._run({"event": event, "study": state.study, "about": about, "text": text}))
        return "; ".join(filter(None, problems))

    def _run(self, message: dict[str, str]) -> str:
        try:
            done = subprocess.run(
                self.command, input=json.dumps(message), text=True, capture_output=True, timeout=WITHIN_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the notification did not run: {error}"
        return f"the notification ended with {done.returncode}: {done.stderr.strip()[-200:]}" if done.returncode else ""


def notifier(command: str) -> Notifier:
    """The notifier of a command line, without a shell.

    Raises:
        CenterError: If it cannot be read.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        words, found = [], str(error)
    else:
        found = repr(command)
    if not words:
        raise CenterError(
            what="the notification has no command",
            where="--notify",
            found=found,
            expected="a program and its words, as 'mail -s study lead@center.example.org'",
            exit_code=ExitCode.USAGE,
        )
    return Notifier(words)


def _waiting(state: StudyProgress) -> Iterator[tuple[str, str, str]]:
    """What waits for a person, or has ended: event, what it is about, and a sentence."""
    if state.state != "running":
        yield state.state, state.study, headline(state)
        return
    for name, site in state.sites.items():
        if site.problem.startswith((NOT_APPROVED, OTHERWISE_APPROVED)):
            yield "approval", name, f"{name}: {site.problem}"
        elif site.doing == "away" and state.stage in ("waiting for sites", "preparing"):
            yield "away", name, f"{name} is not connected, and the study waits for it"
