"""Section on the study in short: patients, outcome, predictors, measure, model."""

from __future__ import annotations

from server.report.study import Outcome, Study
from server.report.verdict import site_names
from shared_models.pages.elements import Facts, Section
from shared_models.pages.numbers import duration, in_words, names


def section(study: Study) -> Section:
    """The study in short; what only the authors know is marked where they have not filled it."""
    answers = study.answers
    stated: list[tuple[str, str | None]] = [
        ("Patients", answers.population or None),
        ("Time zero", answers.time_zero or None),
        ("Outcome", answers.outcome or None),
        ("Measure stated beforehand", answers.measure or None),
    ]
    known: list[tuple[str, str | None]] = [
        ("Targets", "; ".join(map(_target, study.outcomes)) or None),
        ("Hospitals", _hospitals(study)),
        ("Predictors", _predictors(study)),
        ("Model", _model(study)),
    ]
    return Section("The study in short", elements=[Facts(stated, missing="not filled"), Facts(known)])


def _target(outcome: Outcome) -> str:
    days = outcome.results.horizon_days
    kinds = {"time-to-event": "time to event", "binary": "binary", "classes": "classes", "number": "a number"}
    horizon = f", judged at {duration(days)}" if days else ""
    return f"{outcome.label} ({kinds[outcome.kind]}{horizon})"


def _hospitals(study: Study) -> str | None:
    if not study.results.sites:
        return None
    trained = f"{in_words(len(study.training), 'hospital')} trained ({site_names(study, 'internal')})"
    if not study.external:
        return f"{trained}; none was only tested"
    return f"{trained}; {in_words(len(study.external), 'hospital')} only tested ({site_names(study, 'external')})"


def _predictors(study: Study) -> str | None:
    """The modalities; tables of the study's own with how many columns they have."""
    modalities = dict.fromkeys(name for site in study.results.sites for name in site.modalities)
    columns = dict(line.split(":", 1) for line in str(study.setting("features")).splitlines() if ":" in line)
    counts = {name: listed.count(",") + 1 for name, listed in columns.items()}
    sized = [f"{name} ({counts[name]} features)" if name in counts else name for name in modalities]
    return names(sized) or None


def epochs(study: Study) -> str:
    """How many local epochs a round has."""
    number = study.setting("local-epochs")
    return f"{number} local epoch{'' if number == 1 else 's'}"


def _model(study: Study) -> str:
    results = study.results
    private = "with differential privacy per patient" if results.privacy.unit else "without differential privacy"
    rounds = f"{in_words(results.rounds_completed, 'round')} of {epochs(study)}"
    own = study.setting("fusion") in ("", "task")
    fusion = "" if own else f", fusion {study.setting('fusion')}"
    return f"task {results.task}{fusion}; {results.strategy}, {rounds}, {private}"
