"""Preprocessing of an exam: N4 bias-field correction and rigid registration of its phases."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from client.imaging.files import bad_file
from shared_models.settings import Settings

if TYPE_CHECKING:
    from client.imaging.exams import Exam

BIAS_VOXEL_MM = 4.0  # the coils' field is smooth: it is estimated on voxels of this size
HISTOGRAM_BINS = 32
SHRINK, SMOOTHING_VOXELS = [4, 2, 1], [2.0, 1.0, 0.0]  # coarse to fine
SAMPLES = 60_000  # voxels that the measure is taken at, on each level
SEED = 1


class Preprocessing(Settings):
    """Steps that a site may ask for; by default none."""

    n4: bool = Field(False, description="N4 bias-field correction, estimated on the first phase")
    registration: Literal["none", "rigid"] = Field("none", description="move later phases onto the first")


def preprocess(exam: Exam, settings: Preprocessing) -> Exam:
    """The exam after the steps that the site asks for.

    The coils' field stands still while the patient moves: it goes first. Nothing elastic is offered: without a
    constraint on volume, it shrinks tumours that take up contrast (Rohlfing 2003, 10.1109/TMI.2003.814791).

    Raises:
        SiteError: If a step does not work on these images.
    """
    try:
        phases = _bias_corrected(exam.phases) if settings.n4 else exam.phases
        if settings.registration == "rigid":
            phases = (phases[0], *(_moved_onto(phases[0], phase) for phase in phases[1:]))
    except RuntimeError as error:  # ITK's own
        last = str(error).strip().splitlines()[-1]
        raise bad_file(exam.name, "an exam cannot be preprocessed", last, "images of a breast in each phase") from None
    return dataclasses.replace(exam, phases=phases)


def _bias_corrected(phases: tuple[Any, ...]) -> tuple[Any, ...]:
    """All phases divided by the first one's bias field, so that the ratios between them stay.

    N4: Tustison 2010 (10.1109/TMI.2010.2046908). The air is left out by the threshold of Li and Tam 1998
    (10.1016/S0167-8655(98)00057-9); Otsu's would leave out tissue far from a coil, too.
    """
    import SimpleITK as sitk

    first = phases[0]
    factors = [max(1, round(BIAS_VOXEL_MM / size)) for size in first.GetSpacing()]
    factors = [min(factor, size) for factor, size in zip(factors, first.GetSize(), strict=True)]
    small = sitk.Shrink(first, factors)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetNumberOfThreads(1)
    correction.Execute(small, sitk.LiThreshold(small, 0, 1))
    field = sitk.Exp(correction.GetLogBiasFieldAsImage(first))
    return tuple(phase / field for phase in phases)


def _moved_onto(first: Any, phase: Any) -> Any:
    """A phase moved and turned onto the first, by the mutual information that contrast leaves intact.

    Mattes 2003 (10.1109/TMI.2003.809072), coarse to fine; a fixed seed, so that it can be repeated.
    """
    import SimpleITK as sitk

    middle = first.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in first.GetSize()])
    start = sitk.Euler3DTransform()
    start.SetCenter(middle)
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
    method.SetInitialTransform(start)
    found = method.Execute(first, phase)
    return sitk.Resample(phase, first, found, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
