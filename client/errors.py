"""Errors at a site: one message each, a stable exit code, and a sentence that may leave the site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of `python -m client`, stable for scripts and service managers."""

    OK = 0
    USAGE = 2
    SITE_CONFIG = 3
    DATA = 4
    CREDENTIALS = 5
    SERVER_UNREACHABLE = 6
    STUDY = 7


class SiteError(Exception):
    """Something at the site that must be mended before it can take part.

    The full message may name files, columns and row numbers and stays at the site. Only `public` crosses the
    boundary: it holds no file name, value or patient identifier.

    Attributes:
        public: A sentence for the coordinating center.
        exit_code: What `python -m client` exits with.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str,
        found: str = "",
        expected: str = "",
        fix: str = "",
        public: str = "the site's data or settings need attention",
        exit_code: ExitCode = ExitCode.DATA,
    ) -> None:
        lines = [("where", where), ("found", found), ("expected", expected), ("to do", fix)]
        text = "\n".join([what, *(f"  {label + ':':<10}{text}" for label, text in lines if text)])
        super().__init__(_printable(text))
        self.what = what
        self.public = public
        self.exit_code = exit_code
        self._arguments = (what, where, found, expected, fix, public, exit_code)

    def __reduce__(self) -> tuple[Callable[..., SiteError], tuple[object, ...]]:
        """As another process sends it."""
        return _from_arguments, self._arguments


def _printable(text: str) -> str:
    """A file's name may hold bytes that are no text, and codes that move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _from_arguments(what: str, *arguments: Any) -> SiteError:
    names = ("where", "found", "expected", "fix", "public", "exit_code")
    return SiteError(what, **dict(zip(names, arguments, strict=True)))


def named_rows(rows: Sequence[int], shown: int = 5) -> str:
    """Row numbers as a message names them: the first few, and how many more."""
    first = ", ".join(str(row) for row in rows[:shown])
    more = f" and {len(rows) - shown} more" if len(rows) > shown else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {first}{more}"
