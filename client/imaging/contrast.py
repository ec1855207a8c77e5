"""Contrast between an exam's phases: what must rise, and signs that phases or the mask are not what they seem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.imaging.mask_reach import MARGIN, has_idle_part, has_open_part, reaches_beyond, uptake_about
from client.imaging.mask_shape import bounds, is_box
from client.imaging.phase_scales import local_remark
from client.imaging.signal import signal_remark
from client.imaging.slice_order import slice_remark

if TYPE_CHECKING:
    from client.imaging.exams import Exam

MIN_RISE = 0.05  # of the signal before contrast, which a vessel exceeds after it
TUMOUR_RISE = 0.2  # which a tumour's mean exceeds; Kuhl 1999 (10.1148/radiology.211.1.r99ap38101) counts from 50 %
# Medians of a phase's tissue over that before contrast: beyond these, no contrast agent has made the difference
PLAUSIBLE_CHANGE = (0.85, 4.0)
EVERYWHERE, LOWEST = (1.4, 0.8), 5  # factors, the second of the median, that the ratios' 5th percentile never exceeds
TISSUE = 0.2  # of the 99th percentile of the signal before contrast
MIN_CORRELATION = 0.3  # between the voxels of a phase and those before contrast
ALIKE = 0.5  # correlation in the tissue alone of two phases of one exam, where it has a grain
NO_SIGNAL = 0.1  # of a mask's voxels
ABOVE_TISSUE = 1.1  # what most of a tumour rises above the tissue's own rise
MOSTLY, PART = 0.5, 0.15  # of a mask, and of a box about a tumour
IN_BOX = 75.0  # percentile of a box's ratios, which are the tumour's
EDGE, MIN_EDGE = 1, 30  # voxels about a mask that are compared with it, and how many tell something
AS_MUCH = 0.85  # of the tumour's rise, in three quarters of those voxels: no edge of a tumour is on all sides so high
IN_PLANE = np.array([[[0, 0, 0]] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0]] * 3], dtype=bool)
SAMPLE = 100_000  # voxels that are examined
ROUNDING = 0.025  # of the tissue's mean: noise, vessels and the tumour make some voxels differ by more
FALLEN, FALLEN_SHARE = 0.85, 0.25  # of a voxel's signal before contrast, and of a tumour's voxels
DIP, CERTAIN = 0.03, 3.0  # of a tumour's signal, and standard errors: contrast comes and goes once

Signal = NDArray[np.float64]


def contrast_remarks(exam: Exam) -> list[str]:
    """What looks wrong, the first thing only: one fault has many signs."""
    if len(exam.phases) < 2:
        return []
    phases = [_array(phase) for phase in exam.phases]
    if remark := _copies(phases):
        return [remark]
    step = max(1, phases[0].size // SAMPLE)
    sampled = [phase.ravel()[::step].astype(np.float64) for phase in phases]
    if remark := signal_remark(phases, sampled):
        return [remark]
    tissue = _tissue(sampled[0])
    if not tissue.any():
        return []
    ratios = [phase[tissue] / sampled[0][tissue] for phase in sampled[1:]]
    medians = [float(np.median(ratio)) for ratio in ratios]
    if remark := _of_phases(sampled, ratios, medians) or slice_remark(phases) or local_remark(phases, sampled, medians):
        return [remark]
    if exam.mask is None:
        return []
    inside = _array(exam.mask) != 0
    about = bounds(inside, MARGIN)
    remark = _of_tumour([phase[about] for phase in phases], inside[about], float(max(medians)))
    return [remark] if remark else []


def _array(image: Any) -> NDArray[Any]:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayViewFromImage(image))


def _tissue(before: Signal) -> NDArray[np.bool_]:
    return np.asarray(before > max(TISSUE * float(np.percentile(before, 99)), 0.0))


def _copies(phases: list[NDArray[Any]]) -> str:
    for number, phase in enumerate(phases):
        for earlier in range(number):
            few = slice(None, None, max(1, phase.size // SAMPLE))
            if np.array_equal(phases[earlier].flat[few], phase.flat[few]) and np.array_equal(phases[earlier], phase):
                return f"phases {earlier + 1} and {number + 1} are the same image; check the files"
    return ""


def _of_phases(phases: list[Signal], ratios: list[Signal], medians: list[float]) -> str:
    low, high = PLAUSIBLE_CHANGE
    if min(medians) < low or max(medians) > high or any(map(_rises_everywhere, ratios, medians)):
        return "phases seem to be on different scales; check their order, rescale slopes, and how they were exported"
    if any(_correlation(phases[0], phase) < MIN_CORRELATION for phase in phases[1:]):
        return "a phase does not show what the first one does; check that it is of the same exam, and not inverted"
    if (pair := _nearly_the_same(phases)) is not None:
        return f"phases {pair[0]} and {pair[1]} differ by no more than rounding does; are they the same image?"
    if _one_is_odd(phases):
        return "one phase shows other tissue than the rest; check that it is of the same patient, and not moved"
    if max(float(np.percentile(ratio, 99.9)) for ratio in ratios) < 1 + MIN_RISE:
        return "no signal rises after the first phase; check which phase is before contrast, and the order"
    return ""


def _rises_everywhere(ratios: Signal, median: float) -> bool:
    """Whether all tissue, fat too, rises by about one factor."""
    factor, of_median = EVERYWHERE
    return float(np.percentile(ratios, LOWEST)) > max(factor, of_median * median)


def _nearly_the_same(phases: list[Signal]) -> tuple[int, int] | None:
    """Two phases, counted from 1, of which no voxel differs by more than rounding does, as in copies in two formats."""
    tissue = float(phases[0][_tissue(phases[0])].mean())
    for number, phase in enumerate(phases):
        for earlier in range(number):
            most = float(np.abs(phase - phases[earlier]).max())
            if np.ptp(phase) > 0 and most < ROUNDING * tissue:
                return earlier + 1, number + 1
    return None


def _correlation(one: Signal, other: Signal) -> float:
    """Pearson's; 1 where one of them does not vary, of which nothing can be said."""
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) > 0 and np.ptp(other) > 0 else 1.0


