"""Page of two studies, laid out as a report is."""

from __future__ import annotations

from pathlib import Path

from server.report.page import BANNER, FOOTER
from server.report.side_by_side import curves, hospitals, performance
from server.report.side_by_side.pair import Pair, difference_of, told_difference
from server.report.study import Outcome, Study
from server.study.results.results_file import read_results
from server.study.results.results_folder import FIGURES
from shared_models.atomic_files import write_atomically
from shared_models.pages.drawing import ROLES
from shared_models.pages.elements import Card, Verdict
from shared_models.pages.layout import Head, draw_figures, lay_out
from shared_models.pages.numbers import count, with_interval
from shared_models.report_answers import parse_answers

SECTIONS = {
    "settings": hospitals.settings,
    "hospitals": hospitals.hospitals,
    "performance": performance.performance,
    "curves": curves.curves,
    "training": curves.training,
    "privacy": hospitals.privacy,
}


def compare_reports(first: Path, second: Path) -> Path:
    """Writes a page of two studies beside the results of the first, and its figures into `figures`.

    Args:
        first: `results.json` of a study, or its `unfinished.json`.
        second: Of the other.

    Returns:
        The page's path.

    Raises:
        StudyError: If either cannot be read.
    """
    studies = [Study(r, parse_answers(str(r.config.get("report", "")))) for r in map(read_results, (first, second))]
    pair = Pair(studies[0], studies[1])
    made = {name: make(pair) for name, make in SECTIONS.items()}
    figures = draw_figures(made)
    for figure in figures:
        figure.save(first.parent / FIGURES)
    path = first.parent / f"compared_with_{pair.second.results.study}.html"
    write_atomically(path, lay_out(_head(pair), made, figures))
    return path


def _head(pair: Pair) -> Head:
    one, other = pair.names
    says = [*(_sentence(pair, *outcomes) for outcomes in pair.outcomes)] or ["The studies have no target in common"]
    for name, study in zip(pair.names, pair.both, strict=True):
        says += [f"{name}: {study.results.failure}"] if study.results.failure else []
    not_shown = [
        "which is better where an interval holds 0: it is of two samples taken as independent",
        *([] if pair.same_patients else ["that a difference is due to a setting: the patients are not the same"]),
    ]
    cards = [
        Card(count(sum(s.patients.get("test", 0) for s in study.results.sites)), "test patients", name)
        for name, study in zip(pair.names, pair.both, strict=True)
    ]
    return Head(
        title=f"{one} beside {other}",
        kind="study report",
        line=f"Two studies · {pair.first.results.task}"
        + ("" if pair.first.results.task == pair.second.results.task else f" and {pair.second.results.task}"),
        verdict=Verdict(tuple(says), tuple(not_shown), tuple(cards)),
        failed=any(study.results.failure for study in pair.both),
        banner=BANNER,
        footer=FOOTER.format("two results.json"),
    )


def _sentence(pair: Pair, first: Outcome, second: Outcome) -> str:
    for role in reversed(ROLES):
        gap = difference_of(first, second, role)
        if gap is not None:
            values = [with_interval(o.metrics(role), o.primary(o.metrics(role))[0]) for o in (first, second)]
            shown = "no difference is shown" if gap[1] <= 0 <= gap[2] else "a difference is shown"
            return (
                f"{first.measure_name} of {first.full_label}, {role} test patients: {values[0]} in {pair.names[0]}, "
                f"{values[1]} in {pair.names[1]}; difference {told_difference(gap)}: {shown}."
            )
    return f"{first.full_label}: no measure with an interval that both studies tell."
