"""Facts of an exam as it is used: what was chosen, times, grid, the tumour's mask, and what looks wrong."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from client.imaging.exams import Exam

VERSION = 1  # raise it when the same exam has other facts
RECIPE = f"facts {VERSION}"

LEAST_RISE = 0.05  # of the signal before contrast, which a tumour or a vessel exceeds after it
# Medians of a phase's tissue over that before contrast: beyond these, no contrast agent has made the difference
PLAUSIBLE_CHANGE = (0.6, 4.0)
TISSUE = 0.2  # of the 99th percentile of the signal before contrast
SAMPLE = 100_000  # voxels that are looked at
TINY_MM3, LARGE_SHARE = 20.0, 0.3


@dataclass(frozen=True)
class ExamFacts:
    """What a data manager compares with what they know of an exam.

    Attributes:
        choice: What was chosen among the patient's files, such as the series.
        phases: How many there are.
        seconds: When each was taken, after the first; empty where nobody says.
        size: Voxels along the image's own axes.
        spacing_mm: Their size.
        orientation: Where the image's axes lead, as `LPS`.
        mask_mm3: The tumour's volume; 0 without a mask.
        mask_share: Its share of the image.
        remarks: What looks wrong, each with what to do.
    """

    choice: Mapping[str, str]
    phases: int
    seconds: tuple[float, ...]
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    mask_mm3: float
    mask_share: float
    remarks: tuple[str, ...]


def facts_array(exam: Exam) -> NDArray[np.uint8]:
    """The facts of an exam as bytes, in which the artefact store keeps them."""
    return np.frombuffer(json.dumps(dataclasses.asdict(_facts(exam))).encode(), dtype=np.uint8)


def facts_of(array: NDArray[np.uint8]) -> ExamFacts:
    """The facts that `facts_array` wrote."""
    return facts_of_values(json.loads(array.tobytes()))


def facts_of_values(values: dict[str, Any]) -> ExamFacts:
    """The facts as JSON holds them."""
    lists = ("seconds", "size", "spacing_mm", "remarks")
    values |= {name: tuple(values[name]) for name in lists}
    return ExamFacts(**values)


def remark_warnings(place: str, facts: Iterable[ExamFacts]) -> list[str]:
    """A sentence on each kind of remark, with how many exams have it, and on mammograms of two intents."""
    facts = list(facts)
    intents = Counter(intent for one in facts if (intent := one.choice.get("intent")))
    mixed = ", ".join(f"{count} {intent}" for intent, count in intents.most_common())
    said = f"{place}: mammograms are mixed: {mixed}; give those of one intent, whose grey values are alike"
    counts = Counter(remark for one in facts for remark in one.remarks)
    return [said] * (len(intents) > 1) + [
        f"{place}: {'1 exam' if count == 1 else f'{count} exams'}: {remark}" for remark, count in counts.most_common()
    ]


def _facts(exam: Exam) -> ExamFacts:
    import SimpleITK as sitk

    first = exam.phases[0]
    voxels = 0 if exam.mask is None else int((sitk.GetArrayViewFromImage(exam.mask) != 0).sum())
    mm3, share = voxels * float(np.prod(first.GetSpacing())), voxels / float(np.prod(first.GetSize()))
    remarks = [*exam.remarks, *_enhancement(exam), *_mask(exam, mm3, share)]
    return ExamFacts(
        choice=dict(exam.choice),
        phases=len(exam.phases),
        seconds=exam.seconds or (),
        size=tuple(first.GetSize()),
        spacing_mm=tuple(round(size, 4) for size in first.GetSpacing()),
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(first.GetDirection()),
        mask_mm3=round(mm3, 1),
        mask_share=round(share, 6),
        remarks=tuple(remarks),
    )


def _enhancement(exam: Exam) -> list[str]:
    """Signal must rise after contrast, and no phase may be on a scale of its own."""
    import SimpleITK as sitk

    if len(exam.phases) < 2:
        return []
    step = max(1, int(np.prod(exam.phases[0].GetSize())) // SAMPLE)
    phases = [sitk.GetArrayViewFromImage(phase).ravel()[::step].astype(np.float64) for phase in exam.phases]
    before = phases[0]
    tissue = before > max(TISSUE * float(np.percentile(before, 99)), 0.0)
    if not tissue.any():
        return []
    ratios = [phase[tissue] / before[tissue] for phase in phases[1:]]
    middle = [float(np.median(ratio)) for ratio in ratios]
    if min(middle) < PLAUSIBLE_CHANGE[0] or max(middle) > PLAUSIBLE_CHANGE[1]:
        return ["phases seem to be on different scales; check their order, rescale slopes, and how they were exported"]
    if max(float(np.percentile(ratio, 99.9)) for ratio in ratios) < 1 + LEAST_RISE:
        return ["no signal rises after the first phase; check which phase is before contrast, and the order"]
    if exam.mask is not None and _falls(exam):
        return ["the tumour's signal does not rise after the first phase; check the order of phases, and the mask"]
    return []


def _falls(exam: Exam) -> bool:
    import SimpleITK as sitk

    inside = sitk.GetArrayViewFromImage(exam.mask) != 0
    means = [float(sitk.GetArrayViewFromImage(phase)[inside].mean()) for phase in exam.phases]
    return max(means[1:]) < (1 + LEAST_RISE) * means[0]


def _mask(exam: Exam, mm3: float, share: float) -> list[str]:
    if exam.mask is None:
        return []
    if share > LARGE_SHARE:
        return [f"the mask covers more than {LARGE_SHARE:.0%} of the image; check that it is the tumour"]
    if len(exam.phases) > 1 and mm3 < TINY_MM3:
        return [f"the mask is smaller than {TINY_MM3:g} mm3; check that it is the tumour"]
    return []
