"""Section on discrimination: each site, within sites, between sites, and where a new hospital may lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.report.measure_tables import further_measures
from server.report.study import Outcome, Study
from server.report.verdict import horizon_note
from server.study.results.sites_section import SiteResults
from shared_models.metrics.arrays import Metric
from shared_models.pages.class_table import class_table
from shared_models.pages.curves import Tested
from shared_models.pages.drawing import ROLES, Role
from shared_models.pages.elements import Element, Figure, Notice, Row, Section, Table, not_recorded
from shared_models.pages.forest import Line, draw_forest
from shared_models.pages.numbers import NBSP, NONE, bounds, count, names, number, percent, span, with_interval

TITLE = "Discrimination"
MAX_SITES = 60  # in the figure; the CSV has all
HEADS: Mapping[Role, str] = {
    "internal": "Internal: trained here, test patients",
    "external": "External: took no part in training",
}
FEW = "too few patients to tell"


def section(study: Study) -> Section:
    """A forest plot for each target, the value of all pairs apart, and further measures."""
    if not study.outcomes:
        return not_recorded(TITLE, "nothing was tested.")
    elements: list[Element] = []
    for outcome in study.outcomes:
        elements.append(_forest(study, outcome))
        elements += _apart(outcome)
    elements += [*_folds(study), *further_measures(study)]
    elements += [table for one in study.outcomes for table in class_table(one.label, one.results.classes, _roles(one))]
    return Section(TITLE, " ".join(_lead(outcome) for outcome in study.outcomes), elements)


def _roles(outcome: Outcome) -> list[Tested]:
    return [Tested(role, role, outcome.metrics(role)) for role in ROLES]


def _lead(outcome: Outcome) -> str:
    estimates = []
    for role in reversed(ROLES):
        metrics = outcome.metrics(role)
        name, value = outcome.primary(metrics)
        if value is not None:
            place = "external hospitals" if role == "external" else "hospitals that trained"
            estimates.append(f"{with_interval(metrics, name)} within {place}")
    between = outcome.results.between_sites.get(outcome.measure)
    prediction = (between.prediction_low, between.prediction_high) if between else (None, None)
    new = ""
    if prediction[0] is not None and prediction[1] is not None:
        new = f" The 95{NBSP}% prediction interval for a further hospital is {span((prediction[0], prediction[1]))}."
    head = f"{outcome.measure_name} of {outcome.full_label}"
    return f"{head}: {', '.join(estimates)}.{new}" if estimates else f"{head}: too few patients to tell."


def _forest(study: Study, outcome: Outcome) -> Figure:
    lines = list(_lines(study, outcome))
    timed = outcome.kind == "time-to-event"
    headings = ["site", "patients", *(["events", "censored"] if timed else ["cases"] if outcome.ranks else [])]
    axis = f"{outcome.measure_name} {outcome.within}" + (" (0.5: chance)" if outcome.ranks else "")
    chance = 0.5 if outcome.ranks else None
    interval = f"{outcome.measure_name} (95{NBSP}% interval)"
    return Figure(
        name=f"performance_{outcome.name}",
        draw=lambda: draw_forest(lines, headings, axis, chance, interval),
        alt=f"{outcome.measure_name} of {outcome.full_label} by site, within sites and between sites",
        caption=_caption(study, outcome),
        columns=("role", "row", *headings[1:], outcome.measure, "low", "high"),
        values=list(_values(study, outcome)),
    )


def _caption(study: Study, outcome: Outcome) -> str:
    between = outcome.results.between_sites.get(outcome.measure)
    sentences = [f"{outcome.measure_name} of {outcome.full_label}, test patients.", horizon_note(outcome)]
    if outcome.ranks:
        sentences.append("Diamonds of a role: pairs of patients of the same site, over its sites.")
    if between:
        sentences.append(
            f"Random-effects mean over {between.sites} sites (REML, modified Hartung–Knapp), {between.trained} of "
            f"which trained: τ² = {number(between.tau2, 3)} on the logit scale, I² = {percent(between.i2)}."
        )
        few = "below five sites no prediction interval is given."
        sentences.append(
            f"Pale bar: 95{NBSP}% prediction interval of a new hospital."
            if between.prediction_low is not None
            else few.capitalize()
        )
    elif len(study.results.sites) > 1:
        sentences.append("Fewer than three sites tell an interval, so no mean between sites is given.")
    hidden = [site.site for site in study.results.sites if _own(site, outcome, outcome.measure) is None]
    if hidden:
        sentences.append(f"{names(hidden)}: {FEW}; {'its' if len(hidden) == 1 else 'their'} pairs count within sites.")
    if len(study.results.sites) > MAX_SITES:
        sentences.append(f"The {MAX_SITES} sites with most test patients are drawn; the CSV has all.")
    return " ".join(filter(None, sentences))


def _own(site: SiteResults, outcome: Outcome, metric: str) -> float | None:
    return site.targets.get(outcome.name, {}).get(metric)


_COUNTED = {"event": "events_by_horizon", "censored": "censored_before_horizon", "with": "positives"}


def _of_site(site: SiteResults, outcome: Outcome) -> dict[str, Metric]:
    """A site's own metrics, with counts that it tells among its patients' outcomes where its metrics hold none."""
    parts = site.flow.outcomes.get(outcome.name, {}) if site.flow else {}
    counted = parts["test"].patients if "test" in parts and parts["test"].patients else {}
    counts = {_COUNTED[name]: float(value) for name, value in counted.items() if name in _COUNTED}
    metrics = {name: value for name, value in site.targets.get(outcome.name, {}).items() if value is not None}
    return {**counts, **metrics}


def _counts(outcome: Outcome, metrics: Mapping[str, Metric]) -> list[Metric]:
    counts = [metrics.get("patients")]
    if outcome.kind == "time-to-event":
        return [*counts, outcome.events(metrics), metrics.get("censored_before_horizon")]
    return [*counts, outcome.events(metrics)] if outcome.ranks else counts


def _largest_sites(study: Study) -> set[str]:
    largest = sorted(study.results.sites, key=lambda site: -site.patients.get("test", 0))[:MAX_SITES]
    return {site.site for site in largest}


def _lines(study: Study, outcome: Outcome) -> Iterator[Line]:
    shown, digits = _largest_sites(study), 2
    for role in ROLES:
        sites = [s for s in (study.training if role == "internal" else study.external) if s.site in shown]
        if not sites:
            continue
        yield Line(HEADS[role], kind="heading")
        for site in sites:
            own = _of_site(site, outcome)
            value, estimate = _own(site, outcome, outcome.measure), with_interval(own, outcome.measure, digits)
            cells = [count(c) if c is not None else "few" for c in _counts(outcome, own)]
            cells[0] = count(own.get("patients")) if own.get("patients") is not None else "few"
            yield Line(
                site.site, cells, value, bounds(own, outcome.measure), estimate if value is not None else FEW, role=role
            )
        metrics = outcome.metrics(role)
        name, of_all = outcome.primary(metrics)
        if isinstance(of_all, float) and metrics is not outcome.alone:
            label = f"Within {role} sites" if name.endswith("_within_sites") else f"All {role} patients"
            cells = [count(c) for c in _counts(outcome, metrics)]
            yield Line(label, cells, of_all, bounds(metrics, name), with_interval(metrics, name), "sum", role)
    yield from _between(outcome)


def _between(outcome: Outcome) -> Iterator[Line]:
    between = outcome.results.between_sites.get(outcome.measure)
    if between is None or between.mean is None:
        return
    yield Line(f"Between sites ({between.sites} shown)", kind="heading")
    ends = (between.mean_low, between.mean_high)
    known = (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None
    estimate = f"{number(between.mean)} ({span(known)})" if known else number(between.mean)
    yield Line("Random-effects mean", value=between.mean, ends=known, estimate=estimate, kind="sum")
    if between.prediction_low is not None and between.prediction_high is not None:
        new = (between.prediction_low, between.prediction_high)
        yield Line(f"A new hospital (95{NBSP}% prediction)", ends=new, estimate=span(new), kind="spread")


def _values(study: Study, outcome: Outcome) -> Iterator[list[object]]:
    for site in study.results.sites:
        own = _of_site(site, outcome)
        role = "internal" if site.role == "train" else "external"
        yield [
            role,
            site.site,
            *_counts(outcome, own),
            own.get(outcome.measure),
            *(bounds(own, outcome.measure) or (None, None)),
        ]
    for role in ROLES:
        metrics = outcome.metrics(role)
        name, value = outcome.primary(metrics)
        if value is not None:
            yield [role, name, *_counts(outcome, metrics), value, *(bounds(metrics, name) or (None, None))]
    if between := outcome.results.between_sites.get(outcome.measure):
        blank: list[object] = [None] * len(_counts(outcome, {}))
        yield ["between", "random-effects mean", *blank, between.mean, between.mean_low, between.mean_high]
        yield ["between", "prediction interval", *blank, None, between.prediction_low, between.prediction_high]


def _apart(outcome: Outcome) -> Iterator[Notice]:
    """The value of all pairs, and why it is not the headline."""
    pooled = outcome.results.pooled
    within = pooled.get(f"{outcome.measure}_within_sites")
    value = pooled.get(outcome.measure)
    if within is None or value is None:
        return
    detail = (
        f"{span(bounds(pooled, outcome.measure))}; {count(pooled.get('patients'))} test patients of all sites in one"
    )
    yield Notice(
        "Why this is not the headline.",
        f"The pooled {outcome.measure_name} also counts pairs of patients of two different hospitals, so a network "
        "that only recognises the hospital gains from it. The same predictions within hospitals give "
        f"{with_interval(pooled, f'{outcome.measure}_within_sites')}.{_hidden(pooled)}",
        "apart",
        big=number(value),
        small=f"{outcome.label}: {detail}",
    )


def _hidden(pooled: Mapping[str, Metric]) -> str:
    bound = pooled.get("auc_bound")
    if not isinstance(bound, float) or bound <= 0.01:
        return ""
    return (
        f" Its interval is wide because cells of few patients were merged before they left the hospitals: that hides "
        f"up to {number(bound)} of it."
    )


def _folds(study: Study) -> Iterator[Table]:
    """Each fold's own value: of a part of each site's patients, or with one site left out."""
    if not study.results.folds:
        return
    rows = []
    for fold in study.results.folds:
        for outcome in study.outcomes:
            own = fold.targets.get(outcome.name)
            cells = [fold.left_out or NONE, str(fold.best_round)]
            for metrics in (own.internal, own.external) if own else ({}, {}):
                cells.append(with_interval(metrics, outcome.primary(metrics)[0]))
            rows.append(Row(f"{fold.fold}: {outcome.label}", cells))
    headings = ["Fold", "left out", "round taken", "hospitals that trained", "external"]
    yield Table(
        headings, rows, "Each fold's own test patients; the figures above are of all folds together.", text_columns=1
    )
