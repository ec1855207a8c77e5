"""Problems of a site's data by severity, each with what to do; in counts, without patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from client.checks.readiness import Problem, Readiness
from client.checks.suspicion import Suspicion
from client.checks.unmapped import advice
from client.cohort.exclusions import FILE
from client.cohort.rows import CohortRows
from client.errors import SiteError
from shared_models.task import Task

if TYPE_CHECKING:
    from client.config.site import SiteConfig

UNKNOWN = "unknown"
CENSORED = "censored before the horizon"
MANY = 0.5  # the share of missing values from which a feature deserves a look


def problems_of(
    site: SiteConfig, readiness: Readiness | None, errors: Sequence[SiteError], warnings: Sequence[Suspicion] = ()
) -> tuple[Problem, ...]:
    """All problems, the errors first.

    Args:
        site: The site's settings.
        readiness: What was counted, or None if nothing could be.
        errors: What stops the site.
        warnings: What may be wrong in its tables and files.
    """
    problems = [_of_error(error) for error in errors]
    rows = readiness.cohort_rows if readiness else None
    problems += [Problem("warning", one.text, patients=patients_of(rows, one.rows)) for one in warnings]
    if readiness:
        problems += [*_modalities(site, readiness), *_features(site, readiness), *_targets(readiness)]
        problems += [*_parts(site, readiness), *_notes(readiness.task, readiness)]
    order = ("error", "warning", "note")
    return tuple(sorted(problems, key=lambda problem: order.index(problem.severity)))


def patients_of(rows: CohortRows | None, chosen: Sequence[int]) -> tuple[str, ...]:
    """The patients, each with the lesion or view if there are several, of some of the cohort's rows; each once."""
    return tuple(dict.fromkeys(" ".join(filter(None, rows.keys[row])) for row in chosen)) if rows else ()


def _of_error(error: SiteError) -> Problem:
    return Problem("error", error.summary, error.fix)


def _modalities(site: SiteConfig, readiness: Readiness) -> Iterator[Problem]:
    for name in readiness.task.modalities:
        if name not in site.modalities:
            text = f"the study's modality {name} is not in the site's YAML: it is missing for every patient"
            yield Problem("warning", text, "if the hospital has it, describe it under `modalities`")
        aside = {one.patient for one in readiness.excluded if one.modality == name}
        if aside:
            who = "1 patient is" if len(aside) == 1 else f"{len(aside)} patients are"
            text = f"{name}: {who} excluded: their files cannot be used"
            fix = f"{site.state_dir / FILE} lists them with the reasons; the others are used"
            yield Problem("warning", text, fix, tuple(sorted(aside)))


def _features(site: SiteConfig, readiness: Readiness) -> Iterator[Problem]:
    for name in readiness.task.modalities:
        unmapped = [count.feature for count in readiness.features if count.modality == name and not count.mapped]
        if unmapped:
            text = f"{name}: {', '.join(unmapped)} not mapped: missing for every patient"
            yield Problem("warning", text, advice(site, readiness.task, name, unmapped))
    for feature in readiness.features:
        what = f"{feature.modality}: {feature.feature}"
        if feature.out_of_range:
            values = "1 value is" if feature.out_of_range == 1 else f"{feature.out_of_range} values are"
            text = f"{what}: {values} out of range and count{'s' if feature.out_of_range == 1 else ''} as missing"
            who = patients_of(readiness.cohort_rows, feature.rows)
            yield Problem("warning", text, "correct the values, or the column's `scale` and `range`", who)
        elif feature.mapped and readiness.cohort_rows and feature.missing > MANY * len(readiness.cohort_rows):
            text = f"{what} is missing for {feature.missing / len(readiness.cohort_rows):.0%}"
            yield Problem("warning", text, "check that it is the right column, and its `missing` codes")


def _targets(readiness: Readiness) -> Iterator[Problem]:
    for name, classes in readiness.targets.items():
        known = {label: count for label, count in classes.items() if label not in (UNKNOWN, CENSORED) and count}
        if not known:
            text = f"the study's target {name} is unknown for every patient"
            yield Problem("warning", text, f"if the hospital records it, describe it under targets.{name}")
        elif classes.get(UNKNOWN, 0) > MANY * sum(classes.values()):
            text = f"{name} is unknown for {classes[UNKNOWN] / sum(classes.values()):.0%} of the patients"
            yield Problem("warning", text, f"check the columns of targets.{name}, and their `missing` codes")
        if len(known) == 1 and "known" not in known:
            text = f"{name}: every patient is {next(iter(known))}; the site learns nothing that tells classes apart"
            yield Problem("warning", text, "check the column's `codes`")


def _parts(site: SiteConfig, readiness: Readiness) -> Iterator[Problem]:
    for part, size in readiness.parts.items():
        if not size and site.role == "train":
            yield Problem(
                "warning", f"no patient is in the {part} split", "few patients have a known outcome: see the counts"
            )


def _notes(task: Task, readiness: Readiness) -> Iterator[Problem]:
    from shared_models.targets import Binary

    for name, kind in task.targets.items():
        if isinstance(kind, Binary) and kind.horizon_days is not None and CENSORED in readiness.targets.get(name, {}):
            days = f"{kind.horizon_days:g} days"
            rule = (
                f"an event within {days} counts as 1, {days} without one as 0, and who was censored earlier is unknown"
            )
            yield Problem("note", f"{name}: {rule}")
    left = readiness.patients - sum(readiness.parts.values())
    if readiness.parts and left:
        who = "1 patient is" if left == 1 else f"{left} patients are"
        text = f"{who} in no part of the split, without a known outcome or without any modality"
        yield Problem("note", text)
