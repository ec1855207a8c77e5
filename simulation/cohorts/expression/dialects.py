"""Site-specific gene names, subtype codes and slide colours of the synthetic expression cohort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulation.cohorts.expression.tiles import Stain
from simulation.cohorts.tables import Code, Field

SUBTYPES = ("LumA", "LumB", "Her2", "Basal")
_GENES_OF = {
    "luminal": "BAG1 BCL2 BLVRA CXXC5 ESR1 FOXA1 GPR160 MAPT MDM2 MLPH MMP11 NAT1 PGR SLC39A6",
    "her2_amplicon": "ERBB2 FGFR4 GRB7 TMEM45B",
    "proliferation": "ANLN BIRC5 CCNB1 CCNE1 CDC20 CDC6 CENPF CEP55 EXO1 KIF2C MELK "
    "MKI67 MYBL2 NDC80 NUF2 ORC6 PTTG1 RRM2 TYMS UBE2C UBE2T",
    "basal": "ACTR3B CDH3 EGFR FOXC1 KRT14 KRT17 KRT5 MIA MYC PHGDH SFRP1",
}
FACTOR_GENES = {factor: tuple(genes.split()) for factor, genes in _GENES_OF.items()}
NOISE_GENES = tuple(f"NOISE{number:02d}" for number in range(1, 51))
GENES = (*(gene for genes in FACTOR_GENES.values() for gene in genes), *NOISE_GENES)

_LOG2_PER_LN = 1.4426950408889634


@dataclass(frozen=True)
class Words:
    """A hospital's way of writing expression and subtypes, and its slides.

    Attributes:
        subtype: The column of the subtype.
        codes: Its codes of `SUBTYPES`.
        expression: The file of its expression; empty without any.
        aliases: Its names of genes that it does not call by their symbols.
        log2_per_unit: 1 for log2 expression, 1.44 for natural logarithms.
        stain: Its slides; None without any.
    """

    subtype: str
    codes: tuple[Code, ...]
    expression: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    log2_per_unit: float = 1.0
    stain: Stain | None = None

    def genes(self) -> dict[str, Field]:
        """The columns of its expression."""
        return {name: Field(self.aliases.get(name, name), unit=self.log2_per_unit, digits=4) for name in GENES}


WORDS = {
    "A": Words("PAM50", SUBTYPES, "expression.csv", stain=Stain()),
    "B": Words(
        "PAM50_Subtyp",
        ("Luminal A", "Luminal B", "HER2-angereichert", "Basal-like"),
        "expression.xlsx",
        {"NUF2": "CDCA1", "NDC80": "KNTC2", "ORC6": "ORC6L"},  # as Parker 2009 names them
        stain=Stain(haematoxylin=1.3, eosin=0.8),
    ),
    "C": Words("intrinsic_subtype", ("LA", "LB", "HE", "BL"), "", stain=Stain(blur_px=1.0, noise=0.03)),
    "D": Words("pam50", (1, 2, 3, 4), "expression.csv", {name: name.lower() for name in GENES}, _LOG2_PER_LN),
    "E": Words(
        "PAM50 call",
        ("Lum A", "Lum B", "Her2", "Basal"),
        "expression.csv",
        {name: f"{name}_log2" for name in GENES},
        stain=Stain(haematoxylin=0.8, eosin=1.2),
    ),
}
