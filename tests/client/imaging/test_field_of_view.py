"""What a volume shows of an exam: the tumour, the breast with the finding, or the whole; counted and said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from client.checks.counts import readiness
from client.cohort.load import load_cohort
from client.errors import SiteError
from client.imaging.exams import Exam
from client.imaging.field_of_view import coverage, place
from client.imaging.grid import on_grid
from shared_models.targets import TimeToEvent
from shared_models.task import Task, Volume

# A bilateral exam, 160 x 240 x 320 mm, and the left breast (x > 0) brighter than the right.
SHAPE, SPACING = (16, 24, 32), (10.0, 10.0, 10.0)
CUBE = Volume((1, 8, 8, 8), (8.0, 8.0, 8.0))
LPS, RAS = np.eye(3), np.diag([-1.0, -1.0, 1.0])


def image(array, spacing=SPACING, axes=LPS):
    """Centred on the scanner's isocentre; the array's axes are `(z, y, x)` of the patient, whatever the file's are."""
    import SimpleITK as sitk

    flips = tuple(dimension for dimension in range(3) if axes[2 - dimension, 2 - dimension] < 0)
    made = sitk.GetImageFromArray(np.ascontiguousarray(np.flip(np.asarray(array, dtype=np.float32), flips)))
    made.SetSpacing(spacing)
    made.SetDirection(axes.ravel().tolist())
    half = (np.asarray(made.GetSize()) - 1) / 2 * spacing
    made.SetOrigin((-(axes @ half)).tolist())
    return made


def exam(tmp_path, spots=(), axes=LPS, shape=SHAPE, spacing=SPACING, **settings):
    """Left 200, right 100; `spots` are slices of tumour."""
    import SimpleITK as sitk

    voxels = np.full(shape, 100.0)
    voxels[..., shape[2] // 2 :] = 200.0
    mask = np.zeros(shape)
    for spot in spots:
        mask[spot] = 1
    mask_image = sitk.Cast(image(mask, spacing, axes), sitk.sitkUInt8) if spots else None
    return Exam(tmp_path, (image(voxels, spacing, axes),), mask=mask_image, **settings)


def box(z, y, x, size=2):
    return tuple(slice(at, at + size) for at in (z, y, x))


def view(name, grid=CUBE):
    return dataclasses.replace(grid, field_of_view=name)


@pytest.mark.parametrize("axes", [LPS, RAS], ids=["LPS", "RAS"])
@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"spots": [box(3, 5, 25)]}, 2.0),
        ({"spots": [box(3, 5, 4)]}, 1.0),
        ({"side": "left"}, 2.0),
        ({"side": "right"}, 1.0),
    ],
)
def test_the_breast_with_the_finding_is_taken_by_the_mask_or_by_the_side(tmp_path, axes, settings, level):
    volume = on_grid(exam(tmp_path, axes=axes, **settings), view("breast"))
    inner = volume[0, :, :, 1:-1]  # at the midline, smoothing mixes both
    np.testing.assert_allclose(inner, level * 100 / 200, rtol=2e-2)


def test_the_mask_goes_before_the_side_and_a_contradiction_is_noted(tmp_path):
    contradicted = exam(tmp_path, [box(3, 5, 25)], side="right")
    breast = view("breast")
    assert coverage(contradicted, breast, place(contradicted, breast)).other_side
    np.testing.assert_allclose(on_grid(contradicted, breast)[0, :, :, 1:-1], 1, rtol=2e-2)


def test_an_exam_of_one_breast_is_taken_as_it_is(tmp_path):
    narrow = exam(tmp_path, shape=(16, 24, 12), side="left")
    placed = place(narrow, view("breast"))
    np.testing.assert_allclose(placed.spacing_mm, (15, 30, 20))
    assert not placed.whole


@pytest.mark.parametrize("axes", [LPS, RAS], ids=["LPS", "RAS"])
def test_the_whole_exam_is_resized_to_the_grid_from_edge_to_edge(tmp_path, axes):
    ramp = np.broadcast_to(np.arange(1.0, 33.0), SHAPE)
    grid = Volume((1, 8, 12, 16), (1.0, 1.0, 1.0), field_of_view="whole")
    volume = on_grid(Exam(tmp_path, (image(ramp, axes=axes),)), grid)[0]
    expected = ramp.reshape(8, 2, 12, 2, 16, 2).mean(axis=(1, 3, 5)) / np.percentile(ramp, 95)
    np.testing.assert_allclose(volume[..., 1:-1], expected[..., 1:-1], rtol=2e-2)
    assert (volume > 0).all(), "nothing is padding"


