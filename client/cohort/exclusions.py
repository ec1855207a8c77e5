"""Excluded patients by identifier, with reasons, in a file that stays at the site: `excluded.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from client.private_files import write_private, writing

FILE = "excluded.csv"
_HEAD = ("patient", "instance", "modality", "why")


class Exclusion(NamedTuple):
    """A patient, lesion or view without a modality, because its files cannot be used; never leaves the site."""

    patient: str
    instance: str
    modality: str
    why: str

    @property
    def in_short(self) -> str:
        """What is wrong, what was found, and what to do, in one line."""
        what, *lines = self.why.splitlines()
        shown = [line.strip() for line in lines if line.lstrip().startswith(("found:", "to do:"))]
        return "; ".join(" ".join(part.split()) for part in (what, *shown))


def write_exclusions(state_dir: Path, exclusions: Sequence[Exclusion]) -> Path | None:
    """Writes the file, or removes it where no patient is excluded.

    Args:
        state_dir: The site's own folder.
        exclusions: Who was excluded when the cohort was read last.

    Returns:
        The file, or None.

    Raises:
        SiteError: If the folder cannot be written.
    """
    path = state_dir / FILE
    if not exclusions:
        with writing(path):
            path.unlink(missing_ok=True)
        return None
    text = io.StringIO(newline="")
    rows = [(one.patient, one.instance, one.modality, one.in_short) for one in exclusions]
    csv.writer(text).writerows([_HEAD, *rows])
    write_private(path, text.getvalue())
    return path
