"""Readiness report of a site as one HTML file that stays there: counts, problems, distributions, pictures.

It loads and runs nothing: styles and pictures are in the file, and its Content-Security-Policy forbids the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.checks.exam_list import exam_counts, patients_of_remarks
from client.checks.pictures import pictures
from client.checks.readiness import FeatureCounts, Readiness
from client.checks.tables_read import outcomes_read, tables_read
from client.errors import SiteError
from client.onboarding.vocabulary import KNOWN
from client.private_files import write_private
from client.readers.table import TableReader
from shared_models.features import Feature
from shared_models.task import Table

FILE = "readiness.html"
TEMPLATE = Path(__file__).with_name("page.html.jinja")
BINS = 24
SHOWN_FEATURES = 150  # of a modality: a page of every gene is of no use


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram: where it starts and ends, and how high it is, from 0 to 1."""

    start: float
    end: float
    height: float
    outside: bool


@dataclass(frozen=True)
class Shown:
    """A feature as the page shows it.

    Attributes:
        counts: Its counts.
        known: Values there are.
        bars: Its histogram; empty for a category or without values.
        summary: Its values in words.
        expected: Between what its values are expected, in words, or nothing.
        outside: Values that are not.
        edges: Where the expected range begins and ends along the histogram, from 0 to 1.
        categories: Its categories, how many have each, and their share of the most frequent one.
    """

    counts: FeatureCounts
    known: int
    bars: tuple[Bar, ...] = ()
    summary: str = ""
    expected: str = ""
    outside: int = 0
    edges: tuple[float, ...] = ()
    categories: tuple[tuple[str, int, float], ...] = ()


def write_page(readiness: Readiness, state_dir: Path, study: str = "") -> Path:
    """Writes `readiness.html` into the site's own folder, readable for its owner only.

    Args:
        readiness: What was found.
        state_dir: The site's own folder.
        study: The study's name, if it was checked for one.

    Raises:
        SiteError: If the folder cannot be written.
    """
    path = state_dir / FILE
    write_private(path, render(readiness, study))
    return path


def render(readiness: Readiness, study: str = "") -> str:
    """The page; all that comes from the site's files is escaped."""
    from jinja2 import Environment, StrictUndefined

    # autoescape: a column may be called <script>
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    features = {
        name: list(_shown(readiness, name))
        for name, kind in readiness.task.modalities.items()
        if isinstance(kind, Table)
    }
    return template.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        readiness=readiness,
        study=study,
        checked=time.strftime("%Y-%m-%d %H:%M"),
        severities={key: [p for p in readiness.problems if p.severity == key] for key in ("error", "warning", "note")},
        aside={
            name: len({one.patient for one in readiness.excluded if one.modality == name})
            for name in readiness.modalities
        },
        features={name: shown for name, shown in features.items() if shown},
        hidden={
            name: sum(count.modality == name for count in readiness.features) - len(features[name]) for name in features
        },
        chosen={
            "Tables": tables_read(readiness.cohort_rows),
            "Outcomes": outcomes_read(readiness.cohort_rows),
            "Exams": [(name, what, f"{value} ({count})") for name, what, value, count in exam_counts(readiness.exams)],
        },
        remarks=patients_of_remarks(readiness.cohort_rows, readiness.exams),
        pictures=pictures(readiness),
    )


def _shown(readiness: Readiness, name: str) -> Iterator[Shown]:
    """The features of a table, each with its values before those out of range were taken out."""
    kind = readiness.task.modalities[name]
    counts = [count for count in readiness.features if count.modality == name][:SHOWN_FEATURES]
    if readiness.cohort_rows is None or not counts or not isinstance(kind, Table):
        return
    reader = readiness.cohort_rows.site.modalities[name]
    assert isinstance(reader, TableReader)
    columns = {key: column.model_copy(update={"range": None}) for key, column in reader.features.items()}
    unbounded = reader.model_copy(update={"features": columns})
    features = kind.features[:SHOWN_FEATURES]
    try:
        values = unbounded.values(readiness.cohort_rows, features).values
    except SiteError:  # it is among the problems
        return
    for feature, count, column in zip(features, counts, values.T, strict=True):
        settings = reader.column(feature)
        yield show(feature, count, column, settings.range if settings else None)


def show(
    feature: Feature, counts: FeatureCounts, values: NDArray[np.float64], bounds: tuple[float, float] | None
) -> Shown:
    """How a feature's R values lie.

    Args:
        feature: As the study lists it.
        counts: What was counted.
        values: NaN where missing; a category is given by its index.
        bounds: The range in the site's YAML, or None for the plausible one if there is such.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return Shown(counts, 0)
    if feature.categories:
        each = [int((known == index).sum()) for index in range(len(feature.categories))]
        rows = zip(feature.categories, each, [one / max(each) for one in each], strict=True)
        return Shown(counts, len(known), categories=tuple(rows))
    plausible = KNOWN[feature.name].plausible if feature.name in KNOWN else None
    expected = bounds or plausible
    low, quarter, half, three, high = np.percentile(known, [0, 25, 50, 75, 100])
    middle = f"median {_number(half)}, middle half {_number(quarter)} to {_number(three)}"
    summary = f"{middle}, all {_number(low)} to {_number(high)}"
    if expected is None:
        return Shown(counts, len(known), _bars(known, (-np.inf, np.inf)), summary)
    outside = int(((known < expected[0]) | (known > expected[1])).sum())
    where = f"{expected[0]:g} to {expected[1]:g}" + ("" if bounds else " (plausible)")
    start, end = float(low), float(high)
    edges = [(edge - start) / (end - start) for edge in expected if start < edge < end]
    return Shown(counts, len(known), _bars(known, expected), summary, where, outside, tuple(edges))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _bars(known: NDArray[np.float64], expected: Sequence[float]) -> tuple[Bar, ...]:
    if known.min() == known.max():
        return (Bar(0.45, 0.55, 1.0, not expected[0] <= known[0] <= expected[1]),)
    heights, edges = np.histogram(known, BINS)
    places = (edges - edges[0]) / (edges[-1] - edges[0])
    middles = (edges[1:] + edges[:-1]) / 2
    return tuple(
        Bar(float(left), float(right), float(height / heights.max()), not expected[0] <= middle <= expected[1])
        for left, right, height, middle in zip(places[:-1], places[1:], heights, middles, strict=True)
        if height
    )
