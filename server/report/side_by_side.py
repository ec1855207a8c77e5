"""Two studies side by side on one page: what differs in settings, hospitals, performance, curves, training, privacy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.report.bands import Curve
from server.report.drawing import BLUE, HOLLOW, ORANGE, canvas, draw, whole_numbers
from server.report.elements import Element, Figure, Row, Section, Table, not_recorded
from server.report.forest import Line, draw_forest
from server.report.numbers import NBSP, NONE, bounds, count, number, span, with_interval
from server.report.page import FIGURES, Head, lay_out
from server.report.sections.calibration import CALIBRATION
from server.report.sections.curves import AXES, CURVES
from server.report.sections.privacy import spent_by_site
from server.report.study import ROLES, Outcome, Role, Study
from server.report.verdict import Card, Verdict
from server.study.results.results_file import read_results
from server.study.results.schema import Metric
from shared_models.atomic_files import write_atomically
from shared_models.report_answers import parse_answers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

MOST_SITES = 25
LOOKS: tuple[tuple[str, str, Role], ...] = ((BLUE, "-", "internal"), (ORANGE, "--", "external"))
"""Colour, dash and marker of the first study and of the second; the markers are those of the two roles elsewhere."""
_MEASURES = (
    ("PR-AUC", "average_precision", 2),
    ("calibration slope", "calibration_slope", 2),
    ("expected/observed", "expected_observed_ratio", 2),
    ("Brier score", "brier", 3),
    ("C-index within sites", "c_index_within_sites", 2),
    ("accuracy", "accuracy", 2),
    ("MAE", "mae", 2),
)


@dataclass(frozen=True)
class Pair:
    """The two studies.

    Attributes:
        first: The one that is compared.
        second: The one that it is compared with.
    """

    first: Study
    second: Study

    @property
    def names(self) -> tuple[str, str]:
        """What they are called; two runs of one name are told apart."""
        one, other = (study.results.study for study in self.both)
        return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")

    @property
    def both(self) -> tuple[Study, Study]:
        """In their order."""
        return self.first, self.second

    @property
    def outcomes(self) -> list[tuple[Outcome, Outcome]]:
        """Targets that both have, of the same kind and horizon."""
        others = {outcome.name: outcome for outcome in self.second.outcomes}
        found = [(one, others[one.name]) for one in self.first.outcomes if one.name in others]
        return [(a, b) for a, b in found if (a.kind, a.within) == (b.kind, b.within)]


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
    made = {
        make.__name__.strip("_"): make(pair) for make in (_settings, _sites, _performance, _curves, _training, _privacy)
    }
    elements = (element for section in made.values() for element in section.elements)
    drawn = {element.name: draw(element) for element in elements if isinstance(element, Figure)}
    for figure in drawn.values():
        figure.save(first.parent / FIGURES)
    path = first.parent / f"compared_with_{pair.second.results.study}.html"
    write_atomically(path, lay_out(_head(pair), made, drawn))
    return path


def _head(pair: Pair) -> Head:
    one, other = pair.names
    says = [*(_sentence(pair, *outcomes) for outcomes in pair.outcomes)] or ["The studies have no target in common"]
    for name, study in zip(pair.names, pair.both, strict=True):
        says += [f"{name}: {study.results.failure}"] if study.results.failure else []
    not_shown = [
        "which is better where an interval holds 0: it is of two samples taken as independent",
        *([] if _alike(pair) else ["that a difference is due to a setting: the patients are not the same"]),
    ]
    cards = [
        Card(count(sum(s.patients.get("test", 0) for s in study.results.sites)), "test patients", name)
        for name, study in zip(pair.names, pair.both, strict=True)
    ]
    return Head(
        title=f"{one} beside {other}",
        line=f"Two studies · {pair.first.results.task}"
        + ("" if pair.first.results.task == pair.second.results.task else f" and {pair.second.results.task}"),
        verdict=Verdict(tuple(says), tuple(not_shown), tuple(cards)),
        failed=any(study.results.failure for study in pair.both),
        made_from="two results.json",
    )


def _sentence(pair: Pair, first: Outcome, second: Outcome) -> str:
    for role in reversed(ROLES):
        told = _difference(first, second, role)
        if told is not None:
            values = [with_interval(o.metrics(role), o.primary(o.metrics(role))[0]) for o in (first, second)]
            shown = "no difference is shown" if told[1] <= 0 <= told[2] else "a difference is shown"
            return (
                f"{first.measure_name} of {first.full_label}, {role} test patients: {values[0]} in {pair.names[0]}, "
                f"{values[1]} in {pair.names[1]}; difference {_told(told)}: {shown}."
            )
    return f"{first.full_label}: no measure with an interval that both studies tell."


def _difference(first: Outcome, second: Outcome, role: Role) -> tuple[float, float, float] | None:
    return difference(*((o.metrics(role), o.primary(o.metrics(role))[0]) for o in (first, second)))


def difference(
    first: tuple[Mapping[str, Metric], str], second: tuple[Mapping[str, Metric], str]
) -> tuple[float, float, float] | None:
    """First less second with the bounds of Zou and Donner, of two samples taken as independent; None without bounds.

    Scores of the same patients agree, so that of them the interval is wider than it need be.

    Args:
        first: Metrics, and the name of one of them.
        second: likewise.
    """
    (one, own), (other, others) = first, second
    a, b, of_a, of_b = one.get(own), other.get(others), bounds(one, own), bounds(other, others)
    if not isinstance(a, float) or not isinstance(b, float) or of_a is None or of_b is None:
        return None
    return a - b, a - b - math.hypot(a - of_a[0], of_b[1] - b), a - b + math.hypot(of_a[1] - a, b - of_b[0])


def _told(told: tuple[float, float, float] | None, digits: int = 3) -> str:
    return f"{number(told[0], digits, sign=True)} ({span(told[1:], digits)})" if told else NONE


def _settings(pair: Pair) -> Section:
    one, other = (
        {
            **study.results.config,
            "task": study.results.task,
            "rounds completed": study.results.rounds_completed,
            "round tested": study.results.best_round,
            "package version": study.results.package_version,
        }
        for study in pair.both
    )
    hidden = {"study", "report", "results-dir", "overwrite", "resume"}
    keys = [key for key in {**one, **other} if key not in hidden and one.get(key) != other.get(key)]
    if not keys:
        return Section("What differs", "No setting differs.")
    rows = [Row(key, [str(each.get(key, NONE)) or NONE for each in (one, other)]) for key in keys]
    return Section(
        "What differs",
        f"{len(keys)} settings differ; all others are the same.",
        [Table(["setting", *pair.names], rows, text_columns=2)],
    )


def _alike(pair: Pair) -> bool:
    """Whether all sites are the same, and read the same data."""
    one, other = ({s.site: s.fingerprint for s in study.results.sites} for study in pair.both)
    return one == other and all(one.values())


def _sites(pair: Pair) -> Section:
    own = [{site.site: site for site in study.results.sites} for study in pair.both]
    rows = []
    for name in [*{**own[0], **own[1]}][:MOST_SITES]:
        cells = [
            f"{'trains' if site.role == 'train' else 'only tested'}, {count(site.patients.get('test'))} tested"
            if (site := each.get(name))
            else "took no part"
            for each in own
        ]
        prints = [site.fingerprint if (site := each.get(name)) else "" for each in own]
        same = (
            "not recorded"
            if not all(prints)
            else "the same"
            if prints[0] == prints[1]
            else "other data, or another split"
        )
        rows.append(Row(name, [*cells, same if name in own[0] and name in own[1] else NONE]))
    caption = (
        "A fingerprint is a hash that each site makes of the data that it read and of their split, with a secret of "
        f"its own. {_more(len({**own[0], **own[1]}))}"
    )
    return Section("Hospitals", "", [Table(["hospital", *pair.names, "by fingerprint"], rows, caption, text_columns=3)])


def _more(sites: int) -> str:
    return f"The first {MOST_SITES} of {sites} are listed." if sites > MOST_SITES else ""


def _performance(pair: Pair) -> Section:
    if not pair.outcomes:
        return not_recorded("Performance", "the studies have no target of the same kind and horizon in common.")
    elements: list[Element] = []
    for first, second in pair.outcomes:
        rows = [row for role in ROLES for row in _measured(first, second, role)]
        caption = (
            f"{first.full_label}; 95{NBSP}% intervals. The difference is first less second, its interval that of two "
            "samples taken as independent: of the same patients it is wider than it need be."
        )
        elements += [Table([first.label, *pair.names, "difference"], rows, caption)] if rows else []
        elements += _forest(pair, first, second)
    return Section("Performance", "", elements)


def _measured(first: Outcome, second: Outcome, role: Role) -> Iterator[Row]:
    each = [outcome.metrics(role) for outcome in (first, second)]
    if not all(metrics.get("patients") for metrics in each):
        return
    yield Row(f"{role} test patients", [*(count(metrics.get("patients")) for metrics in each), ""], "head")
    primary = [outcome.primary(metrics)[0] for outcome, metrics in zip((first, second), each, strict=True)]
    listed = [(first.measure_name, primary, 2), *((head, [name, name], digits) for head, name, digits in _MEASURES)]
    for head, names, digits in listed:
        pairs = list(zip(each, names, strict=True))
        if all(metrics.get(name) is not None for metrics, name in pairs):
            cells = [with_interval(metrics, name, digits) for metrics, name in pairs]
            yield Row(head, [*cells, _told(difference(pairs[0], pairs[1]))], "sub")


def _forest(pair: Pair, first: Outcome, second: Outcome) -> Iterator[Figure]:
    own = [{s.site: s.targets.get(first.name, {}) for s in study.results.sites} for study in pair.both]
    shared = [site for site in own[0] if site in own[1]]
    lines, values = [], []
    for site in shared[:MOST_SITES]:
        lines.append(Line(site, kind="heading"))
        for name, metrics, (_, _, role) in zip(pair.names, (own[0][site], own[1][site]), LOOKS, strict=True):
            measure = first.measure
            value, ends = metrics.get(measure), bounds({**metrics}, measure)
            told = with_interval({**metrics}, measure) if value is not None else "too few patients to tell"
            lines.append(Line(name, [count(metrics.get("patients"))], value, ends, told, role=role))
            values.append([site, name, metrics.get("patients"), value, *(ends or (None, None))])
    if any(line.value is not None for line in lines):
        yield Figure(
            f"compared_{first.name}",
            lambda: draw_forest(lines, ["hospital", "patients"], first.measure_name, 0.5 if first.ranks else None),
            f"{first.measure_name} of {first.full_label} by hospital, of both studies",
            f"{first.measure_name} of {first.full_label} at hospitals of both studies, as each tells. {_more(len(shared))}",
            ("hospital", "study", "patients", first.measure, "low", "high"),
            values,
        )


def _curves(pair: Pair) -> Section:
    figures = [figure for outcomes in pair.outcomes for role in ROLES for figure in _overlaid(pair, outcomes, role)]
    if not figures:
        return not_recorded("Curves", "no target of both studies has curves.")
    return Section("Curves", f"Bands are 95{NBSP}% at each point.", figures)


def _overlaid(pair: Pair, outcomes: tuple[Outcome, Outcome], role: Role) -> Iterator[Figure]:
    kinds = {**CURVES, "calibration": CALIBRATION}
    curves = {kind: [Curve.of(outcome.metrics(role), *keys) for outcome in outcomes] for kind, keys in kinds.items()}
    if not all(curves["ROC"]):
        return
    yield Figure(
        f"compared_curves_{outcomes[0].name}_{role}",
        lambda: _draw_curves(pair, curves),
        f"ROC, precision-recall and calibration curves of {outcomes[0].full_label}, {role}, of both studies",
        f"{outcomes[0].full_label}, {role} test patients. Solid: {pair.names[0]}; dashed: {pair.names[1]}.",
        ("study", "curve", "x", "y", "low", "high"),
        [
            (name, kind, *row)
            for kind, both in curves.items()
            for name, curve in zip(pair.names, both, strict=True)
            for row in curve.rows
        ],
    )


def _draw_curves(pair: Pair, curves: Mapping[str, list[Curve]]) -> Drawing:
    drawing, all_axes = canvas(3.4, 3)
    frames: dict[str, tuple[str, str]] = {**AXES, "calibration": ("predicted risk", "observed share")}
    for axes, (kind, both) in zip(all_axes, curves.items(), strict=True):
        for curve, name, (colour, dash, _) in zip(both, pair.names, LOOKS, strict=True):
            curve.draw(axes, colour, linestyle=dash, label=name)
        _frame(axes, kind, frames[kind])
    all_axes[0].legend(loc="lower right")
    return drawing


def _frame(axes: Axes, kind: str, labels: tuple[str, str]) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=labels[0], ylabel=labels[1])
    if kind != "PR":
        axes.plot([0, 1], [0, 1], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)


def _training(pair: Pair) -> Section:
    lines = [[(r, value) for r, value in study.results.validation if value is not None] for study in pair.both]
    if not any(lines):
        return not_recorded("Training", "neither study has validation values.")
    return Section(
        "Training",
        "",
        [
            Figure(
                "compared_training",
                lambda: _draw_training(pair, lines),
                "Validation value by round, of both studies",
                "Validation value by round; of other patients or targets the two are not on one scale.",
                ("study", "round", "value"),
                [(name, *point) for name, line in zip(pair.names, lines, strict=True) for point in line],
            )
        ],
    )


def _draw_training(pair: Pair, lines: list[list[tuple[int, float]]]) -> Drawing:
    drawing, (axes,) = canvas(2.9, share=0.6)
    for line, name, (colour, dash, _) in zip(lines, pair.names, LOOKS, strict=True):
        if line:
            axes.plot(*zip(*line, strict=True), color=colour, linestyle=dash, label=name)
    axes.set(xlabel="round", ylabel="validation value")
    whole_numbers(axes)
    axes.legend(loc="lower right")
    return drawing


def _privacy(pair: Pair) -> Section:
    def told(study: Study) -> list[str]:
        privacy, spent = study.results.privacy, spent_by_site(study)
        most = f"{number(max(one.epsilon for one in spent.values()), 1)}" if spent else NONE
        secure = "off" if privacy.colluders is None else "on"
        return [privacy.unit or "none", privacy.mechanism or "none", most, secure]

    heads = ("unit", "mechanism", "largest ε that a site spent", "secure aggregation")
    columns = [told(study) for study in pair.both]
    rows = [Row(head, list(cells)) for head, *cells in zip(heads, *columns, strict=True)]
    return Section("Privacy", "", [Table(["", *pair.names], rows, text_columns=2)])
