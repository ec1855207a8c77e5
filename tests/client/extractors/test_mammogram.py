import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from client.errors import SiteError
from client.extractors.mammogram import DENSITY, FEATURES, measure
from client.imaging.exams import Exam
from shared_models.features import parse_features
from shared_models.tasks.relapse_mammogram import TABLES

SPACING = (0.1, 0.2)  # rows, columns
SHAPE = (400, 300)
Y, X = ((np.indices(SHAPE) + 0.5 - np.array(SHAPE)[:, None, None] / 2) * np.array(SPACING)[:, None, None]) + 0.03
RADIUS, ANGLE = np.hypot(X, Y), np.arctan2(Y, X)
CIRCLE = RADIUS <= 8


def as_image(pixels, spacing=SPACING, kind=np.float32):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels, dtype=kind)[None])
    image.SetSpacing((spacing[1], spacing[0], 1.0))
    return image


def exam(pixels, mask=None, spacing=SPACING):
    mask_image = None if mask is None else as_image(mask, spacing, np.uint8)
    return Exam(Path("a.dcm"), (as_image(pixels, spacing),), mask=mask_image)


def measured(mask, pixels=None):
    return measure(exam(np.where(mask, 200.0, 100.0) if pixels is None else pixels, mask))


def ellipse(major_mm, minor_mm, degrees):
    turn = math.radians(degrees)
    along, across = X * math.cos(turn) + Y * math.sin(turn), Y * math.cos(turn) - X * math.sin(turn)
    return (2 * along / major_mm) ** 2 + (2 * across / minor_mm) ** 2 <= 1


@pytest.mark.parametrize("degrees", [0, 30, 45, 90])
@pytest.mark.parametrize(("major", "minor"), [(24, 12), (16, 16), (6, 4)])
def test_an_ellipse_has_its_axes_in_mm_however_it_lies(major, minor, degrees):
    values = measured(ellipse(major, minor, degrees))
    assert values["size_mm"] == pytest.approx(major, abs=0.25)
    assert values["size_minor_mm"] == pytest.approx(minor, abs=0.15)
    assert values["eccentricity"] == pytest.approx(math.sqrt(1 - (minor / major) ** 2), abs=0.05)
    assert values["solidity"] == pytest.approx(1, abs=0.03)
    ramanujan = math.pi * (3 * (major + minor) - math.sqrt((3 * major + minor) * (major + 3 * minor))) / 2
    assert values["circularity"] == pytest.approx(math.pi**2 * major * minor / ramanujan**2, rel=0.04)


def test_spicules_and_lobes_show_in_every_descriptor():
    circle, lobes, star = (measured(8 * (1 + high * np.cos(12 * ANGLE)) >= RADIUS) for high in (0, 0.06, 0.3))
    for name in ("radial_deviation", "spiculation"):
        assert circle[name] < 0.1 < 4 * lobes[name] < 1.5 * star[name], name
    for name in ("circularity", "solidity"):
        assert circle[name] > lobes[name] + 0.03 > star[name] + 0.15, name
    assert star["spiculation"] == pytest.approx(0.3 * 12 / math.sqrt(2), rel=0.05)  # of 1 + .3 cos(12 a)
    assert star["radial_deviation"] == pytest.approx(0.3 / math.sqrt(2) / 1.3, rel=0.05)
    oval = measured(ellipse(24, 12, 30))
    assert oval["spiculation"] < 0.3, "an oval has no spicules"


def test_a_sharp_border_has_a_higher_acutance():
    step = np.where(CIRCLE, 200.0, 100.0)
    blurred = [gaussian_filter(step, np.divide(sigma, SPACING)) for sigma in (0.3, 1, 2)]
    values = [measured(CIRCLE, pixels)["acutance"] for pixels in (step, *blurred)]
    assert values[0] == pytest.approx(1, abs=0.02)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.45
    noise = np.random.default_rng(0).normal(0, 1, SHAPE)
    assert measured(CIRCLE, noise)["acutance"] < 0.25
    assert math.isnan(measured(CIRCLE, np.ones(SHAPE))["acutance"])


def breast(share, seed=0, spacing=0.2):
    """A half ellipse at the left edge whose inner `share` is dense, and a label in the corner."""
    shape = (1200, 900)
    rows, columns = np.indices(shape) * spacing
    reach = (columns / 150) ** 2 + ((rows - shape[0] * spacing / 2) / 105) ** 2
    pixels = np.where(reach <= share, 2500.0, np.where(reach <= 1, 1500.0, 50.0))
    pixels[20:60, -200:-60] = 4095
    return pixels + np.random.default_rng(seed).normal(0, 80, shape)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.85])
