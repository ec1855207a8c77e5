import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from shared_models.networks.resnet import (
    RESNET_10,
    HalvingMaximum,
    ResidualBlock,
    ResNet,
    ResNetEncoder,
    SpaceToDepth,
    halvings,
)

sides = st.tuples(st.integers(1, 13), st.integers(1, 13), st.integers(1, 13))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2), st.integers(1, 3), sides, st.integers(0, 2))
def test_a_volume_of_any_size_becomes_maps_of_half_the_resolution_each(
    rows: int, channels: int, shape: tuple[int, int, int], stem_halvings: int
) -> None:
    widths = (16, 24, 32)
    scales = ResNet(channels, widths, stem_halvings)(torch.randn(rows, channels, *shape))
    for index, (maps, width) in enumerate(zip(scales, widths, strict=True)):
        factor = 2 ** (stem_halvings + index)
        assert maps.shape == (rows, width, *(-(-size // factor) for size in shape))
        assert maps.isfinite().all()


@pytest.mark.parametrize(("before", "after"), [(8, 8), (8, 16)])
def test_a_block_is_its_formula(before: int, after: int) -> None:
    block, maps = ResidualBlock(before, after), torch.randn(2, before, 4, 5, 6)
    first, norm, _, second, last = block.residual
    nn.init.normal_(last.weight)
    groups = 8
    hidden = functional.group_norm(functional.conv3d(maps, first.weight, padding=1), groups, norm.weight, norm.bias)
    residual = functional.group_norm(
        functional.conv3d(functional.relu(hidden), second.weight, padding=1), groups, last.weight, last.bias
    )
    kept = maps
    if before != after:
        project, scale = block.shortcut
        kept = functional.group_norm(functional.conv3d(maps, project.weight), groups, scale.weight, scale.bias)
    torch.testing.assert_close(block(maps), functional.relu(kept + residual))


def test_a_block_starts_as_its_shortcut() -> None:
    maps = torch.randn(2, 16, 3, 3, 3)
    torch.testing.assert_close(ResidualBlock(16, 16)(maps), maps.relu())


def test_space_becomes_depth_without_loss() -> None:
    volume = torch.arange(2 * 3 * 4 * 6 * 2, dtype=torch.float32).view(2, 3, 4, 6, 2)
    blocks = SpaceToDepth()(volume)
    assert blocks.shape == (2, 24, 2, 3, 1)
    for channel in range(3):
        expected = volume[:, channel, 2:4, 4:6, 0:2].flatten(start_dim=1)
        torch.testing.assert_close(blocks[:, 8 * channel : 8 * channel + 8, 1, 2, 0], expected)


def test_a_convolution_of_space_moved_to_depth_is_a_strided_one() -> None:
    strided, volume = nn.Conv3d(2, 5, 2, stride=2), torch.randn(2, 2, 6, 4, 8)
    dense = nn.Conv3d(16, 5, 1)
    with torch.no_grad():
        dense.weight.copy_(strided.weight.reshape(5, 16, 1, 1, 1))
        dense.bias.copy_(strided.bias)
    torch.testing.assert_close(dense(SpaceToDepth()(volume)), strided(volume))


def test_an_odd_edge_is_repeated_and_an_odd_block_keeps_its_maximum() -> None:
    volume = torch.arange(27.0).view(1, 1, 3, 3, 3)
    assert set(SpaceToDepth()(volume)[0, :, 1, 1, 1].tolist()) == {26.0}
    assert HalvingMaximum()(volume).flatten().tolist() == [13.0, 14.0, 16.0, 17.0, 22.0, 23.0, 25.0, 26.0]


@pytest.mark.parametrize(
    ("spacing_mm", "grid_mm", "expected"),
    [((1, 1, 1), 4, 2), ((2, 2, 2), 4, 1), ((4, 4, 4), 4, 0), ((8, 8, 8), 4, 0), ((1, 1, 1), 2, 1), ((2, 1, 1), 4, 2)],
)
def test_the_first_stage_works_on_about_the_same_grid_whatever_the_voxels(
    spacing_mm: tuple[float, ...], grid_mm: float, expected: int
) -> None:
    assert halvings(spacing_mm, grid_mm) == expected


def test_patients_do_not_mix() -> None:
    encoder = ResNetEncoder(ResNet(2, stem_halvings=1), 4).train()
    volumes = torch.randn(3, 2, 8, 12, 12)
    torch.testing.assert_close(encoder(volumes)[:1], encoder(volumes[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_a_volume_without_contrast_is_no_division_by_zero(value: float) -> None:
    encoder = ResNetEncoder(ResNet(2, RESNET_10, stem_halvings=2), 4)
    encoded = encoder(torch.full((2, 2, 8, 12, 12), value))
    encoded.sum().backward()
    assert encoded.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
