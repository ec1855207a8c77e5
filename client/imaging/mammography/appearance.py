"""Appearance of a mammogram: a dark background, and a finding that is no darker than what surrounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from client.imaging.exams import Exam

BRIGHTEST, BRIGHT_SHARE = 0.98, 0.2  # of the range of grey values, and of the image that may reach it
TISSUE = 0.05  # of the range of grey values, above the background
WRITTEN, ABOVE_TISSUE = 50, 1.3  # pixels of the highest value, and how far it lies above the tissue
STROKES = 30.0  # times the square of its half width that a shape's area exceeds; a disc's is 3 times
CUT_OFF_SHARE = 0.01  # of the breast, that has the highest value
NO_AIR = 0.97  # of an image
EDGE, CORNER = 0.02, 0.1  # of an image's height or width
WIDE = 0.6  # of an edge that is tissue
MUSCLE = 1.5  # times the signal in the other corner at the chest wall: the muscle is bright, and above
RICH = 0.2  # of a row or column, that is tissue: those from the first to the last such cross the breast
MIN_CONTRAST = 0.1  # of a finding, in standard deviations of its surroundings
RING_MM, MIN_RING = 5.0, 20  # how far the surroundings of a finding reach, and pixels that tell something


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
    if (
        remark := _lines(pixels, low, high)
        or _highest_value(pixels, low, high)
        or _place(pixels, low, high, exam.choice.get("view", ""))
    ):
        return [remark]
    if exam.mask is None:
        return []
    from scipy import ndimage

    inside = sitk.GetArrayViewFromImage(exam.mask)[0] != 0
    distance_mm = ndimage.distance_transform_edt(~inside, sampling=first.GetSpacing()[1::-1])
    ring = (distance_mm > 0) & (distance_mm <= RING_MM)
    if ring.sum() < MIN_RING:
        return []
    contrast = float(np.median(pixels[inside]) - np.median(pixels[ring]))
    if contrast <= MIN_CONTRAST * float(pixels[ring].std()):
        return [
            "the finding is no brighter than its surroundings; check that the mask is of this image, and not turned"
        ]
    return []


def _lines(pixels: NDArray[Any], low: float, high: float) -> str:
    """Whether rows or columns have one value, which is not that of air, or that of those beside them."""
    for axis in (0, 1):
        first, last = pixels.min(axis=axis), pixels.max(axis=axis)
        same = first == last
        if (same & (first > low + TISSUE * (high - low))).any():
            return (
                "whole rows or columns have one grey value, as a frame or a bar has; cut it off, or export the original"
            )
        rich = np.flatnonzero((pixels > low + TISSUE * (high - low)).mean(axis=axis) > RICH)
        if len(rich) and same[rich[0] : rich[-1]].any():
            return "rows or columns between others are empty; export the original"
    return ""


def _place(pixels: NDArray[Any], low: float, high: float, view: str) -> str:
    """Whether the breast lies as in a mammogram, the chest wall on the left and air about it; empty where it does."""
    tissue = pixels > low + TISSUE * (high - low)
    if tissue.mean() > NO_AIR:
        return "there is no air about the breast; is it a part of a mammogram, or magnified?"
    height, width = (max(1, round(EDGE * size)) for size in tissue.shape)
    top, bottom, wall = tissue[:height].mean(), tissue[-height:].mean(), tissue[:, :width].mean()
    if max(top, bottom) > WIDE and wall < max(top, bottom) / 2:
        return "the breast hangs from the upper or lower edge; turn the image by 90 degrees"
    height, width = (max(1, round(CORNER * size)) for size in tissue.shape)
    upper, lower = (float((corner - low).mean()) for corner in (pixels[:height, :width], pixels[-height:, :width]))
    if view == "MLO" and lower > MUSCLE * upper:
        return "the chest muscle is at the lower edge of an MLO view; is the image upside down?"
    return ""


def _highest_value(pixels: NDArray[Any], low: float, high: float) -> str:
    """Whether the breast, and what touches it, has its highest value too often; empty where it does not."""
    from scipy import ndimage

    parts, _ = ndimage.label(pixels > low + TISSUE * (high - low))
    sizes = np.bincount(parts.ravel())[1:]
    breast = pixels[parts == sizes.argmax() + 1] if len(sizes) else pixels.ravel()
    highest = breast == high
    if highest.sum() < WRITTEN or highest.all():
        return ""
    tissue = float(np.percentile(breast[~highest], 99.9))
    if high - low > ABOVE_TISSUE * (tissue - low) and _is_thin((parts == sizes.argmax() + 1) & (pixels == high)):
        return "something of one value, brighter than all tissue, touches the breast; is it text, a marker or a frame?"
    if highest.mean() > CUT_OFF_SHARE:
        return "much of the breast has the highest value, as where grey values were cut off; export the originals"
    return ""


def _is_thin(inside: NDArray[np.bool_]) -> bool:
    """Whether a shape consists of strokes, as letters and frames do and a finding does not."""
    from scipy import ndimage

    deepest = float(ndimage.distance_transform_edt(np.pad(inside, 1)).max())
    return bool(inside.sum() > STROKES * deepest**2)