@pytest.mark.parametrize("name", ["tumour", "breast", "whole"])
def test_a_sagittal_acquisition_gives_the_same_volume(tmp_path, name):
    import SimpleITK as sitk

    axial = exam(tmp_path, [box(4, 6, 22, size=3)])
    turned = [sitk.Flip(sitk.PermuteAxes(one, (1, 2, 0)), (True, False, True)) for one in (axial.phases[0], axial.mask)]
    sagittal = dataclasses.replace(axial, phases=(turned[0],), mask=turned[1])
    assert sagittal.phases[0].GetSize() != axial.phases[0].GetSize()
    np.testing.assert_allclose(on_grid(sagittal, view(name)), on_grid(axial, view(name)), atol=2e-3)


def test_about_a_tumour_that_fits_all_of_it_is_shown_and_of_two_far_apart_the_larger(tmp_path):
    together = exam(tmp_path, [box(7, 8, 20), box(7, 11, 20)])
    assert coverage(together, CUBE, place(together, CUBE)).tumour == 1
    both_breasts = exam(tmp_path, [box(7, 8, 3), box(7, 8, 25, size=3)])
    placed = place(both_breasts, CUBE)
    np.testing.assert_allclose(placed.centre_mm, (105, -25, 5))
    assert coverage(both_breasts, CUBE, placed).tumour == pytest.approx(27 / 35)


def test_a_tumour_of_which_the_grid_shows_too_little_is_refused(tmp_path):
    large = exam(tmp_path, [(slice(2, 14), slice(2, 14), slice(18, 30))])  # 120 mm in a cube of 64 mm
    with pytest.raises(SiteError) as caught:
        on_grid(large, CUBE)
    for part in ("mostly outside the study's grid", "12% of its volume within 64 x 64 x 64 mm", "25% or more", "to do"):
        assert part in str(caught.value)
    assert str(tmp_path) not in caught.value.public
    assert on_grid(large, view("whole")).shape == CUBE.shape


def test_a_grid_that_reaches_beyond_the_exam_is_padded_by_the_share_that_is_said(tmp_path):
    edge = exam(tmp_path, [box(0, 11, 20)])
    shown = coverage(edge, CUBE, place(edge, CUBE))
    volume = on_grid(edge, CUBE)[0]
    assert shown.exam == pytest.approx(42 / 64)
    assert shown.exam == pytest.approx((volume > 0).mean(), abs=1 / 8)
    assert shown.tumour == 1


def test_distances_to_the_tumour_stay_millimetres_in_the_whole_exam(tmp_path):
    grid = Volume((2, 16, 24, 32), (1.0, 1.0, 1.0), tumour=True, field_of_view="whole")
    distance = on_grid(exam(tmp_path, [box(7, 11, 20)]), grid)[1]
    assert distance[7, 11, 30] == pytest.approx(-85, abs=1)


@pytest.fixture
def bilateral(hospital, volume_file):
    """Six patients with bilateral exams; `write` draws the masks that it is given and says the sides."""
    voxels = np.random.default_rng(0).uniform(50, 150, SHAPE)

    def write(masks=None, sides=None):
        hospital.phases([], count=1)
        mri = hospital.settings["modalities"]["mri"]
        for number in range(6):
            volume_file(hospital.data / f"mri/secret-00{number}/phase0.nii.gz", voxels, SPACING)
        for number, spot in (masks or {}).items():
            mri["mask"] = "mri/{patient}/mask.nii.gz"
            tumour = np.zeros(SHAPE)
            tumour[spot] = 1
            volume_file(hospital.data / f"mri/secret-00{number}/mask.nii.gz", tumour, SPACING)
        if sides:
            hospital.write([["id", "Side"], *([f"secret-00{n}", side] for n, side in sides.items())], "sides.csv")
            hospital.settings["tables"]["sides"] = {"file": "sides.csv", "patient_id": "id"}
            mri["laterality"] = {"table": "sides", "column": "Side"}
        return hospital.site()

    return write


def checked(site, config, grid):
    task = Task({"mri": grid}, {"recurrence": TimeToEvent()}, build_model=None)
    result = readiness(site, config, task)
    return result, [problem.text for problem in result.problems if problem.text.startswith("mri:")]


