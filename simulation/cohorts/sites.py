"""Specifications of the five synthetic hospitals: patients, scanners, table formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simulation.cohorts.breast_mri.tables import Dialect
from simulation.cohorts.phantom import Scanner


@dataclass(frozen=True)
class SyntheticSite:
    """A hospital.

    Attributes:
        name: Its name, folder and YAML.
        patients: How many it has.
        identifier: A format for a patient's identifier, of a number with up to six digits.
        dialect: How it writes its tables.
        scanner: What its MRI does to an image.
        her2_factor: Multiplies the share of HER2-positive patients.
        role: `evaluate` for one that never trains.
        skips_imaging: Every so-manieth patient has no MRI and no slides; 0 for none.
    """

    name: str
    patients: int
    identifier: str
    dialect: Dialect
    scanner: Scanner = field(default_factory=Scanner)
    her2_factor: float = 1.0
    role: Literal["train", "evaluate"] = "train"
    skips_imaging: int = 0

    def lacks_imaging(self, number: int) -> bool:
        """Whether the patient with that number has no images."""
        return self.skips_imaging > 0 and number % self.skips_imaging == self.skips_imaging // 4


SITES = (
    SyntheticSite(
        "A",
        120,
        "MUH-{:06d}",
        Dialect(
            columns={
                "patient_id": "PatientID",
                "age_years": "Age",
                "size_mm": "TumorSizeMM",
                "nodes": "Nodes",
                "er": "ER",
                "pr": "PR",
                "her2": "HER2",
                "ki67_percent": "Ki67",
                "recurrence": "Recurrence",
                "recurrence_days": "DaysToRecurrence",
                "followup_days": "DaysToLastContact",
            },
            receptors=("neg", "pos"),
            nodes=(("N0",), ("N+",)),
            events=("no", "yes"),
            missing="NA",
        ),
        skips_imaging=24,
    ),
    SyntheticSite(
        "B",
        80,
        "K{:06d}",
        Dialect(
            columns={
                "patient_id": "Patientennummer",
                "age_years": "Alter",
                "size_mm": "Tumorgroesse_mm",
                "nodes": "Lymphknoten",
                "er": "Oestrogenrezeptor",
                "pr": "Progesteronrezeptor",
                "her2": "HER2_Status",
                "ki67_percent": "Ki67_Prozent",
                "recurrence": "Rezidiv",
                "recurrence_days": "Tage_bis_Rezidiv",
                "followup_days": "Tage_bis_letzter_Kontakt",
            },
            receptors=("negativ", "positiv"),
            nodes=(("pN0",), ("pN1", "pN2", "pN3")),
            events=("nein", "ja"),
            missing="k.A.",
            separator=";",
            decimal=",",
            genes=("ERBB2", "BRCA1", "ESR1", "PGR", "Proliferation"),
        ),
        Scanner(gain=2.5, bias=0.25),
    ),
    SyntheticSite(
        "C",
        60,
        "7{:06d}",
        Dialect(
            columns={
                "patient_id": "MRN",
                "age_years": "age_at_diagnosis",
                "size_mm": "size_cm",
                "nodes": "ln_status",
                "er": "er",
                "pr": "pr",
                "her2": "her2",
                "ki67_percent": "ki67_pct",
                "recurrence": "recurred",
                "recurrence_days": "days_recurrence",
                "followup_days": "days_follow_up",
            },
            receptors=("-", "+"),
            nodes=(("-",), ("+",)),
            events=("N", "Y"),
            missing="?",
            mm_per_unit=10.0,
            genes=(),
        ),
        Scanner(blur_mm=1.2, noise=0.06),
    ),
    SyntheticSite(
        "D",
        40,
        "D19-{:06d}",
        Dialect(
            columns={
                "patient_id": "id",
                "age_years": "age",
                "size_mm": "size",
                "nodes": "nodal",
                "er": "er_status",
                "pr": "pr_status",
                "her2": "her2_status",
                "ki67_percent": "ki67",
                "recurrence": "event",
                "recurrence_days": "t_event",
                "followup_days": "t_last",
            },
            receptors=(0, 1),
            nodes=((0,), (1, 2, 3)),
            events=(1, 2),
            missing=-99,
        ),
        Scanner(delay_s=60.0),
        her2_factor=2.0,
    ),
    SyntheticSite(
        "E",
        80,
        "EX_{:06d}",
        Dialect(
            columns={
                "patient_id": "Subject",
                "age_years": "Age (y)",
                "size_mm": "Max diameter",
                "nodes": "Nodal status",
                "er": "ER status",
                "pr": "PgR status",
                "her2": "HER2 status",
                "ki67_percent": "MIB-1 %",
                "recurrence": "Relapse",
                "recurrence_days": "Days to relapse",
                "followup_days": "Days followed",
            },
            receptors=("Negative", "Positive"),
            nodes=(("Negative",), ("Positive", "Positive, bulky")),
            events=(0, 1),
            missing="unknown",
            clinical="clinical.xlsx",
        ),
        role="evaluate",
    ),
)
