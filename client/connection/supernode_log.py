"""Parser of the SuperNode's log: Flower's lines in words for the people at a hospital.

Flower 1.41 ends with exit status 1 for every error and names the cause only in its log, so the log is what we read.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from dataclasses import dataclass, field

from client.governance.approval import COMMAND
from client.governance.notices import NOT_APPROVED, UNLIKE_OTHERS, read_notice

APPROVE = f"if it is wanted: {COMMAND}"
MAX_LETTERS = 600  # letters of a sentence
FAILURES_BEFORE_WARNING = 3  # Flower retries at once after a blip; a line for each would be noise
FAILURES_WORTH_SAYING = frozenset(FAILURES_BEFORE_WARNING * 2**n for n in range(32))  # the reason may change
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL)\s*:\s")  # with which Flower begins a line
ROUND = re.compile(r"\[RUN \d+(?:, ROUND (?P<round>\S+))?\]")
JOINED = re.compile(r"SuperNode ID: (\d+)")
RECEIVING = re.compile(r"Receiving: (\S+) message")
SENDING = re.compile(r"Sending: (\S+) message")
BACK = re.compile(r"Connection successful after ([\d.]+) seconds")
EXIT = re.compile(r"Exit Code: (\d+)")
FAILED = re.compile(r"Failed to (receive|send) message \S+ (.*)")
# The messages of secure aggregation that are not the work itself (shared_models/messages/secure.py).
OF_A_SUM = {
    "enrol": "join a secure aggregation",
    "deal": "share secrets for a secure aggregation",
    "confirm": "confirm the members of a secure aggregation",
    "open": "reveal the sum of a secure aggregation",
}
UNANSWERED, ANSWERED = "the center does not answer; still trying", "the center answers again"
REFUSED = "[code: 2004]"  # not registered, or the center still counts a connection of the same key


@dataclass
class SuperNodeLogParser:
    """What one run of a SuperNode has written so far.

    Attributes:
        site: The site's name, for the command that approves a study.
        joined: The center let it in.
        refused: The center did not accept its key.
        evicted: It ended because the center stopped accepting it.
        exit_number: Flower's own exit code, where it named one.
        tail: Its last lines.
    """

    site: str = "NAME"
    joined: bool = False
    refused: bool = False
    evicted: bool = False
    exit_number: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    _round: str = ""
    _kind: str = ""
    _failures: int = 0

    def read(self, line: str) -> str:
        """Takes one line of the log.

        Returns:
            A sentence for the terminal, or nothing.
        """
        line = COLOURS.sub("", line).strip()
        if line:
            self.tail.append(line)
        self.refused |= REFUSED in line
        self.evicted |= "SuperNode terminated gracefully" in line
        if match := EXIT.search(line):
            self.exit_number = int(match[1])
        if match := ROUND.search(line):
            self._round = f"round {match['round']}: " if match["round"] else ""
        return self._connection(line) or self._work(line)

    def _connection(self, line: str) -> str:
        if match := JOINED.search(line):
            self.joined, self._failures = True, 0
            return f"joined the center as node {match[1]}; waiting for work"
        if "Connection attempt failed" in line:
            self._failures += 1
            return UNANSWERED if self._failures in FAILURES_WORTH_SAYING else ""
        if match := BACK.search(line):
            known, self._failures = self._failures >= FAILURES_BEFORE_WARNING, 0
            return f"{ANSWERED} after {float(match[1]):.0f} s" if known else ""
        return ""

    def _work(self, line: str) -> str:
        if match := RECEIVING.search(line):
            return f"{self._round}asked to {_kind_of(match[1])}"
        if match := SENDING.search(line):
            self._kind = _kind_of(match[1])
        if "Sent successfully" in line:
            return f"{self._round}answer to {self._kind} sent"
        if "is not in `RUNNING` status" in line:
            return f"{self._round}the study has ended; nothing was sent"
        if (notice := read_notice(line)).get("event") == NOT_APPROVED:
            command = APPROVE.format(site=self.site)
            study = repr(notice.get("study"))[:80]  # as a repr: the log also holds text of the center's
            return f"{self._round}refused: study {study} is not approved here with these settings; {command}"
        if notice.get("event") == UNLIKE_OTHERS:
            sentence = repr(notice.get("sentence"))[1:-1][:MAX_LETTERS]  # as above
            return f"{self._round}this site's patients are unlike the other hospitals': {sentence}"
        if match := FAILED.search(line):
            return f"{self._round}could not {match[1]} a message: {match[2]}"
        return ""

    def ending(self, status: int) -> str:
        """Why the SuperNode ended, after `status` of `subprocess.Popen.wait`."""
        if self.refused:
            return "the center did not accept this site's key"
        if self.evicted:
            return "the center ended the connection: it lost its records, unregistered this site, or a clock is wrong"
        if status == -9:
            return "the SuperNode was killed (signal 9; the system does this when memory runs out)"
        if status < 0:
            return f"the SuperNode was stopped by signal {-status}"
        if self.exit_number:
            return f"Flower ended with its code {self.exit_number}: {self._cause()}"
        return f"the SuperNode ended with status {status}: {self.tail[-1] if self.tail else 'it wrote nothing'}"

    def _cause(self) -> str:
        lines = list(self.tail)
        start = next((i for i, line in enumerate(lines) if EXIT.search(line)), len(lines))
        return " ".join(line for line in lines[start + 1 : start + 3] if not line.startswith("For more information"))


def level_of(line: str) -> int:
    """The level of one of Flower's lines; INFO of what else comes that way, as a traceback."""
    match = LEVEL.match(line)
    return logging.getLevelNamesMapping()[match[1]] if match else logging.INFO


def _kind_of(message_type: str) -> str:
    kind = message_type.removeprefix("query.")
    return OF_A_SUM.get(kind, kind)
