"""Section with the model card: what the network is made for, and the limits that the figures show."""

from __future__ import annotations

from collections.abc import Iterator

from server.report.sections.participation import MISSING, fates_of
from server.report.study import Outcome, Study
from server.report.verdict import judged_role
from shared_models.pages.elements import Element, Facts, Panels, Section
from shared_models.pages.numbers import NBSP, bounds, in_words, names, number, percent, span


def section(study: Study) -> Section:
    """Use, misuse, limits; what only the authors know is marked where they have not filled it."""
    answers = study.answers
    use: list[tuple[str, str | None]] = [
        ("Intended use", answers.intended_use or None),
        ("Not made for", answers.not_intended_use or None),
        ("Poor or missing input", answers.poor_input or None),
        ("Licence of the weights", answers.licence or None),
        ("Contact", answers.contact or None),
    ]
    always = [
        "decisions on a patient's treatment: it is no medical device, and its effect on patients was not tested",
        "a new hospital, before its calibration is checked on that hospital's own patients",
    ]
    modalities = list(dict.fromkeys(name for site in study.results.sites for name in site.modalities))
    made = [
        "research, in groups of patients like those of this report",
        f"input: {names(modalities) or 'not recorded'}; a missing modality is allowed",
        f"output: {'; '.join(map(_output, study.outcomes)) or 'not recorded'}",
    ]
    elements: list[Element] = [
        Facts(use, missing="not filled"),
        Panels([("Made for", made), ("Not made for", always)]),
        Panels(
            [
                (
                    "Limits that this report can see",
                    list(_limits(study)) or ["none by its rules, which are not all there are"],
                )
            ]
        ),
    ]
    return Section("Model card and limits", "", elements)


def _output(outcome: Outcome) -> str:
    kinds = {
        "time-to-event": "risk, 0 to 1",
        "binary": "probability, 0 to 1",
        "classes": "a probability of each class",
        "number": "a number",
    }
    return f"{outcome.full_label}: {kinds[outcome.kind]}"


def _limits(study: Study) -> Iterator[str]:
    results = study.results
    for site, day in results.withdrawn.items():
        yield f"{site} withdrew from the study ({day}): the weights and all figures here are with its patients."
    if results.failure:
        yield "The study did not come to its end; its last weights were not tested."
    if not study.external and results.sites:
        yield "No external hospital: how it does in a hospital that took no part in training is not known."
    elif len(study.external) == 1:
        yield "One external hospital: another may differ more than its interval says."
    for outcome in study.outcomes:
        yield from _limits_of(study, outcome)
    fates = fates_of(results.rounds)
    missed = [site for site, rounds in fates.items() if any(fate == MISSING for _, fate in rounds)]
    if missed:
        yield f"{names(missed)} did not count in every round, and {'weighs' if len(missed) == 1 else 'weigh'} less."
    lacking = [f"{s.site} lacks {m}" for s in study.training for m, there in s.modalities.items() if not there]
    if lacking:
        yield f"{'; '.join(lacking[:8])}."
    excluded = [f"{site.site} {site.excluded}" for site in results.sites if site.excluded]
    if excluded:
        yield f"Patients whose files cannot be used were excluded: {names(excluded)}."


def _limits_of(study: Study, outcome: Outcome) -> Iterator[str]:
    metrics, label = outcome.metrics(judged_role(outcome)), outcome.label
    censored, patients = metrics.get("censored_before_horizon"), metrics.get("patients")
    if isinstance(censored, float) and isinstance(patients, float) and patients and censored / patients > 0.1:
        yield (
            f"{percent(censored / patients)} of test patients were censored before the horizon of {label}; weights "
            "assume that censoring does not depend on risk within a site."
        )
    between = outcome.results.between_sites.get(outcome.measure)
    if between and between.prediction_low is not None and between.sites < 10:
        yield f"The prediction interval of {label} is of {in_words(between.sites, 'site')}, and may be too narrow."
    elif len(study.results.sites) > 1 and (between is None or between.prediction_low is None):
        yield f"Too few sites to say between which values the {outcome.measure_name} of a new hospital lies ({label})."
    few = [site.site for site in study.results.sites if site.targets.get(outcome.name, {}).get(outcome.measure) is None]
    if few:
        of = f"{len(few)} of {in_words(len(study.results.sites), 'site')}"
        yield f"{of} {'is' if len(few) == 1 else 'are'} too small to be shown alone ({label}): {names(few)}."
    slope = bounds(metrics, "calibration_slope")
    if slope and not slope[0] <= 1 <= slope[1]:
        wrong = "extreme" if slope[1] < 1 else "moderate"
        estimate = f"slope {number(metrics['calibration_slope'])}, 95{NBSP}% interval {span(slope)}"
        yield f"Risks of {label} are too {wrong} ({estimate})."
