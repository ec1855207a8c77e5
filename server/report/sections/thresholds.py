"""Section on the decision threshold: shares at it and at others, counts at it, internal and external."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from server.report.study import Outcome, Study
from server.report.verdict import judged_role
from shared_models.metrics.arrays import Metric
from shared_models.metrics.names import NAMES
from shared_models.pages.curves import is_coarse
from shared_models.pages.drawing import ROLES, Role
from shared_models.pages.elements import Element, Panels, Row, Section, Table, not_recorded
from shared_models.pages.numbers import NBSP, bounds, count, number, percent

TITLE = "Thresholds"
MAX_SITES = 40
SHOWN = 5
"""Thresholds beside the frozen one, the nearest."""
SHARES = ("flagged", "sensitivity", "specificity", "precision", "npv")


def section(study: Study) -> Section:
    """What the frozen threshold does, target by target."""
    outcomes = [outcome for outcome in study.outcomes if outcome.ranks and outcome.results.threshold is not None]
    if not outcomes:
        return not_recorded(TITLE, "no target of this study has a decision threshold.")
    elements: list[Element] = [
        _table(study, outcomes),
        Panels([_counts(o, role) for o in outcomes for role in _roles(o)], _note(outcomes)),
    ]
    return Section(TITLE, " ".join(map(_lead, outcomes)), elements)


def _roles(outcome: Outcome) -> list[Role]:
    """The roles whose counts are summed over sites."""
    return [
        role for role in ROLES if outcome.metrics(role).get("patients") and outcome.metrics(role) is not outcome.alone
    ]


def _lead(outcome: Outcome) -> str:
    role = judged_role(outcome)
    metrics = outcome.metrics(role)
    sensitivity, flagged = metrics.get("sensitivity"), _flagged(metrics)
    if is_coarse(metrics):
        return (
            f"{outcome.full_label}: the sums over sites are of merged cells, and too coarse for rates at one "
            "threshold; those that sites tell of themselves are exact."
        )
    if sensitivity is None:
        return f"{outcome.full_label}: too few patients to say what the threshold does.".capitalize()
    return (
        f"At the frozen threshold of {number(outcome.results.threshold)}, {percent(sensitivity)} of {role} patients "
        f"with {outcome.full_label} were found"
        f"{'' if flagged is None else f', and {percent(flagged)} of patients flagged'}."
    )


def _flagged(metrics: Mapping[str, Metric]) -> float | None:
    """The share at or above the threshold; of an earlier release's results from their counts."""
    counts = [metrics.get(name) for name in ("tp", "fp", "tn", "fn")]
    if any(not isinstance(value, float) for value in counts) or not sum(counts):  # type: ignore[arg-type]
        return None
    return (counts[0] + counts[1]) / sum(counts)  # type: ignore[operator,arg-type]


def _share(metrics: Mapping[str, Metric], name: str) -> str:
    ends = bounds(metrics, name)
    return percent(metrics.get(name)) + (f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f})" if ends else "")


def _table(study: Study, outcomes: list[Outcome]) -> Table:
    rows = []
    for outcome in outcomes:
        for role in _roles(outcome):
            coarse = " (coarse: of merged cells)" if is_coarse(outcome.metrics(role)) else ""
            rows.append(Row(f"{outcome.full_label}, {role}{coarse}: risk at or above", kind="group"))
            rows += _by_threshold(outcome, outcome.metrics(role))
        frozen = number(outcome.results.threshold)
        rows.append(Row(f"{outcome.full_label}, as sites tell of themselves: risk at or above {frozen}", kind="group"))
        rows += [_own(site.site, site.targets.get(outcome.name, {})) for site in study.results.sites[:MAX_SITES]]
    sources = "; ".join(dict.fromkeys(outcome.results.threshold_source for outcome in outcomes))
    weighted = " Weighted for censoring at the horizon." if any(o.kind == "time-to-event" for o in outcomes) else ""
    return Table(
        ["Threshold", *(NAMES[name] for name in SHARES)],
        rows,
        f"95{NBSP}% intervals in brackets. The frozen threshold was chosen before any test patient was scored; it "
        f"comes from: {sources}. The other rows are context, not a choice; one with fewer than ten patients on a side "
        f"is left out.{weighted}",
    )


def _by_threshold(outcome: Outcome, metrics: Mapping[str, Metric]) -> list[Row]:
    """The frozen threshold's row among those of the nearest fixed ones, in their order."""
    frozen = outcome.results.threshold
    assert frozen is not None
    lists = {name: points for name, points in metrics.items() if isinstance(points, list)}
    fixed = lists.get("by_threshold", [])
    others = [
        (threshold, index)
        for index, threshold in enumerate(fixed)
        if threshold is not None and lists["by_threshold_flagged"][index] is not None and abs(threshold - frozen) > 0.01
    ]
    nearest = sorted(others, key=lambda each: abs(each[0] - frozen))[:SHOWN]
    rows = [(threshold, _row(threshold, _at(lists, index), "sub")) for threshold, index in nearest]
    alone = {"flagged": _flagged(metrics), **metrics}  # an earlier release has the rest of this row only
    rows.append((frozen, _row(frozen, alone, "chosen", tag="frozen")))
    return [row for _, row in sorted(rows, key=lambda each: each[0])]


def _at(lists: Mapping[str, list[float | None]], index: int) -> dict[str, Metric]:
    """The rates at one of the fixed thresholds, by name."""
    ends = ("", "_low", "_high")
    return {f"{name}{end}": lists[f"by_threshold_{name}{end}"][index] for name in SHARES for end in ends}


def _row(threshold: float, metrics: Mapping[str, Metric], kind: Literal["sub", "chosen"], tag: str = "") -> Row:
    return Row(number(threshold), [_share(metrics, name) for name in SHARES], kind, tag)


def _own(site: str, metrics: Mapping[str, Metric]) -> Row:
    """What a site tells of itself, exact but for its rounding."""
    return Row(site, [_share(metrics, name) for name in SHARES], "sub")


def _counts(outcome: Outcome, role: Role) -> Table:
    metrics, threshold = outcome.metrics(role), number(outcome.results.threshold)
    head = f"{outcome.label}, {role}, threshold {threshold}"
    rows = [
        Row(f"risk ≥ {threshold}", [count(metrics.get("tp")), count(metrics.get("fp"))]),
        Row(f"risk < {threshold}", [count(metrics.get("fn")), count(metrics.get("tn"))]),
    ]
    with_it = f"event {outcome.within}" if outcome.within else "with the outcome"
    without = "free of it" if outcome.within else "without it"
    return Table(["", with_it, without], rows, title=head)


def _note(outcomes: list[Outcome]) -> str:
    if any(outcome.kind == "time-to-event" for outcome in outcomes):
        return (
            "Numbers of test patients, those followed to the horizon in place of the ones who were censored before "
            f"it (weighted, rounded).{NBSP}Censored patients are not counted as free of the event."
        )
    return "Numbers of test patients."
