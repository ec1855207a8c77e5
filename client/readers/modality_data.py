"""Data of one modality for a cohort: tensors, availability, and excluded patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.cache.row_files import RowFiles
from client.cache.store import Job, make_artefacts
from client.errors import SiteError
from client.imaging.exam_facts import ExamFacts

if TYPE_CHECKING:
    from client.contract.protocols import Site


@dataclass(frozen=True, eq=False)
class ModalityData:
    """A modality of the cohort's R rows.

    Attributes:
        values: `(R, ...)`; of a tensor, its rows' artefacts.
        present: `(R,)` which rows have it.
        excluded: Rows whose files cannot be used, and why. They count as rows without the modality.
        warnings: What need not stop the site, but should be known; no patient is named.
        facts: Of rows' exams, as they are used.
    """

    values: NDArray[Any] | RowFiles
    present: NDArray[np.bool_]
    excluded: Mapping[int, SiteError] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    facts: Mapping[int, ExamFacts] = field(default_factory=dict)


def make_rows(
    site: Site, jobs: Mapping[int, Job], shape: Sequence[int], what: str, warnings: Sequence[str] = ()
) -> ModalityData:
    """A tensor whose rows are made of files; one bad patient is excluded, the rest are used.

    Args:
        site: The site.
        jobs: Of each row that has files; one recipe a job.
        shape: `(R, ...)`.
        what: What is being done, for the progress bar.
        warnings: What the reader noticed before.

    Raises:
        SiteError: If no patient's files can be used: the first one's error.
    """
    made = {row: next(iter(artefacts.values())) for row, artefacts in make_artefacts(site, jobs, what)}
    return rows_of(made, shape, warnings)


def rows_of(made: Mapping[int, Path | SiteError], shape: Sequence[int], warnings: Sequence[str] = ()) -> ModalityData:
    """A tensor of artefacts, 0 where a row has none.

    Args:
        made: Of each row that has files: its artefact, or why there is none.
        shape: `(R, ...)`.
        warnings: What the reader noticed before.

    Raises:
        SiteError: If no patient's files can be used: the first one's error.
    """
    files, excluded = split_errors(made)
    present = np.zeros(shape[0], dtype=bool)
    present[list(files)] = True
    return ModalityData(RowFiles([files.get(row) for row in range(shape[0])], shape[1:]), present, excluded, warnings)


def split_errors(made: Mapping[int, Path | SiteError]) -> tuple[dict[int, Path], dict[int, SiteError]]:
    """The rows' artefacts, and the rows that must be excluded.

    Raises:
        SiteError: If no patient's files can be used: the first one's error.
    """
    files = {row: result for row, result in made.items() if isinstance(result, Path)}
    excluded = {row: result for row, result in made.items() if isinstance(result, SiteError)}
    if excluded and not files:
        raise excluded[min(excluded)]
    return files, excluded
