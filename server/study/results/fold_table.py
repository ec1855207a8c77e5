"""Table of a study's folds in a terminal, a row a fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from server.study.results.schema import FoldResults
from shared_models.metrics.arrays import Metric

if TYPE_CHECKING:
    from rich.table import Table


def of_all_folds(folds: Sequence[FoldResults]) -> str:
    """What the table of a study with folds shows, in a sentence."""
    if folds[0].left_out:
        return "Each site's row is of the network that was trained without that site, and so is an external one."
    repeats = max(fold.repeat for fold in folds)
    often = f"; the mean of {repeats} repeats" if repeats > 1 else ""
    return f"Every patient is tested by the network of the fold that was trained without that patient{often}."


def fold_table(folds: Sequence[FoldResults], target: str) -> Table:
    """A row a fold: its round, and what it gives at the sites that trained and at those that did not."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = [name for name in _OF_A_FOLD if name in folds[0].targets[target].internal]
    roles = [role for role in ("internal", "external") if _tested(folds, target, role)]
    for heading in ("fold", "round", *(f"{role}\n{_OF_A_FOLD[name]}" for role in roles for name in names)):
        table.add_column(heading, no_wrap=heading == "fold", justify="left" if heading == "fold" else "right")
    for fold in folds:
        results = fold.targets[target]
        cells = [cell(getattr(results, role), name, 2, bounds=False) for role in roles for name in names]
        table.add_row(fold.fold, f"{fold.best_round} of {fold.rounds_completed}", *cells)
    return table


_OF_A_FOLD = {
    "c_index_within_sites": "C-index",
    "auc_within_sites": "AUC",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "r2": "R2",
}


def _tested(folds: Sequence[FoldResults], target: str, role: str) -> bool:
    return any(getattr(fold.targets[target], role).get("patients") for fold in folds)


WITH_INTERVAL = ("auc", "c_index")
"""Metrics whose interval a table shows; results.json has that of every metric."""


def cell(metrics: Mapping[str, Metric], name: str, digits: int, bounds: bool = True) -> str:
    """A metric as a table shows it, with its interval where that has a column; `-` where it is withheld."""
    value, low, high = (metrics.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if not isinstance(value, float):
        return "-"
    has_interval = bounds and name.startswith(WITH_INTERVAL) and isinstance(low, float) and isinstance(high, float)
    interval = f" ({low:.{digits}f}-{high:.{digits}f})" if has_interval else ""
    return f"{value:.{digits}f}{interval}"
