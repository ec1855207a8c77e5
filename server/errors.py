"""Errors of the coordinating center's command, with stable exit codes."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of `python -m server`, stable for scripts and service managers."""

    OK = 0
    USAGE = 2
    CONFIGURATION = 3
    FILE = 4
    CREDENTIALS = 5
    SUPERLINK_UNREACHABLE = 6
    RUN_FAILED = 7


class CenterError(Exception):
    """Something at the center that a person must mend.

    Attributes:
        exit_code: What `python -m server` exits with.
    """

    def __init__(
        self,
        *,
        what: str,
        where: str | Path,
        found: str = "",
        expected: str = "",
        fix: str = "",
        exit_code: ExitCode = ExitCode.CONFIGURATION,
    ) -> None:
        lines = [("where", str(where)), ("found", found), ("expected", expected), ("to do", fix)]
        super().__init__("\n".join([what, *(f"  {label + ':':<10}{text}" for label, text in lines if text)]))
        self.exit_code = exit_code
