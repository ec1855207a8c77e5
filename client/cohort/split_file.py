"""File of a split at a site: the part of each patient, or in each fold of several; written once, read ever after."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.errors import ExitCode, SiteError, named_rows
from client.private_files import write_private

PARTS = ("train", "validation", "test")
Parts = tuple[str, ...]
"""A patient's part in each fold; one where there are no folds."""


@dataclass(frozen=True)
class SplitFile:
    """Where a site keeps the split of a study, and what it is drawn by.

    Attributes:
        path: The file.
        of_any_fractions: Pattern of the names of files that are drawn alike, of whatever fractions.
        columns: Its columns of parts, one a fold.
        column: Which of them is the study's, from 0.
        draw: What makes this draw differ from others.
    """

    path: Path
    of_any_fractions: str
    columns: tuple[str, ...]
    column: int
    draw: str


def columns_of(folds: int) -> tuple[str, ...]:
    """The columns of a file that hold parts: `split`, or one a fold."""
    return tuple(f"fold-{number}" for number in range(1, folds + 1)) or ("split",)


def read_split(path: Path, columns: Sequence[str], seed: int) -> dict[str, Parts]:
    """Each patient's parts, from a file; empty where there is none.

    Args:
        path: The file.
        columns: Those that hold parts.
        seed: The study's `split-seed`.

    Raises:
        SiteError: If it cannot be read, a part is none, or the split was drawn with another seed.
    """
    if not path.exists():
        return {}
    expected = ", ".join(["patient", *columns, "seed"])
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if "part" in (table.fieldnames or ()):
                raise _of_another_release(path)
            rows = [(row["patient"], tuple(row[name] for name in columns), int(row["seed"])) for row in table]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise stored(path, "the stored split cannot be read", "other columns", expected) from None
    parts: dict[str, Parts] = {}
    for number, (patient, row, stored_seed) in enumerate(rows, start=2):
        tested_once = len(columns) == 1 or row.count("test") == 1
        if not {*row} <= {*PARTS} or not tested_once or parts.setdefault(patient, row) != row:
            found = f"another part than before, or none, in {named_rows([number])}"
            expected = "one of train, validation, test" + ("; test in one fold" if len(columns) > 1 else "")
            raise stored(path, "a patient appears in more than one split", found, expected)
        if stored_seed != seed:
            fix = "give the split another name (`split`), or set split-seed back"
            raise stored(
                path, "the study's split was drawn with another seed", f"seed {stored_seed}", f"seed {seed}", fix
            )
    return parts


def write_split(path: Path, columns: Sequence[str], parts: Mapping[str, Parts], seed: int) -> None:
    """Writes the file whole or not at all."""
    rows: list[tuple[object, ...]] = [(patient, *row, seed) for patient, row in sorted(parts.items())]
    text = io.StringIO()
    csv.writer(text).writerows([("patient", *columns, "seed"), *rows])
    write_private(path, text.getvalue())


def _of_another_release(path: Path) -> SiteError:
    fix = "continue with the release that wrote it, or give the split another name (`split`); nothing was changed"
    expected = "patient, split, seed"
    return stored(path, "an earlier release drew the stored split", "the columns patient, part, seed", expected, fix)


def stored(path: Path, what: str, found: str, expected: str, fix: str = "restore the file from a backup") -> SiteError:
    """An error about a stored split."""
    return SiteError(
        what=what,
        where=str(path),
        found=found,
        expected=expected,
        fix=fix,
        public="the site's stored split does not fit the study",
        exit_code=ExitCode.STUDY,
    )
