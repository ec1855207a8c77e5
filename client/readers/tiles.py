"""Reader of histology tiles, a folder a patient: ResNet-50 features, or the tiles themselves."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cache.store import Job, Stored, make_artefacts
from client.contract.paths import Instance, Pattern, inside_data_root, matching_files
from client.errors import ExitCode, SiteError
from client.imaging.exam_comparison import remark_warnings
from client.imaging.exam_facts import ExamFacts
from client.imaging.exams import PUBLIC
from client.imaging.histology.tile_comparison import compared_tiles
from client.imaging.histology.tile_features import (
    SEEDED,
    Stain,
    load_resnet50,
    seeded_network,
    tile_features,
    tile_volume,
)
from client.imaging.histology.tile_look import TileLook
from client.readers.modality_data import ModalityData, rows_of
from shared_models.settings import Settings
from shared_models.task import Bag, Modality, Volume

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site

VERSION = 1  # raise it when the same tiles become another tensor
LOOK_VERSION = 2  # raise it when the same tiles look otherwise
LOOKED = 4  # tiles of a patient that are read without a study

TensorAndLooks = tuple[NDArray[np.float16], NDArray[np.float64]]


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
        """A few tiles, small: they are only read to see that they can be, and how they look."""
        return Volume((3, LOOKED, 16, 16), (1.0, 1.0, 1.0))

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
        recipe = f"tiles {VERSION}\n{kind!r}\n{self.stain}\n{digest}"
        looks = f"looks {LOOK_VERSION} of {recipe}"
        jobs = {}
        for row, key in enumerate(rows.keys):
            if tiles := tiles_of.get(self._key(key)):
                chosen = _chosen(tiles, kind, key)
                parts = {recipe: operator.itemgetter(0), looks: operator.itemgetter(1)}
                jobs[row] = Job(chosen, parts, functools.partial(_made, make, chosen))
        made = dict(make_artefacts(rows.site, jobs, f"reading {name}"))
        read = rows_of({row: one[recipe] for row, one in made.items()}, (len(rows), *kind.shape), strangers)
        looks_of = {row: file for row, one in made.items() if isinstance(file := one[looks], Path)}
        facts = _facts(looks_of, [key.patient for key in rows.keys], _count(kind))
        remarks = remark_warnings(f"modalities.{name}", facts.values(), "patient")
        return replace(read, warnings=[*read.warnings, *remarks], facts=facts)

    def _key(self, key: Instance) -> Instance:
        return key if "{instance}" in self.tiles else Instance(key.patient)

    def _maker(
        self, site: Site, name: str, kind: Bag | Volume
    ) -> tuple[Callable[[Sequence[Path]], TensorAndLooks], str]:
        """What makes the tensor of a patient's tiles and their looks, and a digest of the weights that it needs."""
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


def _made(make: Callable[[Sequence[Path]], TensorAndLooks], chosen: Sequence[Path], _: Stored) -> TensorAndLooks:
    """The tensor of a patient's tiles and their looks, in one pass over the files."""
    return make(chosen)


def _facts(looks_of: Mapping[int, Path], patients: Sequence[str], wanted: int) -> dict[int, ExamFacts]:
    """Of each row its tiles as an exam: how many there are of which size, and what looks wrong.

    Args:
        looks_of: The file of each row's looks.
        patients: Of the R rows.
        wanted: How many tiles of a patient the study takes.
    """
    looks = {
        row: [TileLook(*look) for look in np.load(file, allow_pickle=False).tolist()] for row, file in looks_of.items()
    }
    return {
        row: ExamFacts(
            choice={},
            phases=1,
            seconds=(),
            size=(int(looks[row][0].columns), int(looks[row][0].rows), len(looks[row])),
            spacing_mm=(),
            orientation="",
            mask_mm3=0.0,
            mask_share=0.0,
            remarks=tuple(remarks),
        )
        for row, remarks in compared_tiles(looks, patients, wanted).items()
    }


def _count(kind: Bag | Volume) -> int:
    """How many tiles of a patient the study takes."""
    return kind.shape[0] if isinstance(kind, Bag) else kind.shape[1]


def _chosen(tiles: Sequence[Path], kind: Bag | Volume, key: Instance) -> tuple[Path, ...]:
    """As many of the tiles as the study wants: a seeded choice of more, or fewer over again."""
    count = _count(kind)
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
