"""Errors at a site: one message each, a stable exit code, and a sentence that may leave the site."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from shared_models.errors import UserError


class ExitCode(IntEnum):
    """Exit codes of `python -m client`, stable for scripts and service managers."""

    OK = 0
    USAGE = 2
    SITE_CONFIG = 3
    DATA = 4
    CREDENTIALS = 5
    SERVER_UNREACHABLE = 6
    STUDY = 7


class SiteError(UserError):
    """Something at the site that must be mended before it can take part; `public` is what the center may learn."""

    default_public = "the site's data or settings need attention"
    default_exit_code = ExitCode.DATA
    exit_code: ExitCode


def named_rows(rows: Sequence[int], shown: int = 5) -> str:
    """Row numbers as a message names them: the first few, and how many more."""
    first = ", ".join(str(row) for row in rows[:shown])
    more = f" and {len(rows) - shown} more" if len(rows) > shown else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {first}{more}"
