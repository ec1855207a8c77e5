"""Readiness of a site for a study: what its check counted, and the problems it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.cohort.exclusions import Exclusion
from client.cohort.load import Cohort
from client.cohort.rows import CohortRows
from client.errors import ExitCode
from client.imaging.exam_facts import ExamFacts
from shared_models.task import Task


@dataclass(frozen=True)
class Problem:
    """Something the data manager should know.

    Attributes:
        severity: `error` stops the site, `warning` deserves a look, `note` explains.
        text: What was found; the first line says it.
        fix: What to do; empty where nothing need be done.
        patients: Whom it concerns, for the page alone, which stays at the site; empty where that is everybody.
    """

    severity: Literal["error", "warning", "note"]
    text: str
    fix: str = ""
    patients: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureCounts:
    """One feature of a tabular modality; `out_of_range` values, of the cohort's `rows`, count as `missing`, too."""

    modality: str
    feature: str
    mapped: bool
    missing: int
    out_of_range: int
    rows: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Readiness:
    """What a site has, in counts of patients; only `excluded`, `problems`, `cohort_rows` and `cohort` name somebody.

    Attributes:
        site: Its name.
        task: What it was checked for.
        patients: All of the cohort.
        modalities: Who has each modality.
        features: Each feature of each tabular modality.
        targets: For each target, its classes (`event`, `censored`) and `unknown`.
        parts: The sizes of the parts of the split; empty without a study.
        problems: What is wrong, the errors first.
        exit_code: OK, or that of the first error.
        excluded: Whose files cannot be used.
        present: `(R,)` for each modality: which rows have it.
        exams: Of each modality of images, by row: the exams as they are used.
        cohort_rows: The cohort's rows, or None where the tables cannot be read.
        cohort: The study's tensors, or None without a study.
    """

    site: str
    task: Task
    patients: int = 0
    modalities: Mapping[str, int] = field(default_factory=dict)
    features: tuple[FeatureCounts, ...] = ()
    targets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    exit_code: ExitCode = ExitCode.OK
    excluded: tuple[Exclusion, ...] = ()
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict, repr=False)
    exams: Mapping[str, Mapping[int, ExamFacts]] = field(default_factory=dict, repr=False)
    cohort_rows: CohortRows | None = field(default=None, repr=False)
    cohort: Cohort | None = field(default=None, repr=False)

    @property
    def counted(self) -> str:
        """What a table's values are counted of: patients, or their lesions or views at a site with `instances`."""
        rows = self.cohort_rows
        if rows is None or rows.site.instances is None:
            return f"{self.patients} patients"
        return f"{len(rows)} lesions or views"
