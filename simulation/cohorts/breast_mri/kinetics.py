"""Radiomics table of a synthetic hospital: kinetics and shape, extracted as a real hospital extracts them."""

from __future__ import annotations

from client.extractors.kinetics import kinetics
from simulation.cohorts.phantom import SPACING_MM, Exam

FEATURES = (
    "Volume_cu_mm_Tumor",
    "SER_Total_tumor_vol_cu_mm",
    "SER_Partial_tumor_vol_cu_mm",
    "SER_Washout_tumor_vol_cu_mm",
    "Peak_SER_tumor",
    "SER_map_mean_tumor",
    "SER_map_std_dev_tumor",
    "SER_map_Entropy_tumor",
    "WashinRate_map_mean_tumor",
    "PE1_mean_tumor",
    "PE1_std_dev_tumor",
    "Rim_to_core_PE1_ratio",
    "Sphericity_tumor",
)


def measure(exam: Exam) -> dict[str, float]:
    """The features `FEATURES` of an exam; nan where the tumour leaves one undefined."""
    values = kinetics(exam.phases, exam.mask, SPACING_MM, exam.seconds)
    return {name: values[name] for name in FEATURES}
