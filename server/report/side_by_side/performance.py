"""Section on what two studies reach, over all hospitals and at each."""

from __future__ import annotations

from collections.abc import Iterator

from server.report.side_by_side.pair import LOOKS, MAX_SITES, Pair, difference, more, told_difference
from server.report.study import Outcome
from shared_models.metrics.names import NAMES
from shared_models.pages.drawing import ROLES, Role
from shared_models.pages.elements import Element, Figure, Row, Section, Table, not_recorded
from shared_models.pages.forest import Line, draw_forest
from shared_models.pages.numbers import NBSP, bounds, count, with_interval

_MEASURES = (
    ("average_precision", 2),
    ("calibration_slope", 2),
    ("expected_observed_ratio", 2),
    ("brier", 3),
    ("c_index_within_sites", 2),
    ("accuracy", 2),
    ("mae", 2),
)


def performance(pair: Pair) -> Section:
    """Measures of both with their difference, and each hospital of both."""
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
    listed = [(first.measure_name, primary, 2), *((NAMES[name], [name, name], digits) for name, digits in _MEASURES)]
    for head, names, digits in listed:
        pairs = list(zip(each, names, strict=True))
        if all(metrics.get(name) is not None for metrics, name in pairs):
            cells = [with_interval(metrics, name, digits) for metrics, name in pairs]
            yield Row(head, [*cells, told_difference(difference(pairs[0], pairs[1]))], "sub")


def _forest(pair: Pair, first: Outcome, second: Outcome) -> Iterator[Figure]:
    own = [{s.site: s.targets.get(first.name, {}) for s in study.results.sites} for study in pair.both]
    shared = [site for site in own[0] if site in own[1]]
    lines, values = [], []
    for site in shared[:MAX_SITES]:
        lines.append(Line(site, kind="heading"))
        for name, metrics, (_, _, role) in zip(pair.names, (own[0][site], own[1][site]), LOOKS, strict=True):
            measure = first.measure
            value, ends = metrics.get(measure), bounds({**metrics}, measure)
            estimate = with_interval({**metrics}, measure) if value is not None else "too few patients to tell"
            lines.append(Line(name, [count(metrics.get("patients"))], value, ends, estimate, role=role))
            values.append([site, name, metrics.get("patients"), value, *(ends or (None, None))])
    if any(line.value is not None for line in lines):
        yield Figure(
            f"compared_{first.name}",
            lambda: draw_forest(lines, ["hospital", "patients"], first.measure_name, 0.5 if first.ranks else None),
            f"{first.measure_name} of {first.full_label} by hospital, of both studies",
            f"{first.measure_name} of {first.full_label} at hospitals of both, as each tells. {more(len(shared))}",
            ("hospital", "study", "patients", first.measure, "low", "high"),
            values,
        )
