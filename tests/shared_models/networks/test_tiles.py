import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared_models.networks.tiles import MeanOfTokens, RawTiles, TileFeatures

sizes = st.integers(1, 7)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), sizes, st.integers(2, 9), sizes)
def test_features_become_a_token_a_tile(rows: int, tiles: int, width: int, outputs: int) -> None:
    assert TileFeatures(width, outputs)(torch.randn(rows, tiles, width)).shape == (rows, tiles, outputs)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), sizes, st.tuples(st.integers(8, 17), st.integers(8, 17)), sizes)
def test_pixels_become_a_token_a_tile(rows: int, tiles: int, size: tuple[int, int], outputs: int) -> None:
    tokens = RawTiles(3, outputs)(torch.randn(rows, 3, tiles, *size))
    assert tokens.shape == (rows, tiles, outputs)
    assert tokens.isfinite().all()


def test_no_kernel_reaches_another_tile() -> None:
    layer, tiles = RawTiles(3, 8), torch.randn(1, 3, 5, 16, 16)
    changed = tiles.clone()
    changed[:, :, 2] = torch.randn(1, 3, 16, 16)
    # The norms alone know the other tiles, of this patient only.
    for module in layer.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda maps: maps  # type: ignore[method-assign]
    same = torch.isclose(layer(changed), layer(tiles), rtol=1e-4, atol=1e-6).all(dim=2)[0]
    assert same.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("layer", [RawTiles(3, 8), TileFeatures(3, 8)])
def test_the_mean_over_tiles_does_not_know_their_order(layer: nn.Module) -> None:
    bag = isinstance(layer, TileFeatures)
    tiles = torch.randn(2, 6, 3) if bag else torch.randn(2, 3, 6, 16, 16)
    mean = MeanOfTokens()
    turned = tiles.flip(1 if bag else 2)
    torch.testing.assert_close(mean(layer(turned)), mean(layer(tiles)), rtol=1e-4, atol=1e-5)


def test_patients_do_not_mix() -> None:
    layer, tiles = RawTiles(3, 8).train(), torch.randn(3, 3, 4, 16, 16)
    torch.testing.assert_close(layer(tiles)[:1], layer(tiles[:1]), rtol=1e-4, atol=1e-5)
