"""Data of one modality for a cohort: tensors, availability, and excluded patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.cache.artifacts import Job, compute
from client.errors import SiteError

if TYPE_CHECKING:
    from client.contract.protocols import Site


@dataclass(frozen=True, eq=False)
class ModalityData:
    """A modality of the cohort's R rows.

    Attributes:
        values: `(R, ...)`; a large array is a memory map.
        present: `(R,)` which rows have it.
        excluded: Rows whose files cannot be used, and why. They count as rows without the modality.
        warnings: What need not stop the site, but should be known; no patient is named.
    """

    values: NDArray[Any]
    present: NDArray[np.bool_]
    excluded: Mapping[int, SiteError] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def load_rows(
    site: Site,
    recipe: str,
    jobs: Mapping[int, Job | SiteError],
    out: NDArray[Any],
    what: str,
    warnings: Sequence[str] = (),
) -> ModalityData:
    """Fills `out` `(R, ...)` with what is made of each row's files; one bad patient is excluded, the rest go on.

    Args:
        site: The site.
        recipe: As for `kept.compute`.
        jobs: By row; a row whose files are known to be bad has its error here.
        out: Where the rows go; what is not filled stays as it is.
        what: What is being done, for the progress bar.
        warnings: What the reader noticed before.

    Raises:
        SiteError: If nobody's files can be used: the first one's error.
    """
    aside = {row: job for row, job in jobs.items() if isinstance(job, SiteError)}
    present = np.zeros(len(out), dtype=bool)
    work = {row: job for row, job in jobs.items() if isinstance(job, Job)}
    for row, made in compute(site, recipe, work, what):
        if isinstance(made, SiteError):
            aside[row] = made
        else:
            out[row], present[row] = made, True
    if jobs and not present.any():
        raise aside[min(aside)]
    return ModalityData(out, present, aside, warnings)
