"""Contrast between phases of exams that are plain, even or of one voxel's signal."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from client.imaging.contrast import contrast_remarks
from client.imaging.exams import Exam


def exam(*phases):
    return Exam(Path("a"), tuple(sitk.GetImageFromArray(np.asarray(phase, dtype=np.float32)) for phase in phases))


def test_tissue_without_any_grain_is_compared_without_a_warning():
    before = np.zeros((6, 8, 8))
    before[1:5, 2:6, 2:6] = 100
    after = before * 1.1
    after[2, 3, 3] = 300
    assert contrast_remarks(exam(before, after, after * 0.99)) == []
    assert contrast_remarks(exam(np.full((2, 3, 4), 5.0), np.full((2, 3, 4), 6.0), np.full((2, 3, 4), 5.5))) == []


def test_a_copy_of_a_phase_is_named_by_its_number():
    draw = np.random.default_rng(0).uniform(50, 100, (3, 6, 8, 8))
    (remark,) = contrast_remarks(exam(draw[0], draw[0] * 2, draw[0] * 2))
    assert remark.startswith("phases 2 and 3 are the same image")
