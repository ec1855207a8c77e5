"""Readiness of a site on the terminal: counts and problems, without patients or values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from client.checks.exam_list import exam_counts
from client.checks.readiness import Readiness
from client.checks.tables_read import outcomes_read, tables_read

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}


def print_readiness(readiness: Readiness, console: Console) -> None:
    """Prints the counts as tables, and the problems below them, each with what to do."""
    title = f"{readiness.site}: {readiness.patients} patients"
    modalities, patients = readiness.modalities, readiness.patients
    aside = {name: len({one.patient for one in readiness.excluded if one.modality == name}) for name in modalities}
    rows: list[tuple[object, ...]] = [
        (name, count, f"{count / patients:.0%}", aside[name] or "") for name, count in modalities.items()
    ]
    _print_table(console, "tables, as they are read", ("table", "what", "value"), tables_read(readiness.cohort_rows))
    head = ("target", "what", "column")
    _print_table(console, "outcomes, as they are read", head, outcomes_read(readiness.cohort_rows))
    _print_table(console, title, ("modality", "patients", "share", "excluded"), rows)
    classes = [(target, name, count) for target, counts in readiness.targets.items() for name, count in counts.items()]
    _print_table(console, "outcomes", ("target", "class", "patients"), classes)
    gaps = [
        (f"{count.modality}: {count.feature}", count.missing if count.mapped else "not mapped", count.out_of_range)
        for count in readiness.features
        if count.missing
    ]
    _print_table(console, f"missing values of {readiness.counted}", ("feature", "missing", "out of range"), gaps)
    _print_table(
        console, "exams, as they are used", ("modality", "what", "value", "exams"), exam_counts(readiness.exams)
    )
    _print_table(console, "split", ("part", "patients"), list(readiness.parts.items()))
    for problem in readiness.problems:
        style = STYLES[problem.severity]
        console.print(f"{problem.severity}: {problem.text}", style=style, markup=False, highlight=False, soft_wrap=True)
        if problem.fix:
            console.print(f"  to do:    {problem.fix}", markup=False, highlight=False, soft_wrap=True)


def _print_table(console: Console, title: str, heads: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    if not rows:
        return
    grid = Grid(title=Text(title), title_justify="left", title_style="bold")
    for index, head in enumerate(heads):
        grid.add_column(head, justify="right" if index else "left")
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    console.print(grid)
