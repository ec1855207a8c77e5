import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from shared_models.modalities import FAR_INSIDE_MM
from shared_models.networks.tumour_regions import (
    masked_means,
    tumour_regions,
)

FIELD_MM = 40.0


def ball(radius_mm: float, spacing_mm: float) -> Tensor:
    """`(1, 1, S, S, S)` signed distance in mm to the surface of a ball in the middle of the field."""
    steps = torch.arange(round(FIELD_MM / spacing_mm)) * spacing_mm + (spacing_mm - FIELD_MM) / 2
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    return (radius_mm - (z**2 + y**2 + x**2).sqrt())[None, None]


def volume_mm3(radius_mm: float) -> float:
    return 4 / 3 * math.pi * max(radius_mm, 0.0) ** 3


@settings(max_examples=20, deadline=None)
@given(st.floats(4.0, 12.0), st.sampled_from([1.0, 2.0]))
def test_a_balls_regions_have_their_volumes(radius_mm: float, spacing_mm: float) -> None:
    regions = tumour_regions(ball(radius_mm, spacing_mm), (spacing_mm,) * 3)
    volumes_mm3 = regions.sum(dim=(0, 2, 3, 4)) * spacing_mm**3
    core, rim, around = (volume_mm3(radius_mm + more) for more in (-2.5, 2.5, 6.5))
    expected = torch.tensor([core, rim - core, around - rim])
    torch.testing.assert_close(volumes_mm3, expected, rtol=0.03, atol=25.0)


@pytest.mark.parametrize(
    ("distance_mm", "expected"),
    [
        (3.1, [1, 0, 0]),
        (1.9, [0, 1, 0]),
        (-1.9, [0, 1, 0]),
        (-3.1, [0, 0, 1]),
        (-5.9, [0, 0, 1]),
        (-7.1, [0, 0, 0]),
        (2.5, [0.5, 0.5, 0]),
        (FAR_INSIDE_MM, [1, 0, 0]),
        (1e6, [1, 0, 0]),
        (-1e6, [0, 0, 0]),
    ],
)
def test_a_voxel_belongs_to_its_region(distance_mm: float, expected: list[float]) -> None:
    regions = tumour_regions(torch.full((1, 1, 1, 1, 1), distance_mm), (1.0, 1.0, 1.0))
    torch.testing.assert_close(regions.flatten(), torch.tensor(expected, dtype=torch.float32))


@settings(max_examples=25, deadline=None)
@given(st.floats(-30.0, 30.0), st.floats(0.5, 16.0))
def test_regions_share_a_voxel_at_most_once(distance_mm: float, spacing_mm: float) -> None:
    regions = tumour_regions(torch.full((1, 1, 2, 2, 2), distance_mm), (spacing_mm,) * 3)
    assert (regions >= 0).all()
    assert (regions.sum(dim=1) <= 1 + 1e-6).all()


def test_means_are_those_of_the_maps_on_the_fine_grid() -> None:
    maps, regions = torch.randn(2, 5, 2, 3, 4), torch.rand(2, 3, 4, 6, 8)
    attention = torch.rand(2, 1, 4, 6, 8)
    fine = functional.interpolate(maps, scale_factor=2, mode="nearest")
    means = masked_means(maps, regions, attention)
    for row in range(2):
        for region in range(3):
            weight = regions[row, region]
            expected = (fine[row] * attention[row] * weight).sum(dim=(1, 2, 3)) / weight.sum()
            torch.testing.assert_close(means[row, region], expected)


def test_an_empty_region_is_0_and_does_not_touch_the_others() -> None:
    maps, regions = torch.randn(1, 4, 4, 4, 4, requires_grad=True), torch.ones(1, 3, 4, 4, 4)
    regions[:, 1] = 0.0
    attention = torch.rand(1, 1, 4, 4, 4, requires_grad=True)
    means = masked_means(maps, regions, attention)
    assert (means[:, 1] == 0).all()
    torch.testing.assert_close(means[:, 0], (maps * attention).mean(dim=(2, 3, 4)))
    means.sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert attention.grad is not None
    assert attention.grad.isfinite().all()


def test_a_uniform_map_keeps_its_value_in_every_region_of_a_ball() -> None:
    regions = tumour_regions(ball(8.0, 1.0), (1.0, 1.0, 1.0))
    for side in (10, 5, 3):
        means = masked_means(torch.full((1, 2, side, side, side), 7.0), regions, torch.ones(1, 1, 1, 1, 1))
        torch.testing.assert_close(means, torch.full((1, 3, 2), 7.0), rtol=1e-4, atol=0.0)


def test_what_lies_in_a_region_moves_its_mean_alone() -> None:
    distance = ball(8.0, 1.0)
    regions, attention = tumour_regions(distance, (1.0, 1.0, 1.0)), torch.ones(1, 1, 40, 40, 40)
    core, rim, around = masked_means((distance.abs() < 1.5).float(), regions, attention)[0, :, 0].tolist()
    assert rim > 0.4
    assert core == around == 0.0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 12))
def test_any_sizes_go_through(rows: int, side: int, fine: int) -> None:
    regions = torch.rand(rows, 3, side + fine, side, side)
    means = masked_means(torch.randn(rows, 2, side, side, side), regions, torch.rand(rows, 1, 1, 1, 1))
    assert means.shape == (rows, 3, 2)
    assert means.isfinite().all()
