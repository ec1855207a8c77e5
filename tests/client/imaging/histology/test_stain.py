import numpy as np
import pytest

from client.imaging.histology.stain import LIGHT, REFERENCE, REFERENCE_MAX, macenko

PIXELS = 64


def colours(*columns):
    stains = np.array(columns, dtype=float).T
    return stains / np.linalg.norm(stains, axis=0)


# Haematoxylin and eosin of two laboratories: Ruifrok 2001, and a redder, paler one.
LABORATORIES = (colours((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)), colours((0.55, 0.75, 0.40), (0.25, 0.85, 0.45)))


def rendered(amounts, stains):
    """A tile `(3, H, W)` of amounts `(2, H * W)` in stains `(3, 2)`."""
    return np.clip((LIGHT * np.exp(-stains @ amounts) - 1) / 255, 0, 1).reshape(3, PIXELS, PIXELS).astype(np.float32)


def tissue(seed, varies):
    """Amounts that vary more in how much stain there is, or more in which of the two."""
    draw = np.random.default_rng(seed)
    count = PIXELS * PIXELS
    if varies == "amount":
        return np.stack([draw.gamma(2, 0.4, count) * (draw.random(count) < 0.4), draw.gamma(3, 0.2, count)])
    share = np.where(draw.random(count) < 0.5, draw.beta(1, 8, count), draw.beta(8, 1, count))
    return np.stack([share, 1 - share]) * draw.normal(1.2, 0.03, count)


def grey_levels(a, b):
    return 255 * float(np.abs(a - b).mean())


@pytest.mark.parametrize("varies", ["amount", "colour"])
@pytest.mark.parametrize("seed", range(3))
def test_two_laboratories_come_closer_and_near_the_reference(varies, seed):
    amounts = tissue(seed, varies)
    first, second = rendered(amounts, LABORATORIES[0]), rendered(amounts, LABORATORIES[1] * [0.7, 1.3])
    normalised = [macenko(tile) for tile in (first, second)]
    assert grey_levels(first, second) > 25
    assert grey_levels(*normalised) < 9
    truth = rendered(amounts * (REFERENCE_MAX / np.percentile(amounts, 99, axis=1))[:, None], REFERENCE)
    for tile in normalised:
        assert tile.dtype == np.float32
        assert 0 <= tile.min() <= tile.max() <= 1
        assert grey_levels(tile, truth) < 11


def test_monais_transform_would_exchange_the_stains():
    from monai.apps.pathology.transforms.stain.array import NormalizeHEStains

    amounts = tissue(0, "amount")
    tile = rendered(amounts, LABORATORIES[1])
    truth = rendered(amounts * (REFERENCE_MAX / np.percentile(amounts, 99, axis=1))[:, None], REFERENCE)
    theirs = NormalizeHEStains()(np.round(255 * tile.transpose(1, 2, 0)).astype(np.uint8)).transpose(2, 0, 1) / 255
    assert grey_levels(macenko(tile), truth) < 3
    assert grey_levels(theirs, truth) > 20


def test_a_normalised_tile_stays_as_it_is():
    once = macenko(rendered(tissue(0, "colour"), LABORATORIES[1]))
    assert grey_levels(macenko(once), once) < 2


@pytest.mark.parametrize(
    "tile",
    [
        np.ones((3, 8, 8)),
        np.zeros((3, 8, 8)),
        np.full((3, 8, 8), 0.4) * np.array([1, 0.5, 1.2])[:, None, None],
        rendered(tissue(0, "amount") * [[1], [0]], LABORATORIES[0]),
        np.where(np.arange(4096).reshape(1, 64, 64) < 20, 0.3, 1).repeat(3, axis=0),
        np.full((3, 1, 1), 0.3),
    ],
    ids=["white", "black", "one-colour", "one-stain", "a-speck", "one-pixel"],
)
def test_a_tile_without_two_stains_stays(tile):
    tile = tile.astype(np.float32)
    np.testing.assert_array_equal(macenko(tile), tile)
