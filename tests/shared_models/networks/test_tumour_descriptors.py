import math

import pytest
import torch
from torch import Tensor

from shared_models.networks.tumour_descriptors import DESCRIPTORS, DescriptorScores, tumour_descriptors
from shared_models.task import FAR_INSIDE_MM

SPACING_MM = (2.0, 2.0, 2.0)
SIDE = 20


def places() -> tuple[Tensor, ...]:
    """Coordinates in mm about the middle, each `(S, S, S)`."""
    axis = (torch.arange(SIDE) - (SIDE - 1) / 2) * SPACING_MM[0]
    return torch.meshgrid(axis, axis, axis, indexing="ij")


def ball(radius_mm: float) -> Tensor:
    """Depth `(1, 1, S, S, S)` under the surface of a ball."""
    z, y, x = places()
    return (radius_mm - (z**2 + y**2 + x**2).sqrt())[None, None]


def described(image: Tensor, distance_mm: Tensor) -> dict[str, float]:
    found = tumour_descriptors(image, distance_mm, SPACING_MM)
    return dict(zip(DESCRIPTORS, found[0].tolist(), strict=True))


def rings(distance_mm: Tensor, core: float, rim: float, surface: float, surroundings: float) -> Tensor:
    """An image that is constant about the middle of each shell; voxels that a border crosses belong to neither."""
    image = torch.full_like(distance_mm, surroundings)
    for above, value in ((-1.0, surface), (1.0, rim), (3.0, core)):
        image = torch.where(distance_mm > above, value, image)
    return image


def test_size_is_a_balls_radius_wherever_in_it_the_image_is_bright() -> None:
    small, large = (described(torch.ones(1, 1, SIDE, SIDE, SIDE), ball(radius))["size"] for radius in (6.0, 12.0))
    assert small == pytest.approx(math.log(6.0), abs=0.02)
    assert large == pytest.approx(math.log(12.0), abs=0.02)


def test_a_ball_is_regular_and_a_lobed_tumour_is_the_more_irregular_the_deeper_its_lobes() -> None:
    z, y, x = places()
    away = (z**2 + y**2 + x**2).sqrt()
    found = [
        described(torch.ones(1, 1, SIDE, SIDE, SIDE), (10 * (1 + lobes * torch.cos(5 * z / away)) - away)[None, None])
        for lobes in (0.0, 0.1, 0.2)
    ]
    regular, lobed, deeper = (one["irregularity"] for one in found)
    assert regular == pytest.approx(math.log(0.01), abs=0.1)  # the least
    assert regular + 1 < lobed < deeper


def test_a_scanners_gain_moves_nothing_but_the_surroundings_and_the_deviation() -> None:
    torch.manual_seed(0)
    image = 1 + torch.rand(1, 1, SIDE, SIDE, SIDE)
    once, twice = described(image, ball(9.0)), described(2 * image, ball(9.0))
    moved = {name: twice[name] - once[name] for name in DESCRIPTORS}
    expected = dict.fromkeys(DESCRIPTORS, 0.0) | dict.fromkeys(("surroundings", "heterogeneity"), math.log(2))
    assert moved == pytest.approx(expected, abs=1e-3)


def test_a_brighter_rim_shows_in_its_two_ratios_alone() -> None:
    distance = ball(10.0)
    even, rimmed = (described(rings(distance, 2.0, rim, 1.0, 1.0), distance) for rim in (2.0, 3.0))
    assert rimmed["core / rim"] < even["core / rim"] - 0.2
    assert rimmed["rim / surface"] > even["rim / surface"] + 0.2
    assert rimmed["surroundings"] == pytest.approx(even["surroundings"], abs=1e-2)
    assert rimmed["size"] == even["size"]


def test_heterogeneity_is_the_deviation_within_core_and_rim() -> None:
    torch.manual_seed(0)
    noise = torch.randn(1, 1, SIDE, SIDE, SIDE)
    for deviation in (0.1, 0.3):
        found = described(2 + deviation * noise, ball(12.0))["heterogeneity"]
        assert found == pytest.approx(math.log(deviation), abs=0.1)


def test_a_core_that_a_small_tumour_lacks_is_as_bright_as_its_rim() -> None:
    distance = ball(2.5)
    found = described(rings(distance, 9.0, 3.0, 2.0, 1.0), distance)
    assert found["core / rim"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("distance_mm", [FAR_INSIDE_MM, -FAR_INSIDE_MM, 0.0, 1e6])
@pytest.mark.parametrize("brightness", [0.0, 1.0, -1e6, 1e6])
def test_any_input_gives_finite_scores_and_gradients(distance_mm: float, brightness: float) -> None:
    scores = DescriptorScores(SPACING_MM, 4)
    with torch.no_grad():
        scores.linear.weight.fill_(1.0)
    volume = torch.full((2, 2, 4, 4, 4), brightness)
    volume[:, 1] = distance_mm
    volume.requires_grad_()
    found = scores(volume)
    assert found.shape == (2, 4)
    assert found.isfinite().all()
    found.sum().backward()
    assert volume.grad is not None
    assert volume.grad.isfinite().all()


def test_scores_start_at_zero() -> None:
    assert (DescriptorScores(SPACING_MM, 4)(torch.randn(3, 2, 6, 6, 6)) == 0).all()
