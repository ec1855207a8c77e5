import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from shared_models.networks.resnet import ResidualBlock, ResNet, Stem, halvings

sides = st.tuples(st.integers(1, 13), st.integers(1, 13), st.integers(1, 13))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2), st.integers(2, 4), sides, st.integers(1, 2), st.booleans())
def test_a_volume_of_any_size_becomes_maps_of_half_the_resolution_each(
    rows: int, channels: int, shape: tuple[int, int, int], stem_halvings: int, distance: bool
) -> None:
    widths = (16, 24, 32)
    network = ResNet(channels, distance, widths, stem_halvings)
    scales = network(torch.randn(rows, channels, *shape))
    stem, stages = scales[: 1 + distance], scales[1 + distance :]
    assert [maps.shape for maps in stem] == [(rows, width, *shape) for width in network.stem_widths]
    for index, (maps, width) in enumerate(zip(stages, widths, strict=True)):
        factor = 2 ** (stem_halvings + index)
        assert maps.shape == (rows, width, *(-(-size // factor) for size in shape))
    assert all(maps.isfinite().all() for maps in scales)


@pytest.mark.parametrize(("before", "after"), [(8, 8), (8, 16)])
def test_a_block_is_its_formula(before: int, after: int) -> None:
    block, maps = ResidualBlock(before, after), torch.randn(2, before, 4, 5, 6)
    (wide, wide_norm), (point, point_norm) = block.residual, block.shortcut
    residual = functional.group_norm(functional.conv3d(maps, wide.weight, padding=1), 8, *wide_norm.parameters())
    shortcut = functional.group_norm(functional.conv3d(maps, point.weight), 8, *point_norm.parameters())
    torch.testing.assert_close(block(maps), (shortcut + residual).relu())


@pytest.mark.parametrize(
    ("spacing_mm", "grid_mm", "expected"),
    [((1, 1, 1), 4, 2), ((2, 2, 2), 4, 1), ((4, 4, 4), 4, 1), ((8, 8, 8), 4, 1), ((1, 1, 1), 2, 1), ((2, 1, 1), 4, 2)],
)
def test_the_first_stage_works_on_about_the_same_grid_whatever_the_voxels(
    spacing_mm: tuple[float, ...], grid_mm: float, expected: int
) -> None:
    assert halvings(spacing_mm, grid_mm) == expected


def test_the_stem_keeps_how_bright_an_image_is_and_image_and_distance_apart() -> None:
    stem, volume = Stem(2, distance=True), torch.rand(1, 2, 6, 6, 6)
    image, distance = stem(volume)
    brighter, nearer = volume.clone(), volume.clone()
    brighter[:, 0] *= 2
    nearer[:, 1] -= 20.0
    assert not torch.allclose(stem(brighter)[0].mean((2, 3, 4)), image.mean((2, 3, 4)), rtol=0.05)
    torch.testing.assert_close(stem(brighter)[1], distance)
    torch.testing.assert_close(stem(nearer)[0], image)
    assert not torch.allclose(stem(nearer)[1], distance)


def test_a_distance_beyond_the_field_counts_as_its_edge() -> None:
    stem, volume = Stem(2, distance=True), torch.rand(1, 2, 4, 4, 4)
    volume[:, 1] = 1e6
    far = stem(volume)[1]
    volume[:, 1] = 30.0
    torch.testing.assert_close(stem(volume)[1], far)
