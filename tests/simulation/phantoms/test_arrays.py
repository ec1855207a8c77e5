"""Phantoms as arrays: what says nothing of an outcome says nothing, and what carries it can be measured."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, skew

from simulation.phantoms import brain, mammograms, receptors, slides
from simulation.phantoms.patients import Grid


def auc(score, label):
    ranks = rankdata(score)[np.asarray(label) == 1]
    return (ranks.sum() - len(ranks) * (len(ranks) + 1) / 2) / (len(ranks) * (len(label) - len(ranks)))


def test_a_lesions_texture_says_what_its_volume_brightness_and_contrast_do_not():
    arrays = brain.draw_arrays("texture", 40, seed=3)
    inside = [image[distance > 0] for image, distance in arrays.inputs["brain_mri"]]
    her2 = arrays.truth["her2"]
    assert auc([skew(values) for values in inside], her2) > 0.97
    for summary in (np.mean, np.std, len):
        assert 0.3 < auc([summary(values) for values in inside], her2) < 0.7


def test_the_distance_is_positive_inside_and_its_zero_encloses_the_volume_that_was_asked_for():
    radius_mm, spacing_mm = 12.0, 2.0
    arrays = receptors.draw_arrays("shape", 6, seed=1, grid=Grid((32, 32, 32), (spacing_mm,) * 3), radius_mm=radius_mm)
    inside = (arrays.inputs["dce_mri"][:, 1] > 0).sum(axis=(1, 2, 3)) * spacing_mm**3
    radii = np.cbrt(inside * 3 / (4 * np.pi))
    assert np.all((radii > radius_mm * np.exp(-0.25)) & (radii < radius_mm * np.exp(0.25)))


def test_neither_column_of_an_interaction_says_anything_alone_but_both_reach_the_ceiling():
    arrays = mammograms.draw_arrays("interaction", 1500, seed=2, ceiling=0.8)
    columns, relapse = arrays.inputs["mammography"], arrays.truth["relapse"]
    assert all(abs(auc(column, relapse) - 0.5) < 0.06 for column in columns.T[: columns.shape[1] // 2])
    assert mammograms.best_auc("interaction", 0.8, patients=5000).value == pytest.approx(0.8, abs=0.01)
    table = mammograms.task_table("relapse_mammogram", "mammography").columns
    late = sum(columns[:, table.index(name)] for name in ("margin=ill_defined", "margin=spiculated"))
    aggressive = sum(columns[:, table.index(name)] for name in ("subtype=her2", "subtype=triple_negative"))
    assert auc((late > 0) ^ (aggressive > 0), relapse) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("kind", "ceiling"), [("image", 0.9), ("few", 0.9), ("interaction", 0.9)])
def test_the_ceiling_of_the_slides_coins_is_the_one_that_was_chosen(kind, ceiling):
    assert slides.best_auc(kind, ceiling).value == pytest.approx(ceiling)


def test_the_same_seed_draws_the_same_patients_and_more_of_them_change_none():
    few, more = (slides.draw_arrays("image", patients, seed=5).inputs["tiles"] for patients in (2, 3))
    np.testing.assert_array_equal(few, more[:2])
