"""Augmentation: each patient by her own numbers, the image and its distance channel alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.training.augmentation import MAX_COLOUR, MAX_GAIN, MAX_SHIFT, NUMBERS, augment, images_of
from client.training.loop import fit, make_optimizer
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task, Volume, load_task

VOXELS_MM = (1.0, 2.0, 1.0)
LESION = Volume((2, 6, 20, 40), VOXELS_MM, tumour=True)
TASK = Task({"mri": LESION, "clinical": Table(())}, {"label": Binary()}, build_model=None)
MIDDLE = 0.5  # a draw that changes nothing


def ball(radius_mm: float = 8.0) -> torch.Tensor:
    """A bright ball left of the middle, and the distance to its surface in mm."""
    axes = [(torch.arange(n) - (n - 1) / 2) * step for n, step in zip(LESION.shape[1:], VOXELS_MM, strict=True)]
    axes[2] = axes[2] + 4.0
    distance = radius_mm - torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(dim=0).sqrt()
    return torch.stack([(distance > 0).float(), distance])


def changed(image: torch.Tensor, **numbers: float) -> torch.Tensor:
    """A lesion by its draws: of mirroring, turning, zoom, gain and shift."""
    draws = torch.full((1, 1, NUMBERS), MIDDLE)
    for place, name in enumerate(("mirror", "turn", "zoom", "gain", "shift")):
        draws[0, 0, place] = numbers.get(name, 1.0 if name == "mirror" else MIDDLE)
    inputs = {"mri": image[None], "clinical": torch.ones(1, 3)}
    return augment(inputs, torch.ones(1, 2), TASK, draws)["mri"][0]


def test_middle_draws_change_nothing() -> None:
    torch.testing.assert_close(changed(ball()), ball(), atol=1e-4, rtol=0)


def test_a_mirrored_lesion_lies_on_the_other_side() -> None:
    torch.testing.assert_close(changed(ball(), mirror=0.0), ball().flip(-1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("draw", "zoom"), [(0.0, 0.9), (1.0, 1.1)])
def test_a_zoomed_lesion_has_the_distances_of_one_that_is_as_large(draw: float, zoom: float) -> None:
    """In the slice through its middle; a zoom within slices leaves their distance alone."""
    image = changed(torch.stack([ball()[0], ball()[1]]), zoom=draw)
    inside = image[1] > 0
    assert inside.sum() == pytest.approx(zoom**2 * float((ball()[1] > 0).sum()), rel=0.06)
    assert image[1].max() == pytest.approx(zoom * float(ball()[1].max()), rel=0.02)
    assert ((image[0] > 0.5) == inside).float().mean() > 0.97


def test_a_turned_lesion_stays_round_where_voxels_are_not() -> None:
    angles = []
    for draw in (0.0, 1.0):
        inside = changed(ball(), turn=draw)[1] > 0
        down, across = (float(inside.nonzero()[:, axis].float().mean()) for axis in (1, 2))
        place_mm = (down - 9.5) * 2.0, (across - 19.5) * 1.0
        assert np.hypot(*place_mm) == pytest.approx(4.0, abs=0.3)
        assert inside.sum() == pytest.approx(float((ball()[1] > 0).sum()), rel=0.06)
        angles.append(np.degrees(np.arctan2(place_mm[0], -place_mm[1])))
    assert sorted(angles) == pytest.approx([-10, 10], abs=3)


def test_brightness_changes_the_image_and_not_the_distance() -> None:
    image = changed(ball(), gain=1.0, shift=0.0)
    torch.testing.assert_close(image[0], ball()[0] * (1 + MAX_GAIN) - MAX_SHIFT, atol=1e-4, rtol=0)
    torch.testing.assert_close(image[1], ball()[1], atol=1e-3, rtol=0)


def test_what_a_patient_lacks_stays_zero_and_tables_stay() -> None:
    inputs = {"mri": torch.zeros(1, *LESION.shape), "clinical": torch.rand(1, 3)}
    augmented = augment(inputs, torch.tensor([[0.0, 1.0]]), TASK, torch.zeros(1, 1, NUMBERS))
    assert not augmented["mri"].any()
    assert augmented["clinical"] is inputs["clinical"]


def test_nothing_of_a_patient_depends_on_the_others() -> None:
    task = load_task(StudySettings(task="receptors_brain_metastasis", grids="brain_mri: 8x8x8 at 2x2x2 mm"))
    images, draws = torch.rand(5, 2, 8, 8, 8), torch.rand(5, len(images_of(task)), NUMBERS)
    present = torch.ones(5, len(task.modalities))
    together = augment({"brain_mri": images}, present, task, draws)["brain_mri"]
    alone = [augment({"brain_mri": images[[n]]}, present[[n]], task, draws[[n]])["brain_mri"][0] for n in range(5)]
    assert torch.equal(together, torch.stack(alone))


def test_tiles_keep_their_pixels_but_for_place_and_colour() -> None:
    task = load_task(StudySettings(task="subtype_histology", modalities="tiles", grids="tiles: 3x4x4 at 1x1x1 mm"))
    tiles = 0.3 + 0.3 * torch.rand(1, 3, 3, 4, 4)
    still = torch.full((1, 1, NUMBERS), MIDDLE)
    for places in ((0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (0.0, 0.0, 0.0)):
        still[0, 0, :3] = torch.tensor(places)
        moved = augment({"tiles": tiles}, torch.ones(1, 1), task, still)["tiles"]
        assert not torch.allclose(moved, tiles)
        torch.testing.assert_close(moved.flatten(3).sort().values, tiles.flatten(3).sort().values)
    still[0, 0, :3], still[0, 0, 3] = 1.0, 1.0
    brighter = augment({"tiles": tiles}, torch.ones(1, 1), task, still)["tiles"]
    torch.testing.assert_close(brighter, tiles * (1 + MAX_COLOUR))


def test_training_sees_other_images_and_the_setting_decides() -> None:
    """The loss of a network that does not learn is that of the images as they are, or of others."""
    config = StudySettings(task="recurrence_mri", modalities="mri", grids="mri: 4x8x8 at 4x4x4 mm", learning_rate=1e-12)
    task = load_task(config)
    torch.manual_seed(0)
    model = task.build_model(task, config)
    for weight in model.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    batch = {"mri": torch.rand(4, 4, 4, 8, 8)}, torch.ones(4, 1), {"recurrence": torch.tensor([[900.0, 1.0]] * 4)}
    losses = []
    for augmentation in ("none", "none", "standard", "standard"):
        one = config.model_copy(update={"augmentation": augmentation, "modality_dropout": 0.0})
        losses.append(fit(model, make_optimizer(model.parameters(), one), [batch], task, one, seed=1))
    assert losses[0] == pytest.approx(losses[1])
    assert losses[2] == pytest.approx(losses[3])
    assert abs(losses[2] - losses[0]) > 1e-6
