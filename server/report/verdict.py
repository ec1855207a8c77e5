"""Verdict of a study: what its figures show and what they do not, claiming no more than the intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.report.study import Outcome, Study
from server.study.results.importance_section import shuffled_modalities
from shared_models.metrics.arrays import Metric
from shared_models.pages.curves import is_coarse
from shared_models.pages.drawing import ROLES, Role
from shared_models.pages.elements import Card, Verdict
from shared_models.pages.numbers import bounds, count, duration, in_words, names, number, span

CHANCE = 0.5
WIDEST = 0.5  # interval of a calibration slope, or of expected over observed, that still says something


def verdict(study: Study) -> Verdict:
    """What the study shows, target by target, external hospitals before internal ones."""
    if study.results.failure:
        done = study.results.rounds_completed
        says = [
            f"The study did not come to its end: it stopped after {in_words(done, 'round')}, and nothing was tested."
        ]
        return Verdict((*says, study.results.failure), ("anything about the network's predictions",), _counts(study))
    judged = [(outcome, judged_role(outcome)) for outcome in study.outcomes]
    not_shown = [clause for outcome, role in judged for clause in _not_shown(study, outcome, role, len(judged) > 1)]
    if not study.external:
        not_shown.append("that it works in a hospital that took no part in training, for all took part")
    not_shown.append("any benefit to patients, for no patient was treated by it")
    return Verdict(
        (
            *_partial(study),
            *(sentence(study, outcome, role) for outcome, role in judged),
            *filter(None, [study.results.unscored]),
            *_missing(study),
        ),
        tuple(not_shown),
        (*_counts(study), *(card for outcome, role in judged[:1] for card in _cards(study, outcome, role))),
    )


def _partial(study: Study) -> Iterator[str]:
    """That not every hospital was tested, before any figure of those that were."""
    sites, untested = study.results.sites, study.results.untested
    if untested:
        tested = f"Only {len(sites) - len(untested)} of {in_words(len(sites), 'hospital')} gave test scores"
        folds = " in every fold" if study.results.folds else ""
        yield f"{tested}{folds}: the figures lack test patients of {names(untested)}."


def _missing(study: Study) -> Iterator[str]:
    """Which hospitals the study names and had to do without."""
    there = {site.site for site in study.results.sites}
    if missing := [site for site in study.results.missing if site not in there]:
        yield f"The study also names {names(missing, most=6)}: missing, and in no figure."


def judged_role(outcome: Outcome) -> Role:
    """External hospitals where their statistics are known, else those that trained."""
    return "external" if outcome.metrics("external").get("patients") else "internal"


def where(study: Study, role: Role) -> str:
    """The hospitals of a role, in words."""
    if role == "external":
        return f"{in_words(len(study.external), 'hospital')} that took no part in training"
    return f"{in_words(len(study.training), 'hospital')} that trained it, on test patients of their own"


def sentence(study: Study, outcome: Outcome, role: Role) -> str:
    """One sentence: where, measure, estimate, interval, patients; in the past tense."""
    metrics = outcome.metrics(role)
    hospitals, people = where(study, role), _people(outcome, metrics)
    if outcome.too_few(metrics):
        few = "too few" if outcome.ranks else "no"
        known = f"{few} test patients have an outcome that their hospital tells ({people})"
        return f"In {hospitals}, {known} to judge {outcome.full_label}."
    name, value = outcome.primary(metrics)
    ends = bounds(metrics, name)
    estimate = f"{outcome.measure_name} of {number(value)}"
    interval = f"95\N{NO-BREAK SPACE}% interval {span(ends)}" if ends else "its interval is not recorded"
    if not outcome.ranks:
        verb = "assigned patients to" if outcome.kind == "classes" else "predicted"
        return f"In {hospitals}, the network {verb} {outcome.label} with {_article(estimate)} ({interval}; {people})."
    if (ends and ends[0] <= CHANCE <= ends[1]) or not ends:
        return (
            f"In {hospitals}, the network was not shown to rank patients by {outcome.full_label} better than chance "
            f"({estimate}; {interval}; {people})."
        )
    by = f"by their {outcome.full_label}" if outcome.kind == "time-to-event" else f"by {outcome.full_label}"
    worse = " worse than chance," if ends and ends[1] < CHANCE else ""
    return f"In {hospitals}, the network ranked patients {by}{worse} with {_article(estimate)} ({interval}; {people})."


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'AR' else 'a'} {phrase}"


def _people(outcome: Outcome, metrics: Mapping[str, Metric]) -> str:
    patients = f"{count(metrics.get('patients'))} patients"
    if not outcome.ranks:
        return patients
    of = f" with the event {outcome.within}" if outcome.within else " with the outcome"
    return f"{patients}, {count(outcome.events(metrics))}{of}"


def _not_shown(study: Study, outcome: Outcome, role: Role, several: bool) -> Iterator[str]:
    """Clauses after "Not shown:" that the figures of one target call for."""
    metrics = outcome.metrics(role)
    of = f" of {outcome.label}" if several else ""
    for row in shuffled_modalities(outcome.results.importance.get(role, [])):
        if row.drop is not None and not row.used:
            modality = row.modality.replace("_", " ")
            yield f"that the network uses {modality}{of}: shuffled between patients, it is not missed"
    if not outcome.ranks or outcome.too_few(metrics):
        return
    if doubts := list(_doubts(metrics)):
        yield f"that the risks{of} are right ({'; '.join(doubts)})"
    elif not isinstance(metrics.get("calibration_slope"), float):
        yield f"that the risks{of} are right (no calibration of {role} patients is recorded)"
    if is_coarse(metrics):
        yield (
            f"curves, calibration and rates{of} closely: cells of few patients were merged before they left the "
            f"hospitals, which hides up to {number(metrics['auc_bound'])} of the AUC of all pairs"
        )


def _doubts(metrics: Mapping[str, Metric]) -> Iterator[str]:
    """What of the calibration is off, too wide to tell, or has no interval."""
    for name, what in (("calibration_slope", "calibration slope"), ("expected_observed_ratio", "expected/observed")):
        value, ends = metrics.get(name), bounds(metrics, name)
        if not isinstance(value, float):
            continue
        if ends is None:
            yield f"{what} {number(value)}, its interval is not recorded"
        elif not ends[0] <= 1 <= ends[1] or ends[1] - ends[0] > WIDEST:
            yield f"{what} {number(value)}, {span(ends)}{_direction(name, ends)}"


def _direction(name: str, ends: tuple[float, float]) -> str:
    if ends[0] <= 1 <= ends[1]:
        return ": too wide to tell"
    if name == "calibration_slope":
        return ": too extreme" if ends[1] < 1 else ": not extreme enough"
    return ": too low" if ends[1] < 1 else ": too high"


def _counts(study: Study) -> tuple[Card, ...]:
    sites, patients = study.results.sites, sum(sum(site.patients.values()) for site in study.results.sites)
    external = f", {len(study.external)} only tested" if study.external else ""
    return (
        Card(
            count(patients),
            f"patients in {in_words(len(sites), 'hospital')}",
            f"{len(study.training)} trained{external}",
        ),
    )


def _cards(study: Study, outcome: Outcome, role: Role) -> Iterator[Card]:
    """Figures of the first target."""
    for one in ROLES:
        metrics = outcome.metrics(one)
        name, value = outcome.primary(metrics)
        if value is not None and not outcome.too_few(metrics):
            place = "hospitals that trained" if one == "internal" else "external hospitals"
            detail = "; ".join(filter(None, [span(bounds(metrics, name)), _people(outcome, metrics)]))
            yield Card(number(value), f"{outcome.measure_name} in {place}", detail)
    between = outcome.results.between_sites.get(outcome.measure)
    if between and between.prediction_low is not None and between.prediction_high is not None:
        detail = f"95\N{NO-BREAK SPACE}% prediction interval; {between.sites} sites, {between.trained} of them trained"
        new = span((between.prediction_low, between.prediction_high))
        yield Card(new, f"{outcome.measure_name} a new hospital may see", detail)
    metrics = outcome.metrics(role)
    for name, what in (("calibration_slope", "calibration slope"), ("expected_observed_ratio", "expected / observed")):
        if isinstance(metrics.get(name), float) and not outcome.too_few(metrics):
            detail = span(bounds(metrics, name)) or "interval not recorded"
            yield Card(number(metrics[name]), f"{what}, {role}", f"{detail}; 1 is right")
    results = study.results
    chosen = f"of {results.rounds_completed}; {results.selected_by}"
    if results.folds:
        yield Card(count(len(results.folds)), "folds, each trained on its own", "every figure is of all folds together")
    else:
        yield Card(str(results.best_round), "round taken", chosen)
    yield privacy_card(study)


def privacy_card(study: Study) -> Card:
    """What protects the weights."""
    if study.results.privacy.unit:
        target = study.setting("target-epsilon")
        bound = f"ε ≤ {number(float(target), 1)}" if target else "DP-SGD"
        return Card(bound, "differential privacy per patient", "spent as each hospital's own ledger says")
    if study.results.privacy.only_in_sums_of_three_sites_or_more:
        return Card("in sums", "weights and scores seen by the center", "secure aggregation, of three sites or more")
    return Card("none", "differential privacy or secure aggregation", "the center saw each hospital's weights")


def horizon_note(outcome: Outcome) -> str:
    """How times are treated, for a caption."""
    days = outcome.results.horizon_days
    if outcome.kind != "time-to-event" or not days:
        return ""
    return f"At {duration(days)}, weighted by the inverse probability of censoring."


def site_names(study: Study, role: Role) -> str:
    """The sites of a role by name."""
    return names([site.site for site in (study.training if role == "internal" else study.external)])