def test_density_is_the_dense_share_of_the_breast(share):
    values = measure(exam(breast(share), spacing=(0.2, 0.2)))
    assert values["density_percent"] == pytest.approx(100 * share, abs=1.5)
    assert values["density"] == DENSITY[int(4 * share)]
    smooth = gaussian_filter(breast(share), 10)  # 2 mm
    assert measure(exam(smooth, spacing=(0.2, 0.2)))["density_percent"] == pytest.approx(100 * share, abs=4)


def test_a_breast_of_one_kind_of_tissue_has_no_density():
    values = measure(exam(breast(0), spacing=(0.2, 0.2)))
    assert math.isnan(values["density_percent"])
    assert math.isnan(values["density"])


@pytest.mark.parametrize(
    ("gain", "offset", "flip"), [(3, 40, (0,)), (0.5, -30, (1,)), (-1, 4095, (0, 1))], ids=["up", "side", "inverted"]
)
def test_neither_the_scanner_nor_the_side_changes_a_finding(gain, offset, flip):
    mask = (8 * (1 + 0.1 * np.cos(5 * ANGLE)) >= RADIUS) & ~(ellipse(4, 2, 20))
    pixels = gaussian_filter(np.where(mask, 200.0, 100.0), 3)
    expected = measured(mask, pixels)
    values = measured(np.flip(mask, flip), np.flip(gain * pixels + offset, flip))
    for name in FEATURES:
        if not name.startswith("density"):
            assert values[name] == pytest.approx(expected[name], rel=0.02, abs=2e-3), name


@pytest.mark.parametrize("gain", [0.1, 7])
def test_neither_the_scanner_nor_the_side_changes_density(gain):
    pixels = breast(0.4)
    values = measure(exam((gain * pixels + 100)[:, ::-1], spacing=(0.2, 0.2)))
    assert values["density_percent"] == pytest.approx(
        measure(exam(pixels, spacing=(0.2, 0.2)))["density_percent"], abs=0.5
    )


def test_only_the_largest_piece_counts_and_holes_are_filled():
    specks = CIRCLE & ~(RADIUS < 2)
    specks[:20, :20] = True
    pixels = np.where(CIRCLE, 200.0, 100.0)
    assert measured(specks, pixels) == pytest.approx(measured(CIRCLE, pixels), nan_ok=True)


def edge_cases():
    line, corner, everything, dot = (np.zeros(SHAPE, bool) for _ in range(4))
    line[100, 50:90] = corner[:30, :40] = everything[:] = dot[5, 5] = True
    crescent = CIRCLE & (np.hypot(X - 6, Y) > 8)
    return {"line": line, "corner": corner, "everything": everything, "crescent": crescent, "dot": dot}


@pytest.mark.parametrize("name", edge_cases())
def test_a_strange_mask_is_measured_or_has_no_value(name):
    mask = edge_cases()[name]
    values = measured(mask, np.random.default_rng(0).normal(100, 10, SHAPE))
    assert set(values) == set(FEATURES)
    assert math.isnan(values["size_mm"]) == (name == "dot")
    if name == "line":
        assert values["size_mm"] == pytest.approx(40 * SPACING[1], abs=0.2)
        assert math.isnan(values["spiculation"]), "too thin to have any"
    if name == "everything":
        assert math.isnan(values["acutance"])


def test_a_large_noisy_mask_takes_seconds():
    import time

    draw = np.random.default_rng(0)
    start = time.process_time()
    values = measure(exam(draw.normal(100, 10, (3000, 2500)), draw.random((3000, 2500)) < 0.5, (0.07, 0.07)))
    assert time.process_time() - start < 10
    assert values["size_mm"] == pytest.approx(0.07 * math.hypot(3000, 2500), rel=0.01)


def test_an_exam_of_several_phases_is_no_mammogram():
    image = as_image(np.ones(SHAPE))
    with pytest.raises(SiteError, match="no mammogram"):
        measure(Exam(Path("a"), (image, image)))


def test_categories_are_those_of_the_task():
    (features,) = parse_features(TABLES).values()
    known = {feature.name: feature.categories for feature in features}
    assert FEATURES["density"] == known["density"]
    assert FEATURES["size_mm"] == known["size_mm"] == ()
    assert "shape" not in FEATURES, "a word of the radiologist's"
