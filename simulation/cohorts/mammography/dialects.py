"""Site-specific names and codes of mammographic findings."""

from __future__ import annotations

from dataclasses import dataclass

from simulation.cohorts.sites import SyntheticSite
from simulation.cohorts.tables import Code, Field

CATEGORIES = {
    "shape": ("oval", "round_or_irregular", "asymmetric", "distorted"),
    "margin": ("circumscribed", "obscured_or_microlobulated", "ill_defined", "spiculated"),
    "density": ("fatty", "scattered", "heterogeneous", "extremely_dense"),
    "subtype": ("luminal_a", "luminal_b", "her2", "triple_negative"),
}


@dataclass(frozen=True)
class _Words:
    """A hospital's columns, and its codes in the order of the study's categories.

    Attributes:
        columns: View, size, shape, margin, density, subtype, relapse, its day, the last day of follow-up.
        shape: Oval, round or irregular, asymmetric, distorted.
        margin: Circumscribed, obscured or microlobulated, ill-defined, spiculated.
        density: Fatty, scattered, heterogeneous, extremely dense.
        subtype: Luminal A, luminal B, HER2, triple-negative.
    """

    columns: tuple[str, str, str, str, str, str, str, str, str]
    shape: tuple[Code, ...]
    margin: tuple[Code, ...]
    density: tuple[Code, ...]
    subtype: tuple[Code, ...]


_WORDS = {
    "A": _Words(
        ("View", "SizeMM", "Shape", "Margin", "Density", "Subtype", "Relapse", "DaysToRelapse", "DaysFollowed"),
        ("oval", "round/irregular", "asymmetry", "distortion"),
        ("circumscribed", "obscured/microlobulated", "ill-defined", "spiculated"),
        ("A", "B", "C", "D"),
        ("Luminal A", "Luminal B", "HER2-enriched", "Triple negative"),
    ),
    "B": _Words(
        ("Aufnahme", "Groesse_mm", "Form", "Rand", "Dichte", "Subtyp", "Rezidiv", "Tage_bis_Rezidiv", "Nachsorge_Tage"),
        ("oval", "rund/irregulaer", "Asymmetrie", "Architekturstoerung"),
        ("scharf", "ueberlagert/mikrolobuliert", "unscharf", "spikuliert"),
        ("ACR a", "ACR b", "ACR c", "ACR d"),
        ("LumA", "LumB", "HER2", "TNBC"),
    ),
    "C": _Words(
        (
            "projection",
            "size_cm",
            "shape",
            "margin",
            "acr",
            "mol_subtype",
            "relapsed",
            "days_relapse",
            "days_follow_up",
        ),
        ("ov", "irr", "asym", "dist"),
        ("circ", "obs", "ind", "spic"),
        ("<25%", "25-50%", "51-75%", ">75%"),
        ("LA", "LB", "H2", "TN"),
    ),
    "D": _Words(
        ("view", "size", "shape_code", "margin_code", "density_code", "subtype_code", "event", "t_event", "t_last"),
        (0, 1, 2, 3),
        (0, 1, 2, 3),
        (1, 2, 3, 4),
        (1, 2, 3, 4),
    ),
    "E": _Words(
        (
            "Projection",
            "Max diameter",
            "Mass shape",
            "Mass margin",
            "Breast density",
            "Molecular subtype",
            "Relapse",
            "Days to relapse",
            "Days followed",
        ),
        ("Oval", "Round or irregular", "Asymmetric", "Distorted"),
        ("Circumscribed", "Obscured or microlobulated", "Indistinct", "Spiculated"),
        ("Fatty", "Scattered", "Heterogeneous", "Extreme"),
        ("Luminal A-like", "Luminal B-like", "HER2 positive", "Triple-negative"),
    ),
}


def fields(site: SyntheticSite) -> tuple[dict[str, Field], dict[str, Field]]:
    """The columns of a hospital's table of patients, and those of its table of views."""
    words = _WORDS[site.name]
    view, size, shape, margin, density, subtype, relapse, relapse_days, followup_days = words.columns
    unit = site.dialect.mm_per_unit

    def coded(column: str, name: str) -> Field:
        return Field(column, dict(zip(CATEGORIES[name], getattr(words, name), strict=True)))

    events = dict(zip((0, 1), site.dialect.events, strict=True))
    of_patients = {
        "subtype": coded(subtype, "subtype"),
        "relapse": Field(relapse, events),
        "relapse_days": Field(relapse_days, digits=0),
        "followup_days": Field(followup_days, digits=0),
    }
    of_views = {
        "view": Field(view),
        "size_mm": Field(size, unit=unit, digits=1 if unit == 1 else 2),
        "shape": coded(shape, "shape"),
        "margin": coded(margin, "margin"),
        "density": coded(density, "density"),
    }
    return of_patients, of_views
