"""Modalities of a task: what a network reads of one patient, or of one lesion."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared_models.features import Feature
from shared_models.grids import FieldOfView, TileNetwork


@dataclass(frozen=True)
class Volume:
    """An image modality: the tensor a site's reader makes of it for one patient, or for one lesion.

    Attributes:
        shape: `(C, D, H, W)`.
        spacing_mm: Voxel size along `(D, H, W)`; about a tumour exactly, else that of an exam as large as the grid.
        tumour: Whether its last channel is the distance to the tumour's surface in mm, positive inside; at a site
            without masks `FAR_INSIDE_MM` everywhere.
        field_of_view: What of an exam it shows: `tumour`, what lies within the grid about the tumour's mask; `breast`,
            the breast with the finding, and `whole`, all of the exam, both resized to the grid. A site that has no
            masks, or does not know the side, gives the whole exam instead.
        tiles: Whether its depth is not space, but the tiles of a slide in no order, their channels the three colours.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    tumour: bool = False
    field_of_view: FieldOfView = "tumour"
    tiles: bool = field(default=False, repr=False)  # what a cache is named by stays the same


@dataclass(frozen=True)
class Bag:
    """A set of feature vectors without an order, as of the tiles of a slide.

    Attributes:
        shape: `(T, W)`: T vectors of width W. Of a patient with more a seeded choice, of one with fewer the same again.
        network: What makes the vectors of tiles; see the setting `tile_network`.
        weights_sha256: Of the file of its weights, where all sites must have the same.
    """

    shape: tuple[int, int]
    network: TileNetwork = "file"
    weights_sha256: str = ""


@dataclass(frozen=True)
class Table:
    """A tabular modality: its features, which a study's settings may replace."""

    features: tuple[Feature, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The C input columns before missing flags."""
        return tuple(column for feature in self.features for column in feature.columns)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which of the C columns are numbers; the others are categories."""
        names = {feature.name for feature in self.features if not feature.categories}
        return tuple(place for place, column in enumerate(self.columns) if column in names)

    @property
    def shape(self) -> tuple[int]:
        """`(C,)`, as a site stores it."""
        return (len(self.columns),)

    @property
    def width(self) -> int:
        """Network inputs: a z-score and a missing flag for each column."""
        return 2 * len(self.columns)


Modality = Volume | Table | Bag


# The tumour's distance channel where a site has no mask: all of the image counts as tumour, far from its surface.
FAR_INSIDE_MM = 100.0
