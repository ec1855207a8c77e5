"""Position of a brain lesion: its hemisphere, from the image alone.

The midline is where the head is: the mean x of what is brighter than air by Otsu's threshold (1979,
10.1109/TSMC.1979.4310076), in the slices that the tumour spans. A head that is turned or cut off moves it, so within
5 mm of it no hemisphere is given; nor in an image that is no whole head across, such as one cropped about the tumour.

The region (frontal to deep) needs an atlas that the head is brought onto, and none is in this project: it is always
missing here. A hospital whose contours are named after their place maps it with `reader: table` instead, as
site_configs/bcbm.yaml does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from client.imaging.exams import Exam

VERSION = 1  # raise it when the same exam gives other values

FEATURES: Mapping[str, tuple[str, ...]] = {
    "hemisphere": ("left", "right"),
    "region": ("frontal", "parietal", "temporal", "occipital", "cerebellum", "brainstem", "deep"),
}
HEAD_BREADTH_MM = (110.0, 210.0)  # of adults with scalp: 130 to 180; low slices are narrower
UNCERTAIN_MM = 5.0


def measure(exam: Exam) -> dict[str, float | str]:
    """The tumour's hemisphere, the patient's own left and right; empty where it cannot be said."""
    return {"hemisphere": hemisphere(exam), "region": ""}


def hemisphere(exam: Exam) -> str:
    """`left`, `right` or nothing."""
    import SimpleITK as sitk

    if exam.mask is None:
        return ""
    first, tumour = (sitk.DICOMOrient(image, "LPS") for image in (exam.phases[0], exam.mask))
    inside = sitk.GetArrayViewFromImage(tumour) == 1
    slices = inside.any(axis=(1, 2))
    head = sitk.GetArrayViewFromImage(sitk.OtsuThreshold(first, 0, 1))[slices] == 1
    left_mm = np.arange(first.GetWidth()) * first.GetSpacing()[0]  # LPS: x grows to the patient's left
    column = head.sum(axis=(0, 1))
    # a column of a few voxels is an ear or noise
    wide = left_mm[column > 0.05 * column.max(initial=0)]
    low, high = HEAD_BREADTH_MM
    if not wide.size or not low <= np.ptp(wide) <= high:
        return ""
    offset = np.average(left_mm, weights=inside.sum(axis=(0, 1))) - np.average(left_mm, weights=column)
    if math.fabs(offset) < UNCERTAIN_MM:
        return ""
    return "left" if offset > 0 else "right"
