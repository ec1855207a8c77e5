"""Errors of the coordinating center's command, with stable exit codes."""

from __future__ import annotations

from enum import IntEnum

from shared_models.errors import UserError


class ExitCode(IntEnum):
    """Exit codes of `python -m server`, stable for scripts and service managers."""

    OK = 0
    USAGE = 2
    CONFIGURATION = 3
    FILE = 4
    CREDENTIALS = 5
    SUPERLINK_UNREACHABLE = 6
    RUN_FAILED = 7
    SITES_MISSING = 8


class CenterError(UserError):
    """Something at the center that a person must mend."""

    default_exit_code = ExitCode.CONFIGURATION
    exit_code: ExitCode
