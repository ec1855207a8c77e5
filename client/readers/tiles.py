"""Reader of histology tiles, a folder a patient: ResNet-50 features, or the tiles themselves."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cache.store import Job, make_artefacts
from client.contract.paths import Instance, Pattern, inside_data_root, matching_files
from client.errors import ExitCode, SiteError
from client.imaging.exams import PUBLIC
from client.imaging.histology.tile_features import (
    SEEDED,
    Stain,
    load_resnet50,
    seeded_network,
    tile_features,
    tile_sizes,
    tile_volume,
)
from client.readers.modality_data import ModalityData, rows_of
from shared_models.settings import Settings
from shared_models.task import Bag, Modality, Volume

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site

VERSION = 1  # raise it when the same tiles become another tensor


class TilesReader(Settings):
    """Histology: tiles as PNG, JPEG or TIFF files."""

    supported_kinds: ClassVar[tuple[type[Modality], ...]] = (Bag, Volume)

    reader: Literal["tiles"] = Field(description="chooses this reader")
    tiles: Pattern = Field(description="the files of a patient's tiles, as `histology/{patient}/*.png`")
    weights: Path | None = Field(
        None,
        description="ResNet-50's weights, .safetensors or .pth, under data_root; needed for features, unless the study "
        "takes a network with random weights",
    )

    stain: Stain = Field(
        "none",
        description="`macenko` normalises every tile's haematoxylin and eosin to one reference; the same at all sites "
        "of a study",
    )

    def preview_kind(self) -> Volume:
        """One small tile: it is only read to see that it can be."""
        return Volume((3, 1, 16, 16), (1.0, 1.0, 1.0))

    def columns(self, kind: Modality) -> list[tuple[str, str]]:
        """None."""
        return []

    def files(self, site: Site) -> list[Path]:
        """The tiles and the weights."""
        tiles = [path for paths in matching_files(site, self.tiles, "tiles").values() for path in paths]
        return tiles + ([inside_data_root(site, self.weights, "weights")] if self.weights else [])

    def read(self, rows: Rows, name: str, kind: Bag | Volume, exams: object) -> ModalityData:
        """Bags `(R, T, 2048)` of features, or volumes `(R, 3, T, H, W)` of tiles, 0 where a patient has none.

        Raises:
            SiteError: If the weights cannot be used, or nobody has tiles.
        """
        tiles_of = matching_files(rows.site, self.tiles, "tiles")
        strangers = self._strangers(rows, tiles_of, name)
        make, digest = self._maker(rows.site, name, kind)
        recipe, sizes = f"tiles {VERSION}\n{kind!r}\n{self.stain}\n{digest}", f"tile sizes {VERSION}"
        jobs = {}
        for row, key in enumerate(rows.keys):
            if tiles := tiles_of.get(self._key(key)):
                chosen = _chosen(tiles, kind, key)
                jobs[row] = Job(chosen, {recipe: make, sizes: tile_sizes})
        made = dict(make_artefacts(rows.site, jobs, f"reading {name}"))
        read = rows_of({row: one[recipe] for row, one in made.items()}, (len(rows), *kind.shape), strangers)
        measured = {rows.keys[row].patient: one[sizes] for row, one in made.items() if read.present[row]}
        return replace(read, warnings=[*read.warnings, *_odd_sizes(name, measured)])

    def _key(self, key: Instance) -> Instance:
        return key if "{instance}" in self.tiles else Instance(key.patient)

    def _maker(
        self, site: Site, name: str, kind: Bag | Volume
    ) -> tuple[Callable[[Sequence[Path]], NDArray[np.float16]], str]:
        """What makes the tensor of a patient's tiles, and a digest of the weights that it needs."""
        if isinstance(kind, Volume):
            return functools.partial(tile_volume, size=kind.shape[2:], stain=self.stain), ""
        if kind.network != "file":
            return functools.partial(
                tile_features, network=seeded_network, stain=self.stain
            ), f"{kind.network} {SEEDED}"
        if self.weights is None:
            raise SiteError(
                what="the study needs features of tiles, and the site has no network for them",
                where=f"modalities.{name}.weights",
                found="nothing",
                expected="a file with ResNet-50's weights",
                fix="ask the center for the file of weights and put it under data_root; a trial without: tile-network",
                public="the site's settings do not fit the study",
                exit_code=ExitCode.STUDY,
            )
        path = inside_data_root(site, self.weights, f"modalities.{name}.weights")
        load_resnet50(path)  # so that a wrong file is the site's error, and not each patient's
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        _require_same(path, digest, kind, name)
        make = functools.partial(tile_features, network=functools.partial(load_resnet50, path), stain=self.stain)
        return make, digest

    def _strangers(self, rows: Rows, tiles_of: dict[Instance, list[Path]], name: str) -> list[str]:
        strangers = [key for key in tiles_of if key.patient not in rows.known]
        if not any(self._key(key) in tiles_of for key in rows.keys):
            raise SiteError(
                what="no patient has tiles",
                where=f"modalities.{name}.tiles",
                found=f"tiles of {len(strangers)} patients without a row" if strangers else f"nothing at {self.tiles}",
                expected=f"tiles of a patient in {rows.row_table}",
                fix="correct the pattern, or leave the modality out",
                public=PUBLIC,
            )
        unused = f"modalities.{name}: tiles of {len(strangers)} patients without a row in {rows.row_table} not used"
        return [unused] if strangers else []


def _odd_sizes(name: str, measured: Mapping[str, Path | SiteError]) -> list[str]:
    """A warning of tiles whose size is not that of most: a network sees another magnification in them.

    Args:
        name: The modality's.
        measured: The file of each patient's tile sizes.
    """
    files = {patient: file for patient, file in measured.items() if isinstance(file, Path)}
    sizes = {
        patient: {tuple(size) for size in np.load(file, allow_pickle=False).tolist()} for patient, file in files.items()
    }
    (usual, _), *others = Counter(size for own in sizes.values() for size in own).most_common() or [((), 0)]
    odd = sum(own != {usual} for own in sizes.values())
    if not others:
        return []
    height, width = usual
    text = (
        f"{name}: {odd} of {len(sizes)} patients have tiles of another size than {height} x {width} pixels, the usual"
    )
    return [f"{text}; check that they were cut at the same magnification"]


def _chosen(tiles: Sequence[Path], kind: Bag | Volume, key: Instance) -> tuple[Path, ...]:
    """As many of the tiles as the study wants: a seeded choice of more, or fewer over again."""
    count = kind.shape[0] if isinstance(kind, Bag) else kind.shape[1]
    if len(tiles) > count:
        chosen = np.random.default_rng(crc32("/".join(key).encode())).choice(len(tiles), count, replace=False)
        return tuple(tiles[index] for index in sorted(chosen))
    return tuple(tiles[index % len(tiles)] for index in range(count))


def _require_same(path: Path, digest: str, kind: Bag, name: str) -> None:
    """Refuses weights that are not those of all sites: features of two networks have nothing in common.

    Raises:
        SiteError: If so.
    """
    if kind.weights_sha256 in ("", digest):
        return
    raise SiteError(
        what="the weights of the tiles' network are not those of the study",
        where=f"modalities.{name}.weights: {path.name}",
        found=f"SHA-256 {digest}",
        expected=f"tile-weights-sha256 {kind.weights_sha256}, as at all other sites",
        fix="ask the center for the file",
        public="the site's weights for tiles are not those of the study",
        exit_code=ExitCode.STUDY,
    )
