"""User-facing errors: what went wrong, where, what was found and expected, what to do, and an exit code.

the study's settings cannot be used
  where:    study.toml
  found:    rounds: Input should be greater than or equal to 1 (found 0)
  to do:    correct the file
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar


class UserError(Exception):
    """Something that a person must mend; its text is printed as it is.

    The text may name files, columns and row numbers, and stays where it was raised. Only `public` may be sent to
    another party: it names no file, value or patient.

    Attributes:
        what: What went wrong, in one sentence.
        where: The file, folder or option.
        found: What is there; one line or several.
        expected: What would be right.
        fix: What to do.
        public: A sentence for the other party.
        exit_code: What the program exits with.
    """

    default_public: ClassVar[str] = "something needs attention there"
    default_exit_code: ClassVar[int] = 1
    exit_code: int

    def __init__(
        self,
        what: str,
        *,
        where: str | Path = "",
        found: str = "",
        expected: str = "",
        fix: str = "",
        public: str = "",
        exit_code: int | None = None,
    ) -> None:
        self.what, self.where, self.found, self.expected, self.fix = what, str(where), found, expected, fix
        self.public = public or self.default_public
        self.exit_code = self.default_exit_code if exit_code is None else exit_code
        super().__init__(_printable("\n".join(filter(None, [self.summary, _line("to do", fix)]))))

    @property
    def summary(self) -> str:
        """The text without what to do."""
        lines = [("where", self.where), ("found", self.found), ("expected", self.expected)]
        return _printable("\n".join([self.what, *(_line(*line) for line in lines if line[1])]))

    def __reduce__(self) -> tuple[Callable[..., UserError], tuple[object, ...]]:
        """As another process sends it."""
        parts = (self.where, self.found, self.expected, self.fix, self.public, self.exit_code)
        return _from_parts, (type(self), self.what, *parts)


def _line(label: str, text: str) -> str:
    return f"  {label + ':':<10}{text}".replace("\n", "\n" + " " * 12) if text else ""


def _printable(text: str) -> str:
    """A file's name may hold bytes that are no text, and codes that move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _from_parts(
    kind: type[UserError],
    what: str,
    where: str,
    found: str,
    expected: str,
    fix: str,
    public: str,
    exit_code: int,
) -> UserError:
    return kind(what, where=where, found=found, expected=expected, fix=fix, public=public, exit_code=exit_code)