def _one_is_odd(phases: list[Signal]) -> bool:
    """Whether the grain of the tissue of one phase is not that of the first, though another's is, or that of none."""
    tissue = _tissue(phases[0])
    inside = [phase[tissue] for phase in phases]
    alike = np.array([[_correlation(one, other) for other in inside] for one in inside])
    np.fill_diagonal(alike, -1.0)
    first = alike[0, 1:]
    unlike_first = first.max() > ALIKE and first.min() < ALIKE / 2
    unlike_all = alike.max() > ALIKE and alike.max(axis=1).min() < ALIKE / 2
    return bool(unlike_first or unlike_all or alike.max() < -ALIKE)


def _of_tumour(phases: list[NDArray[Any]], inside: NDArray[np.bool_], tissue_rise: float) -> str:
    """Signs in the tumour, of images cut to its surroundings; `tissue_rise` is the tissue's highest median ratio."""
    signals = [phase[inside].astype(np.float64) for phase in phases]
    if float((signals[0] <= 0).mean()) > NO_SIGNAL:
        return "a part of the tumour has no signal; check that nothing was cut out of the images, and the mask"
    rises = [float(signal.mean() / max(signals[0].mean(), 1e-9)) for signal in signals[1:]]
    if max(rises) < 1 + TUMOUR_RISE:
        return "the tumour's signal does not rise after the first phase; check the order of phases, and the mask"
    if min(rises) < 1 - MIN_RISE:
        return "the tumour's signal falls below that of the first phase; check which phase is before contrast"
    if any(
        _exceeds(first, dip) and _exceeds(last, dip)
        for first, dip, last in zip(signals[1:], signals[2:], signals[3:], strict=False)
    ):
        return "the tumour's signal falls and rises again; check the order of the phases after contrast"
    known, boxed = signals[0] > 0, is_box(inside)  # in a box suppressed fat has noise alone, of which half falls
    if not boxed and any(float((signal < FALLEN * signals[0]).mean()) > FALLEN_SHARE for signal in signals[1:]):
        return "a part of the tumour falls below its signal before contrast; check the slices of each phase"
    highest = np.max([signal[known] / signals[0][known] for signal in signals[1:]], axis=0)
    if float((highest > ABOVE_TISSUE * tissue_rise).mean()) < (PART if boxed else MOSTLY):
        return "most of the mask takes up no more contrast than the tissue; check that it lies on the tumour"
    uptake = uptake_about(phases, inside)
    if has_idle_part(phases, inside, tissue_rise) or (not boxed and has_open_part(uptake, tissue_rise)):
        return "a part of the mask takes up no more contrast than the tissue; check that each part is of a tumour"
    if reaches_beyond(uptake, tissue_rise, IN_BOX if boxed else 50.0):
        return "what takes up contrast continues beyond the mask; check that it covers the tumour, and was not moved"
    if not boxed and _goes_on(phases, inside, max(rises)):
        return (
            "what surrounds the mask takes up as much contrast as what is in it; is the mask smaller than the tumour?"
        )
    return ""


def _exceeds(one: Signal, other: Signal) -> bool:
    """Whether the mean of the same voxels is higher in one phase, by more than noise makes it in so few of them."""
    more = one - other
    return bool(more.mean() > max(DIP * other.mean(), CERTAIN * more.std() / np.sqrt(len(more))))


def _goes_on(phases: list[NDArray[Any]], inside: NDArray[np.bool_], rise: float) -> bool:
    """Whether the tumour's rise is that of the voxels next to its mask in each slice, on all sides."""
    from scipy.ndimage import binary_dilation

    beside = binary_dilation(inside, iterations=EDGE, structure=IN_PLANE) & ~inside
    before = phases[0][beside].astype(np.float64)
    known = before > 0
    if known.sum() < MIN_EDGE:
        return False
    highest = np.max([phase[beside][known] / before[known] for phase in phases[1:]], axis=0)
    return float(np.percentile(highest, 25)) > 1 + AS_MUCH * (rise - 1)
