"""Tables of a study's comparisons and of its matrix in a terminal; all of both is in two CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from server.study.results.comparison_section import COMPARISONS, MATRIX, MatrixCell, ModelComparison
from server.study.results.schema import Results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

HEADINGS = {"auc": "AUC", "c_index": "C-index", "auc_by_class": "AUC of classes"}


def print_comparisons(results: Results, folder: Path, console: Console) -> None:
    """Prints a table for each target, and where they are stored; a long name breaks, a number never."""
    for target in dict.fromkeys(row.target for row in results.comparisons):
        console.print(_comparisons(target, [row for row in results.comparisons if row.target == target]))
    for target in dict.fromkeys(one.target for one in results.matrix):
        console.print(_matrix(target, [one for one in results.matrix if one.target == target]))
    for file, rows in ((COMPARISONS, results.comparisons), (MATRIX, results.matrix)):
        if rows:
            console.print(f"{folder / file}: {len(rows)} rows", soft_wrap=True, highlight=False)


def _comparisons(target: str, rows: list[ModelComparison]) -> Table:
    table = _table(f"{target}: {HEADINGS[rows[0].measure]} within sites, against the study's network")
    table.add_column("model", overflow="fold")
    tested = any(row.mcnemar_p is not None for row in rows)
    for heading in ("patients", "value\n(95 % interval)", "difference\n(paired)", "p\n(Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    if tested:
        table.add_column("McNemar\n(Holm)", justify="right", no_wrap=True)
    for row in rows:
        value = interval(row.value, row.value_low, row.value_high)
        difference = interval(row.difference, row.difference_low, row.difference_high, digits=3)
        cells = [str(row.patients), value, difference, p_value(row.p_holm)]
        table.add_row(row.model, *cells, *([p_value(row.mcnemar_p_holm)] if tested else []))
    return table


def _matrix(target: str, cells: list[MatrixCell]) -> Table:
    """A row a model; of many sites a row a cell, so that no number is cut."""
    sites = list(dict.fromkeys(one.tested_on for one in cells))
    table = _table(f"{target}: {HEADINGS[cells[0].measure]} of the model of each row at the site of each column")
    table.add_column("trained on", overflow="fold")
    if len(sites) > 6:
        for heading in ("tested at", "patients", "value (95 % interval)"):
            table.add_column(heading, justify="right", overflow="fold")
        for one in cells:
            value = interval(one.value, one.value_low, one.value_high)
            table.add_row(one.trained_on, one.tested_on, str(one.patients), value)
        return table
    for site in sites:
        patients = next(one.patients for one in cells if one.tested_on == site)
        table.add_column(f"{site}\n{patients} patients", justify="right", overflow="fold")
    for model in dict.fromkeys(one.trained_on for one in cells):
        values = {one.tested_on: one.value for one in cells if one.trained_on == model}
        table.add_row(model, *(number(values.get(site)) for site in sites))
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def number(value: float | None, digits: int = 2) -> str:
    """So many decimals; a dash where there is none."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.00


def interval(value: float | None, low: float | None, high: float | None, digits: int = 2) -> str:
    """A value with its interval."""
    one, *ends = (number(each, digits) for each in (value, low, high))
    return one if value is None or low is None or high is None else f"{one} ({','.join(ends)})"


def p_value(value: float | None) -> str:
    """Three decimals; a dash where there is none."""
    return "-" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
