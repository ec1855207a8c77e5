"""PyRadiomics' 107 default features of a tumour: shape, first order and texture.

Of a dynamic exam, the first post-contrast phase. The settings are the package's defaults, written out so that no update
changes them: grey levels of width 25, and the image's own voxels. Tables that hospitals publish, such as TCIA's
BCBM-RadioGenomics, are made so, and one name must mean the same in all. van Griethuysen 2017
(10.1158/0008-5472.CAN-17-0339); docs/measures.md compares with PyRadiomics' baseline and with the IBSI's phantom.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from client.errors import SiteError
from client.imaging.exams import Exam
from shared_models.radiomics import pyradiomics_features

VERSION = 1  # raise it when the same exam gives other values

FEATURES: Mapping[str, tuple[str, ...]] = {feature.name: () for feature in pyradiomics_features()}
SETTINGS: Mapping[str, Any] = {
    "label": 1,
    "binWidth": 25,
    "resampledPixelSpacing": None,
    "normalize": False,
    "resegmentRange": None,
    "distances": [1],
    "force2D": False,
    "voxelArrayShift": 0,
    "minimumROIDimensions": 1,  # a line of voxels has texture, and flatness 0
    "additionalInfo": False,
}
MAX_LEVELS = 500  # the time for their co-occurrence grows with the cube: half a minute
IMAGINARY = 1e-6  # of an eigenvalue: of rounding


def measure(exam: Exam) -> dict[str, float | str]:
    """The values of `FEATURES`; nan without a mask, and for a mask of one voxel.

    Raises:
        SiteError: If the tumour has too many grey levels.
    """
    import SimpleITK as sitk

    image = exam.phases[min(1, len(exam.phases) - 1)]
    inside = None if exam.mask is None else sitk.GetArrayViewFromImage(exam.mask) == 1
    if inside is None or inside.sum() < 2:
        return dict.fromkeys(FEATURES, math.nan)
    levels = int(np.ptp(sitk.GetArrayViewFromImage(image)[inside]) / SETTINGS["binWidth"]) + 1
    if levels > MAX_LEVELS:
        raise SiteError(
            what="a tumour has too many grey levels for radiomics",
            where=str(exam.name),
            found=f"{levels} of width {SETTINGS['binWidth']}",
            expected=f"at most {MAX_LEVELS}",
            fix="give the images as the scanner stores them, mostly 0 to 4095, without another scale",
            public="an image of the site cannot be used",
        )
    return dict(extract(image, exam.mask, SETTINGS))


def extract(image: Any, mask: Any, settings: Mapping[str, Any]) -> dict[str, float]:
    """PyRadiomics' features without a filter, by name; nan where one is not defined.

    Args:
        image: A SimpleITK image.
        mask: 1 inside, on the same grid.
        settings: As PyRadiomics names them.
    """
    import SimpleITK as sitk
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    logging.getLogger("radiomics").setLevel(logging.CRITICAL)  # it tells the course of each exam
    mask = sitk.Image(mask)
    mask.CopyInformation(image)  # headers may round, and PyRadiomics allows 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mean of nothing is nan, which is what is wanted
        values = RadiomicsFeatureExtractor(**settings).execute(image, mask)
    return {name: _real(value) for name, value in values.items() if name in FEATURES}


def _real(value: Any) -> float:
    """A feature without the imaginary part that rounding gives to a real eigenvalue (GLCM's MCC); nan if it is more."""
    import numpy as np

    number = complex(np.asarray(value).item())
    return number.real if abs(number.imag) <= IMAGINARY * max(1.0, abs(number.real)) else float("nan")
