"""Table of a study's results as `results.csv`: a row a metric, for spreadsheets and statistics software."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from server.study.results.schema import FoldResults, Results
from server.study.study_files import writing
from shared_models.atomic_files import write_atomically
from shared_models.metrics.arrays import Metric

CSV = "results.csv"
COLUMNS = ("study", "fold", "target", "of", "metric", "value", "low", "high")
Row = tuple[str, str, str, str, str, float, Metric, Metric]


def write_csv(results: Results, folder: Path) -> Path:
    """Writes `results.csv` into the study's folder."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows(results)])
    path = folder / CSV
    with writing(path):
        write_atomically(path, text.getvalue())
    return path


def rows(results: Results) -> Iterator[Row]:
    """A row a metric that is a defined number: of all folds together, then of each, by role and by site."""
    yield from _rows(results.study, "all" if results.folds else "", results)
    for fold in results.folds:
        yield from _rows(results.study, fold.fold, fold)


def _rows(study: str, fold: str, part: Results | FoldResults) -> Iterator[Row]:
    for target, results in part.targets.items():
        by_place: dict[str, Mapping[str, Metric]] = {"internal": results.internal, "external": results.external}
        by_place |= {f"site {site.site}": {**site.targets.get(target, {})} for site in part.sites}
        for one in results.subgroups:
            place = f"{one.column}: {one.subgroup}"
            by_place |= {f"internal, {place}": one.internal, f"external, {place}": one.external}
        for site in part.sites:
            own = [one for one in site.subgroups if one.target == target]
            by_place |= {f"site {site.site}, {one.column}: {one.subgroup}": {**one.metrics} for one in own}
        by_place |= {
            f"site {site.site}, own network": {**site.personal[target]}
            for site in part.sites
            if target in site.personal
        }
        for place, metrics in by_place.items():
            for metric, value in metrics.items():
                if isinstance(value, float) and not metric.endswith(("_low", "_high")):
                    low, high = (metrics.get(f"{metric}{end}") for end in ("_low", "_high"))
                    yield study, fold, target, place, metric, value, low, high
        for role, losses in results.importance.items():
            for lost in losses:
                metric = f"{lost.measure}_lost, {lost.label}"
                if lost.drop is not None:
                    yield study, fold, target, role, metric, lost.drop, lost.drop_low, lost.drop_high
