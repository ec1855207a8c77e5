import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared_models.networks.tiles import MeanOfTokens, RawTiles, TileFeatures, standardise_colours

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


def test_no_kernel_reaches_another_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, tiles = RawTiles(3, 8), torch.randn(1, 3, 5, 16, 16)
    changed = tiles.clone()
    changed[:, :, 2] = torch.randn(1, 3, 16, 16)
    # The norms and the colours alone know the other tiles, of this patient only.
    monkeypatch.setattr(
        "shared_models.networks.tiles.standardise_colours", lambda tiles: (tiles, tiles.new_zeros(1, 6))
    )
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


def test_another_stain_of_all_tiles_shows_in_the_colours_alone() -> None:
    tiles = torch.rand(2, 3, 4, 8, 8)
    gain, offset = torch.tensor([0.5, 0.8, 0.6]).view(3, 1, 1, 1), torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1, 1)
    plain, colours = standardise_colours(tiles)
    stained, other = standardise_colours(gain * tiles + offset)
    torch.testing.assert_close(stained, plain, rtol=1e-4, atol=1e-4)
    assert (other - colours).abs().min() > 0.1
    one, _ = standardise_colours(tiles[:1])
    torch.testing.assert_close(one, plain[:1])


def test_a_pale_tile_stays_pale_beside_the_patients_others() -> None:
    tiles = torch.rand(1, 3, 4, 8, 8)
    tiles[:, :, 2] += 0.5
    means = standardise_colours(tiles)[0].mean(dim=(3, 4))[0]
    assert (means[:, 2] > means[:, [0, 1, 3]].amax(dim=1) + 1).all()
