"""Preprocessing of an exam: N4 bias-field correction and rigid registration of its phases."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.imaging.files import bad_file
from shared_models.settings import Settings

if TYPE_CHECKING:
    from client.imaging.exams import Exam

Array = NDArray[Any]

VERSION = 2  # raise it when the same files become another preprocessed exam
BIAS_VOXEL_MM = 4.0  # the coils' field is smooth: it is estimated on voxels of this size
HISTOGRAM_BINS = 32
SHRINK, SMOOTHING_VOXELS = [4, 2, 1], [2.0, 1.0, 0.0]  # coarse to fine
SAMPLES = 60_000  # voxels that the measure is taken at, on each level
SEED = 1


class Preprocessing(Settings):
    """Steps that a site may ask for; by default none."""

    n4: bool = Field(False, description="N4 bias-field correction, estimated on the first phase")
    registration: Literal["none", "rigid"] = Field("none", description="move later phases onto the first")


Stored = Callable[[str, Callable[[], Array]], Array]


def _anew(step: str, make: Callable[[], Array]) -> Array:
    return make()


def preprocess(exam: Exam, settings: Preprocessing, stored: Stored = _anew) -> Exam:
    """The exam after the steps that the site asks for.

    What takes long is to estimate the bias field and the motion; both are small, and applying them takes about as long
    as reading the exam. So they are stored, and not the exam's voxels, which are hundreds of times as large.

    The coils' field does not move while the patient moves: it goes first. Nothing elastic is offered: without a
    constraint on volume, it shrinks tumours that take up contrast (Rohlfing 2003, 10.1109/TMI.2003.814791).

    Args:
        exam: As it was read.
        settings: The steps.
        stored: Gives the array of a step's name: what was stored of this exam, or what the function returns.

    Raises:
        SiteError: If a step does not work on these images.
    """
    try:
        phases = exam.phases
        if settings.n4:
            phases = _bias_corrected(phases, stored("bias field", lambda: _log_bias_field(phases[0])))
        if settings.registration == "rigid" and len(phases) > 1:
            fixed, moving = phases[0], phases[1:]
            motions = stored("rigid motion", lambda: np.stack([_motion(fixed, phase) for phase in moving]))
            phases = (fixed, *(_moved(phase, fixed, motion) for phase, motion in zip(moving, motions, strict=True)))
    except RuntimeError as error:  # ITK's own
        last = str(error).strip().splitlines()[-1]
        raise bad_file(exam.name, "an exam cannot be preprocessed", last, "images of a breast in each phase") from None
    return dataclasses.replace(exam, phases=phases)


def _shrunk(first: Any) -> Any:
    import SimpleITK as sitk

    factors = [max(1, round(BIAS_VOXEL_MM / size)) for size in first.GetSpacing()]
    return sitk.Shrink(first, [min(factor, size) for factor, size in zip(factors, first.GetSize(), strict=True)])


def _log_bias_field(first: Any) -> Array:
    """The logarithm of the field `(D, H, W)`, on voxels of `BIAS_VOXEL_MM`.

    N4: Tustison 2010 (10.1109/TMI.2010.2046908). The air is left out by the threshold of Li and Tam 1998
    (10.1016/S0167-8655(98)00057-9); Otsu's would leave out tissue far from a coil, too.
    """
    import SimpleITK as sitk

    small = _shrunk(first)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetNumberOfThreads(1)
    correction.Execute(small, sitk.LiThreshold(small, 0, 1))
    return np.asarray(sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(small)))


def _bias_corrected(phases: tuple[Any, ...], log_field: Array) -> tuple[Any, ...]:
    """All phases divided by the first one's bias field, so that the ratios between them stay."""
    import SimpleITK as sitk

    small = sitk.GetImageFromArray(log_field)
    small.CopyInformation(_shrunk(phases[0]))
    edges = True  # the field is extended unchanged beyond the outermost of the small voxels' centres
    log_field = sitk.Resample(small, phases[0], sitk.Transform(), sitk.sitkBSpline, 0.0, sitk.sitkFloat32, edges)
    field = sitk.Exp(log_field)
    return tuple(phase / field for phase in phases)


def _middle(first: Any) -> Any:
    """Of the motion's turn: the middle of the image."""
    import SimpleITK as sitk

    motion = sitk.Euler3DTransform()
    motion.SetCenter(first.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in first.GetSize()]))
    return motion


def _motion(first: Any, phase: Any) -> Array:
    """How a phase is moved and turned onto the first `(6,)`, by the mutual information that contrast leaves intact.

    Mattes 2003 (10.1109/TMI.2003.809072), coarse to fine; a fixed seed, so that it can be repeated.
    """
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)  # a regular grid makes the measure ripple from voxel to voxel
    voxels = [math.prod(first.GetSize()) / shrink**3 for shrink in SHRINK]
    method.SetMetricSamplingPercentagePerLevel([min(1.0, SAMPLES / count) for count in voxels], SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTHING_VOXELS)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(_middle(first))
    return np.asarray(method.Execute(first, phase).GetParameters())


def _moved(phase: Any, first: Any, parameters: Array) -> Any:
    import SimpleITK as sitk

    motion = _middle(first)
    motion.SetParameters(parameters.tolist())
    return sitk.Resample(phase, first, motion, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
