"""Comparison of the tiles of a site's patients: copies, and colours that are far from all others'."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from client.imaging.histology.tile_look import TileLook, tile_remarks
from client.imaging.odd_one import odd_ones

MIN_PATIENTS = 5  # of whom one can be told from the others
PALE_OR_DARK = 0.7  # logarithm of how much more or less is absorbed: twice, or half
DEVIATIONS = 5.0  # of the other patients, beyond which that is none of them
OF_NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
ANOTHERS = "a tile is another patient's, too; check the identifiers, and delete one of the two"
TWICE = "tiles are the same image; check how they were cut"
ODD_SIZE = "tiles of another size than {} x {} pixels, the usual; check that they were cut at the same magnification"
FEW_SHARE = 0.25
FEW = "fewer tiles than a quarter of those that the study takes, which repeats them; cut more"
SHARPER = 1.4  # factor
UNLIKE_GRAIN = "tiles are far smoother or rougher than the site's others; check that their magnification is the same"
UNLIKE = (
    "tiles absorb far more or less light than the site's others; check the stain, the scanner and how they were cut"
)


def compared_tiles(
    looks: Mapping[int, Sequence[TileLook]], patients: Sequence[str], wanted: int
) -> dict[int, list[str]]:
    """What looks wrong in each row's tiles, by themselves and beside the other rows'.

    Args:
        looks: Of each row's tiles, each tile once.
        patients: Of the R rows.
        wanted: How many tiles of a patient the study takes.
    """
    owners: dict[float, set[str]] = defaultdict(set)
    for row, tiles in looks.items():
        for look in tiles:
            owners[look.digest].add(patients[row])
    sizes = Counter((int(look.rows), int(look.columns)) for tiles in looks.values() for look in tiles)
    usual = max(sizes, key=lambda size: sizes[size], default=(0, 0))
    unlike, grains = _unlike_others(looks), {row: _sharpness(tiles) for row, tiles in looks.items()}
    rough = odd_ones(grains, SHARPER)
    return {
        row: [
            *(_first(tiles, owners) or [UNLIKE] * (row in unlike) or [UNLIKE_GRAIN] * (row in rough)),
            *[ODD_SIZE.format(*usual)] * any((look.rows, look.columns) != usual for look in tiles),
            *[FEW] * (len(tiles) < FEW_SHARE * wanted),
        ]
        for row, tiles in looks.items()
    }


def _first(tiles: Sequence[TileLook], owners: Mapping[float, set[str]]) -> list[str]:
    digests = Counter(look.digest for look in tiles if look.digest)
    if any(len(owners[digest]) > 1 for digest in digests):
        return [ANOTHERS]
    return [TWICE] if max(digests.values(), default=1) > 1 else tile_remarks(tiles)


def _sharpness(tiles: Sequence[TileLook]) -> float:
    """Of a patient's tiles, 0 where they are too small to tell."""
    known = [look.sharpness for look in tiles if not np.isnan(look.sharpness)]
    return float(np.median(known)) if known else 0.0


def _unlike_others(looks: Mapping[int, Sequence[TileLook]]) -> set[int]:
    """Rows whose tissue absorbs at least twice or half of what the others' does, and beyond their spread."""
    absorbed = {row: np.median([sum(look.absorbed) for look in tiles]) for row, tiles in looks.items()}
    known = {row: float(np.log(value)) for row, value in absorbed.items() if value > 0}
    unlike = set()
    for row, value in known.items():
        others = np.array([other for its, other in known.items() if its != row])
        if len(others) < MIN_PATIENTS - 1:
            continue
        middle = float(np.median(others))
        spread = OF_NORMAL * float(np.median(np.abs(others - middle)))
        if abs(value - middle) > max(PALE_OR_DARK, DEVIATIONS * spread):
            unlike.add(row)
    return unlike
