"""Lines of `papers.py`'s CSV: what each row of a table gave, for one target on one cohort or split."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Line:
    """What a row gives for one target on one cohort or split.

    Attributes:
        table: As `D cbis_ddsm`.
        row: Its name.
        seed: Of the cohort or the split.
        target: Its name.
        metric: `auc`, `c_index` or `mae`.
        value: Over the test patients of all sites.
        low: Of its 95 % interval; NaN where there is none.
        high: Likewise.
        patients: Tested.
        minutes: Of training and scoring.
    """

    table: str
    row: str
    seed: int
    target: str
    metric: str
    value: float
    low: float
    high: float
    patients: int
    minutes: float

    @classmethod
    def parse(cls, cells: Mapping[str, str]) -> Line:
        """A line from its text."""
        kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
        return cls(**{name: kinds[str(field.type)](cells[name]) for name, field in cls.__dataclass_fields__.items()})


COLUMNS = tuple(Line.__dataclass_fields__)


def read(file: Path) -> list[Line]:
    """The lines of a CSV; none where there is no file."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [Line.parse(row) for row in csv.DictReader(lines)]


def append(file: Path, lines: Sequence[Line]) -> None:
    """Writes lines below those that are there."""
    new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="", encoding="utf-8") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerows(([COLUMNS] if new else []) + list(_cells(lines)))


def _cells(lines: Sequence[Line]) -> Iterator[list[str]]:
    for line in lines:
        values = (getattr(line, name) for name in COLUMNS)
        yield [f"{value:.4f}" if isinstance(value, float) else str(value) for value in values]
