"""Contrast between phases of exams that are plain, even or of one voxel's signal."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from client.imaging.contrast import contrast_remarks
from client.imaging.exams import Exam


def exam(*phases, mask=None):
    images = tuple(sitk.GetImageFromArray(np.asarray(phase, dtype=np.float32)) for phase in phases)
    return Exam(Path("a"), images, mask=None if mask is None else sitk.GetImageFromArray(mask.astype(np.uint8)))


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


def test_a_small_tumour_may_be_all_that_takes_up_contrast():
    z, y, x = np.ogrid[-12:12, -40:40, -40:40]
    draw = np.random.default_rng(3)
    tissue = ((x**2 + y**2) / 32**2 + (z / 10) ** 2 < 1) * draw.normal(200, 12, (24, 80, 80)) + 5
    tumour = (x - 9) ** 2 + (y + 5) ** 2 + (1.5 * z) ** 2 < 3**2
    phases = [np.abs(tissue * (1 + rise * tumour) + draw.normal(0, 3, tissue.shape)) for rise in (0, 1, 0.8)]
    assert contrast_remarks(exam(*phases, mask=tumour)) == []
    alike = [200 * phase / phase.mean() for phase in phases]
    assert "the same mean" in contrast_remarks(exam(*alike, mask=tumour))[0]


def test_noise_of_a_few_voxels_is_no_fall_and_rise():
    z, y, x = np.ogrid[-8:8, -20:20, -20:20]
    tumour, tissue = x**2 + y**2 + z**2 < 1.5**2, 200 + 60 * np.sin(x / 7) * np.cos(y / 9) + 5 * np.sin(z)
    draws = [np.random.default_rng(seed).normal(0, 1, tissue.shape) for seed in range(8, 12)]

    def phases(course, noise):
        parts = zip((1, 1.05, 1.1, 1.15), course, draws, strict=True)
        return [np.abs(tissue * (factor + rise * tumour) + noise * draw) for factor, rise, draw in parts]

    noisy = phases((0, 1, 0.9, 0.88), 40)
    means = [phase[tumour].mean() for phase in noisy]
    assert min(means[1], means[3]) > 1.03 * means[2]
    assert contrast_remarks(exam(*noisy, mask=tumour)) == []
    assert "falls and rises" in contrast_remarks(exam(*phases((0, 1, 0.6, 0.88), 6), mask=tumour))[0]
