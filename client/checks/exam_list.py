"""Exams of a site as they are used: counts for the terminal, and a list by patient in a file that stays at the site."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from client.cohort.rows import CohortRows
from client.imaging.exam_facts import ExamFacts
from client.private_files import write_private, writing

FILE = "exams.csv"
MAX_SHOWN = 6  # different values of a fact on the terminal

WORTH_A_LOOK = 0.95  # of a tumour that a study's grid shows
_NUMBERS = ("mask_mm3", "mask_share", "tumour_shown", "grid_filled")

Facts = Mapping[str, Mapping[int, ExamFacts]]


def _share(value: float | None, steps: tuple[float, ...]) -> str:
    """Between which steps a share lies: on the terminal an exact one would be a patient's own."""
    if value is None:
        return ""
    if value >= steps[-1]:
        return "all"
    upper = next(step for step in steps[1:] if value < step)
    return f"{steps[steps.index(upper) - 1]:.4g} to {upper:.4g}"


_SHOWN: Mapping[str, Callable[[ExamFacts], str]] = {
    "series": lambda one: one.choice.get("series", ""),
    "image type": lambda one: one.choice.get("image_type", ""),
    "phases": lambda one: str(one.phases),
    "seconds": lambda one: ", ".join(f"{second:.0f}" for second in one.seconds) or ("unknown" * (one.phases > 1)),
    "voxels": lambda one: " x ".join(map(str, one.size)),
    "voxel size, mm": lambda one: " x ".join(f"{size:g}" for size in one.spacing_mm),
    "orientation": lambda one: one.orientation,
    "mask's share": lambda one: _share(one.mask_share, (0.0, 0.001, 0.01, 0.1, 1.0)) if one.mask_share else "",
    "tumour within the grid": lambda one: _share(one.tumour_shown, (0.0, 0.25, 0.5, 0.95, 0.9999, 1.0)),
    "grid within the exam": lambda one: _share(one.grid_filled, (0.0, 0.5, 0.95, 1.0)),
}


def exam_counts(facts: Facts) -> list[tuple[str, str, str, int]]:
    """`(modality, what, value, exams)` of what was chosen, the most frequent values first; no patient is named."""
    rows = []
    for name, exams in facts.items():
        for what, show in _SHOWN.items():
            counts = Counter(show(one) for one in exams.values())
            if set(counts) == {""}:
                continue
            rows += [(name, what, value or "none", count) for value, count in counts.most_common(MAX_SHOWN)]
            others = sum(count for _, count in counts.most_common()[MAX_SHOWN:])
            rows += [(name, what, "others", others)] if others else []
    return rows


def is_unusual(facts: ExamFacts) -> bool:
    """Whether an exam deserves a look: something seems wrong, or a part of the tumour is cut off."""
    return bool(remarks_of(facts))


def patients_of_remarks(rows: CohortRows | None, facts: Facts) -> list[tuple[str, str, list[str]]]:
    """`(modality, remark, patients)` of all that looks wrong, for the page, which stays at the site."""
    patients_by_remark: dict[tuple[str, str], list[str]] = {}
    if rows is None:
        return []
    for name, exams in facts.items():
        for row, one in exams.items():
            for remark in remarks_of(one):
                patients_by_remark.setdefault((name, remark), []).append(" ".join(filter(None, rows.keys[row])))
    return [(*key, list(dict.fromkeys(patients))) for key, patients in patients_by_remark.items()]


def remarks_of(facts: ExamFacts) -> tuple[str, ...]:
    """What looks wrong in an exam, and how much of its tumour is cut off."""
    shown = facts.tumour_shown
    if shown is None or shown >= WORTH_A_LOOK:  # None where no mask says where the tumour is
        return facts.remarks
    return (*facts.remarks, f"{shown:.0%} of the tumour is within the study's grid")


def write_exams(state_dir: Path, rows: CohortRows, facts: Facts) -> None:
    """Writes the list, a line an exam, or removes it where there are none.

    Args:
        state_dir: The site's own folder.
        rows: The cohort's rows.
        facts: Of each modality's rows.

    Raises:
        SiteError: If the folder cannot be written.
    """
    path = state_dir / FILE
    if not any(facts.values()):
        with writing(path):
            path.unlink(missing_ok=True)
        return
    head = ("patient", "instance", "modality", "study_date", *_SHOWN, *_NUMBERS, "remarks")
    lines = [
        (
            *rows.keys[row],
            name,
            one.choice.get("study_date", ""),
            *(show(one) for show in _SHOWN.values()),
            *(getattr(one, key) for key in _NUMBERS),
            "; ".join(one.remarks),
        )
        for name, exams in facts.items()
        for row, one in exams.items()
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([head, *lines])
    write_private(path, text.getvalue())
