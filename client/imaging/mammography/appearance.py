"""Appearance of a mammogram: a dark background, and a finding that is no darker than what surrounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from client.imaging.exams import Exam

BRIGHTEST, BRIGHT_SHARE = 0.98, 0.2  # of the range of grey values, and of the image that may reach it
LEAST_CONTRAST = 0.1  # of a finding, in standard deviations of its surroundings
RING_MM, LEAST_RING = 5.0, 20  # how far the surroundings of a finding reach, and pixels that tell something


def mammogram_remarks(exam: Exam) -> list[str]:
    """What looks wrong in an exam of one image of one slice; nothing of any other."""
    import SimpleITK as sitk

    first = exam.phases[0]
    if len(exam.phases) > 1 or first.GetSize()[2] > 1:
        return []
    pixels = sitk.GetArrayViewFromImage(first)[0]
    low, high = float(pixels.min()), float(pixels.max())
    if float((pixels > low + BRIGHTEST * (high - low)).mean()) > BRIGHT_SHARE:
        return ["the background is as bright as the densest tissue; check whether the image is inverted"]
    if exam.mask is None:
        return []
    from scipy import ndimage

    inside = sitk.GetArrayViewFromImage(exam.mask)[0] != 0
    distance_mm = ndimage.distance_transform_edt(~inside, sampling=first.GetSpacing()[1::-1])
    ring = (distance_mm > 0) & (distance_mm <= RING_MM)
    if ring.sum() < LEAST_RING:
        return []
    contrast = float(np.median(pixels[inside]) - np.median(pixels[ring]))
    if contrast <= LEAST_CONTRAST * float(pixels[ring].std()):
        return [
            "the finding is no brighter than its surroundings; check that the mask is of this image, and not turned"
        ]
    return []