def test_without_masks_a_site_gives_whole_exams_and_check_says_so(bilateral, config):
    result, texts = checked(bilateral(), config, CUBE)
    assert result.modalities == {"mri": 6}
    assert texts == [
        "mri: 6 of 6 exams are taken whole and resized to the grid: the site has no `mask`; name it if there is one"
    ]
    assert checked(bilateral(), config, view("whole"))[1] == []


def test_who_has_no_mask_where_others_have_one_is_excluded_and_not_mixed_in(bilateral, config):
    site = bilateral({number: box(7, 11, 20) for number in range(4)})
    result, texts = checked(site, config, CUBE)
    assert result.modalities == {"mri": 4}
    assert texts == ["mri: 2 patients are excluded: their files cannot be used"]
    assert "exams about a tumour and whole ones are not mixed" in result.excluded[0].why
    assert checked(site, config, view("whole"))[0].modalities == {"mri": 6}


def test_check_counts_what_is_cut_off_padded_and_refused(bilateral, config):
    wide, edge, huge = (slice(4, 12), slice(8, 12), slice(18, 24)), box(0, 11, 20), (slice(16), slice(24), slice(16))
    site = bilateral({0: box(7, 11, 20), 1: wide, 2: edge, 3: huge, 4: box(7, 11, 20), 5: box(7, 11, 20)})
    result, texts = checked(site, config, CUBE)
    assert result.modalities == {"mri": 5}
    assert [one.patient for one in result.excluded] == ["secret-003"]
    grid = "the grid of 64 x 64 x 64 mm"
    assert texts == [
        f"mri: 1 of 5 exams are shown without a part of the tumour, up to 25%: it reaches beyond {grid}",
        f"mri: 1 of 5 exams are padded with 0, up to 34% of the volume: they do not fill {grid}",
        "mri: 1 patient is excluded: their files cannot be used",
    ]


def test_a_mask_that_leaves_its_image_is_counted_and_refused_above_half(bilateral, config, hospital, volume_file):
    site = bilateral({number: box(7, 11, 20) for number in range(6)})
    for number, inside in ((0, 6), (1, 3)):  # of ten slices
        marked, origin = np.ones((10, 2, 2)), (200.0, 110.0, 10.0 * (inside - 10))
        volume_file(hospital.data / f"mri/secret-00{number}/mask.nii.gz", marked, SPACING, origin=origin)
    result, texts = checked(site, config, CUBE)
    assert "shown without a part of the tumour, up to 40%" in texts[0]
    (aside,) = result.excluded
    assert aside.patient == "secret-001"
    assert "a mask lies mostly outside its image" in aside.why
    assert "30% of it within" in aside.why


def test_sides_from_a_table(bilateral, config):
    site = bilateral(sides={0: "L", 1: "right", 2: "R", 3: "", 4: "left"})
    breast = view("breast")
    result, _ = checked(site, config, breast)
    assert result.modalities == {"mri": 4}
    assert {one.patient for one in result.excluded} == {"secret-003", "secret-005"}
    assert "which breast has the finding" in result.excluded[0].why
    task = Task({"mri": breast}, {"recurrence": TimeToEvent()}, build_model=None)
    inputs = load_cohort(site, task, config).inputs["mri"]
    np.testing.assert_array_equal(inputs[1], inputs[2])
    assert np.abs(inputs[0] - inputs[1]).max() > 0.1
    assert checked(bilateral(sides={0: "L"}), config, CUBE)[0].modalities == {"mri": 6}, "no side is needed here"


def test_a_side_that_moved_is_read_anew(bilateral, config):
    task = Task({"mri": view("breast")}, {"recurrence": TimeToEvent()}, build_model=None)
    left, right = (
        load_cohort(bilateral(sides=dict.fromkeys(range(6), side)), task, config).inputs["mri"][0] for side in "LR"
    )
    assert np.abs(left - right).max() > 0.1


def test_a_side_that_cannot_be_read_stops_the_site(bilateral, config):
    result, _ = checked(bilateral(sides={0: "L", 1: "both"}), config, view("breast"))
    (error,) = {problem.text for problem in result.problems if problem.severity == "error"}
    assert "unmapped code" in error
    assert "'both'" in error


def test_a_contradicted_side_is_counted(bilateral, config):
    site = bilateral({number: box(7, 11, 25) for number in range(6)}, {0: "R", **dict.fromkeys(range(1, 6), "L")})
    assert "1 of 6 exams are of a mask in the other breast than `laterality` says" in checked(site, config, CUBE)[1][0]
