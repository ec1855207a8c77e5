"""Histology as a folder of tiles a patient: the features of a ResNet-50, or the tiles themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.errors import SiteError
from client.paths import Instance, Pattern, inside_data_root, matching_files
from client.progress import progress
from client.tile_features import TileFeatures, read_tile
from shared_models.settings import Settings
from shared_models.task import Bag, Modality, Volume

if TYPE_CHECKING:
    from client.records import Records
    from client.site import SiteConfig


class TilesReader(Settings):
    """Histology: tiles as PNG, JPEG or TIFF files."""

    makes: ClassVar[tuple[type[Modality], ...]] = (Bag, Volume)

    reader: Literal["tiles"]
    tiles: Pattern = Field(description="the files of a patient's tiles, as `histology/{patient}/*.png`")
    weights: Path | None = Field(
        None, description="ResNet-50's weights, .safetensors or .pth, under data_root; needed for features"
    )

    def mapped(self) -> Volume:
        """One small tile: it is only read to see that it can be."""
        return Volume((3, 1, 16, 16), (1.0, 1.0, 1.0))

    def columns(self, kind: Modality) -> list[tuple[str, str]]:
        """None."""
        return []

    def files(self, site: SiteConfig) -> list[Path]:
        """The tiles and the weights."""
        found = [path for paths in matching_files(site, self.tiles, "tiles").values() for path in paths]
        return found + ([inside_data_root(site, self.weights, "weights")] if self.weights else [])

    def read(
        self, records: Records, name: str, kind: Bag | Volume, path: Path
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Bags `(R, T, 2048)` of features, or volumes `(R, 3, T, H, W)` of tiles, 0 where a patient has none.

        Raises:
            SiteError: If a tile or the weights cannot be used, tiles belong to no patient, or nobody has any.
        """
        found = matching_files(records.site, self.tiles, "tiles")
        self._check(records, found, name)
        volumes: NDArray[np.float16] = np.lib.format.open_memmap(path, "w+", np.float16, (len(records), *kind.shape))
        rows = [row for row, key in enumerate(records.keys) if self._key(key) in found]
        features = TileFeatures.of(records.site, self.weights, name) if isinstance(kind, Bag) and rows else None
        for row in progress(rows, f"reading {name}"):
            key = self._key(records.keys[row])
            if features is not None:
                volumes[row] = features.bag(_chosen(found[key], kind.shape[0], key))
            else:
                tiles = [read_tile(tile, kind.shape[2:]) for tile in _chosen(found[key], kind.shape[1], key)]
                volumes[row] = np.stack(tiles, axis=1)
        present = np.zeros(len(records), dtype=bool)
        present[rows] = True
        return volumes, present

    def _key(self, key: Instance) -> Instance:
        return key if "{instance}" in self.tiles else Instance(key.patient)

    def _check(self, records: Records, found: dict[Instance, list[Path]], name: str) -> None:
        strangers = [key for key in found if key.patient not in records.known]
        nobody = not any(self._key(key) in found for key in records.keys)
        if strangers or nobody:
            raise SiteError(
                what="tiles have no row in the site's table" if strangers else "no patient has tiles",
                where=f"modalities.{name}.tiles",
                found=f"tiles of {len(strangers)} patients without a row" if strangers else f"nothing at {self.tiles}",
                expected=f"a row in {records.row_table} for each" if strangers else "tiles of a patient",
                fix="add the rows, or correct the pattern",
                public="the site's images and tables do not fit together",
            )


def _chosen(tiles: Sequence[Path], count: int, key: Instance) -> list[Path]:
    """`count` of the tiles: a seeded choice of more, or fewer over again."""
    if len(tiles) > count:
        chosen = np.random.default_rng(crc32("/".join(key).encode())).choice(len(tiles), count, replace=False)
        return [tiles[index] for index in sorted(chosen)]
    return [tiles[index % len(tiles)] for index in range(count)]
