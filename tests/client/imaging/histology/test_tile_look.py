"""Tiles that are no tissue in its own colours, and tiles of one patient beside another's."""

import io

import numpy as np
import pytest

from client.imaging.histology.tile_comparison import compared_tiles
from client.imaging.histology.tile_look import tile_look, tile_remarks

SIDE = 96
STAINS = np.array([[0.55, 0.75, 0.40], [0.25, 0.85, 0.45]])  # haematoxylin, eosin: a pale, red laboratory


def tissue(seed, nuclei=25):
    """A tile `(H, W, 3)`: grains of eosin, and discs of haematoxylin."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    places = draw.uniform(0, SIDE, (nuclei, 2))
    inside = np.any([(y - row) ** 2 + (x - column) ** 2 < 16 for row, column in places], axis=0)
    amounts = np.stack([inside * draw.normal(1.4, 0.2, (SIDE, SIDE)), draw.gamma(8, 0.05, (SIDE, SIDE))], axis=-1)
    return np.clip(240 * np.exp(-amounts @ STAINS), 0, 255).astype(np.uint8)


def compressed(pixels):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=4)
    return np.asarray(Image.open(file))


def enlarged(pixels):
    from PIL import Image

    return np.asarray(Image.fromarray(pixels[:16, :16]).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def brown(pixels):
    """Diaminobenzidine in place of both stains: Ruifrok and Johnston 2001."""
    amount = -np.log((pixels.astype(float) + 1) / 256).mean(axis=2, keepdims=True)
    return (255 * np.exp(-amount * 2 * np.array([0.27, 0.57, 0.78]))).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (lambda a: np.zeros_like(a), "black"),
        (lambda a: np.full_like(a, 245), "glass"),
        (lambda a: a.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2), "no colours"),
        (lambda a: 255 - a, "green"),
        (lambda a: a[..., ::-1], "exchanged"),
        (brown, "another stain"),
        (enlarged, "blurred"),
        (compressed, "JPEG"),
    ],
)
def test_tiles_that_are_no_tissue_in_its_own_colours(change, remark):
    assert tile_remarks([tile_look(tissue(seed)) for seed in range(4)]) == []
    (text,) = tile_remarks([tile_look(np.ascontiguousarray(change(tissue(seed)))) for seed in range(4)])
    assert remark in text


def test_a_stroma_without_nuclei_and_a_crowd_of_them_are_tissue():
    assert tile_remarks([tile_look(tissue(seed, nuclei=count)) for seed, count in enumerate((1, 2, 200, 400))]) == []


def test_tiles_of_patients_beside_each_other():
    looks = {row: [tile_look(tissue(10 * row + number)) for number in range(3)] for row in range(6)}
    patients = [f"p{row}" for row in range(6)]
    assert not any(compared_tiles(looks, patients, 3).values())
    pale = [tile_look((255 * (tissue(50 + number) / 255.0) ** 0.3).astype(np.uint8)) for number in range(3)]
    spoiled = {**looks, 1: [*looks[1][:2], looks[4][0]], 2: looks[2][:1] * 3, 3: looks[3][:1], 5: pale}
    remarks = compared_tiles(spoiled, patients, 12)
    assert remarks[0] == []
    for row, part in (
        (1, "another patient's"),
        (4, "another patient's"),
        (2, "same image"),
        (3, "quarter"),
        (5, "light"),
    ):
        assert any(part in text for text in remarks[row]), (row, remarks[row])
