"""Feature extractors for images, one a file, each with `FEATURES`, `VERSION` and `measure(exam)`.

A new extractor is a new file here: the reader `extracted` finds it by the features that a study names. What is measured
of an exam is cached, and measured anew when `VERSION` is raised (and `client.cohort.cohort_cache.VERSION`, so that
cohorts are put together anew).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from client.imaging.exams import Exam


class Extractor(Protocol):
    """What a file of this folder has."""

    VERSION: int
    FEATURES: Mapping[str, tuple[str, ...]]  # by name: its categories, or none for a number

    def measure(self, exam: Exam) -> dict[str, float | str]:
        """The values of all `FEATURES`; nan, or an empty text, where one is not defined.

        Raises:
            SiteError: If the exam cannot be measured.
        """
        ...


def load_extractors() -> dict[str, Extractor]:
    """All there are, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: cast(Extractor, importlib.import_module(f"{__name__}.{name}")) for name in names}
