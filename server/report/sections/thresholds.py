"""Section on the decision threshold: shares and counts at it, internal and external."""

from __future__ import annotations

from collections.abc import Mapping

from server.report.elements import Element, Panels, Row, Section, Table, not_recorded
from server.report.numbers import NBSP, NONE, bounds, count, number, percent
from server.report.study import ROLES, Outcome, Role, Study
from server.report.verdict import is_coarse, judged_role
from server.study.results.section import Metric
from shared_models.metrics.names import NAMES

TITLE = "Thresholds"
MAX_SITES = 40
SHARES = ("sensitivity", "specificity", "precision")


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
    counts = [metrics.get(name) for name in ("tp", "fp", "tn", "fn")]
    if any(not isinstance(value, float) for value in counts) or not sum(counts):  # type: ignore[arg-type]
        return None
    return (counts[0] + counts[1]) / sum(counts)  # type: ignore[operator,arg-type]


def _npv(metrics: Mapping[str, Metric]) -> float | None:
    tn, fn = metrics.get("tn"), metrics.get("fn")
    return tn / (tn + fn) if isinstance(tn, float) and isinstance(fn, float) and tn + fn > 0 else None


def _share(metrics: Mapping[str, Metric], name: str) -> str:
    ends = bounds(metrics, name)
    return percent(metrics.get(name)) + (f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f})" if ends else "")


def _table(study: Study, outcomes: list[Outcome]) -> Table:
    rows = []
    for outcome in outcomes:
        rows.append(Row(f"{outcome.full_label}, risk at or above {number(outcome.results.threshold)}", kind="group"))
        for role in _roles(outcome):
            metrics = outcome.metrics(role)
            shares = [_share(metrics, name) for name in SHARES]
            coarse = " (coarse: of merged cells)" if is_coarse(metrics) else ""
            rows.append(Row(f"{role}{coarse}", [percent(_flagged(metrics)), *shares, percent(_npv(metrics))], "sub"))
        rows += [_own(site.site, site.targets.get(outcome.name, {})) for site in study.results.sites[:MAX_SITES]]
    sources = "; ".join(dict.fromkeys(outcome.results.threshold_source for outcome in outcomes))
    weighted = " Weighted for censoring at the horizon." if any(o.kind == "time-to-event" for o in outcomes) else ""
    return Table(
        ["Threshold", "flagged", *(NAMES[name] for name in SHARES), "NPV"],
        rows,
        f"The threshold is frozen before any test patient is scored; it comes from: {sources}.{weighted}",
    )


def _own(site: str, metrics: Mapping[str, Metric]) -> Row:
    """What a site tells of itself, exact but for its rounding."""
    return Row(f"{site}, as it tells", [NONE, *(_share(metrics, name) for name in SHARES), NONE], "sub")


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
