"""Site-specific names of metastases' positions, and the YAML that parses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulation.cohorts.tables import Code

HEMISPHERES = ("right", "left")
REGIONS = ("frontal", "parietal", "temporal", "occipital", "cerebellum", "brainstem", "deep")


@dataclass(frozen=True)
class Words:
    """A hospital's way of naming lesions.

    Attributes:
        lesion: The column of a lesion's name.
        volume: The column of its volume.
        pattern: A format of `side`, `region` and `number`, counted within the patient.
        sides: Its codes of `HEMISPHERES`.
        regions: Its codes of `REGIONS`.
        side_in: A regular expression whose first group is the side's code.
        region_in: One whose first group is the region's.
    """

    lesion: str
    volume: str
    pattern: str
    sides: tuple[Code, ...]
    regions: tuple[Code, ...]
    side_in: str
    region_in: str

    def name(self, hemisphere: str, region: str, number: int) -> str:
        """The name of a patient's lesion with that number, which is also that of its files."""
        side = self.sides[HEMISPHERES.index(hemisphere)]
        return self.pattern.format(side=side, region=self.regions[REGIONS.index(region)], number=number)

    def position(self) -> dict[str, Any]:
        """The YAML entries of the hemisphere and of the region."""
        return {
            "hemisphere": self._entry(self.side_in, self.sides, HEMISPHERES),
            "region": self._entry(self.region_in, self.regions, REGIONS),
        }

    def _entry(self, expression: str, codes: tuple[Code, ...], meanings: tuple[str, ...]) -> dict[str, Any]:
        return {"column": self.lesion, "extract": expression, "codes": dict(zip(codes, meanings, strict=True))}


WORDS = {
    "A": Words("lesion", "volume_cu_mm", "{side}-{region}-{number}", ("R", "L"), REGIONS, "^(R|L)-", "^[RL]-([a-z]+)"),
    "B": Words(
        "Herd",
        "Volumen_mm3",
        "{region}_{side}_{number}",
        ("re", "li"),
        ("frontal", "parietal", "temporal", "okzipital", "Kleinhirn", "Hirnstamm", "tief"),
        "_(re|li)_",
        "^([A-Za-z]+)_",
    ),
    "C": Words(
        "met",
        "volume_ccm",
        "{number}.{side}.{region}",
        ("R", "L"),
        ("F", "P", "T", "O", "CB", "BS", "DEEP"),
        r"\.(R|L)\.",
        r"\.([A-Z]+)$",
    ),
    "D": Words("lesion_id", "volume", "s{side}r{region}n{number}", (1, 2), (1, 2, 3, 4, 5, 6, 7), r"^s(\d)", r"r(\d)"),
    "E": Words(
        "Lesion",
        "Volume (mm3)",
        "{side} {region} {number}",
        ("Right", "Left"),
        ("frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe", "cerebellum", "brainstem", "deep nuclei"),
        "^(Right|Left) ",
        r"^(?:Right|Left) ([a-z ]+) \d+$",
    ),
}
