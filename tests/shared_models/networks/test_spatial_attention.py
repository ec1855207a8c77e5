import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from shared_models.networks.spatial_attention import SpatialAttention


def learned(scales: int, kernel: int = 7) -> SpatialAttention:
    attention = SpatialAttention(scales, kernel)
    for gate in attention.gates:
        gate.reset_parameters()
    return attention


sides = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2), st.lists(sides, min_size=1, max_size=3), st.floats(0.0, 1e6))
def test_weights_lie_between_0_and_1_on_the_finest_grid(
    rows: int, grids: list[tuple[int, int, int]], scale: float
) -> None:
    scales = [scale * torch.randn(rows, 2 + index, *grid) for index, grid in enumerate(grids)]
    weights = learned(len(grids))(scales)
    assert weights.shape == (rows, 1, *grids[0])
    assert ((weights >= 0) & (weights <= 1 + 1e-6)).all()


def test_a_weight_is_the_sigmoid_of_what_is_around_its_voxel() -> None:
    attention, maps = learned(1, kernel=3), torch.randn(1, 4, 5, 5, 5)
    around = maps[0, :, 1:4, 2:5, 0:3]
    summary = torch.stack([around.mean(dim=0), around.max(dim=0).values])
    gate = attention.gates[0]
    expected = ((summary * gate.weight[0]).sum() + gate.bias[0]).sigmoid()
    torch.testing.assert_close(attention([maps])[0, 0, 2, 3, 1], expected)


def test_scales_are_averaged_on_the_finest_grid() -> None:
    attention = learned(2)
    fine, coarse = torch.randn(2, 3, 4, 6, 8), torch.randn(2, 5, 2, 3, 4)
    one, other = SpatialAttention(1), SpatialAttention(1)
    one.gates[0].load_state_dict(attention.gates[0].state_dict())
    other.gates[0].load_state_dict(attention.gates[1].state_dict())
    brought = functional.interpolate(other([coarse]), size=(4, 6, 8), mode="trilinear")
    torch.testing.assert_close(attention([fine, coarse]), (one([fine]) + brought) / 2)


def test_every_scale_learns() -> None:
    attention = learned(3)
    scales = [torch.randn(2, 4, side, side, side, requires_grad=True) for side in (8, 4, 1)]
    attention(scales).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in attention.parameters())
    assert all(maps.grad.abs().sum() > 0 for maps in scales)


def test_attention_starts_at_one_half_everywhere() -> None:
    scales = [torch.rand(2, 4, side, side, side) for side in (8, 4, 1)]
    assert (SpatialAttention(3)(scales) == 0.5).all()


def test_even_maps_are_attended_to_evenly_but_for_where_they_end() -> None:
    weights = learned(1)([torch.ones(1, 3, 12, 12, 12)])[0, 0]
    inside = weights[3:-3, 3:-3, 3:-3]
    torch.testing.assert_close(inside, inside.mean().expand_as(inside))
    assert not torch.isclose(weights[0, 6, 6], inside.mean())  # the first slice is told from the middle
