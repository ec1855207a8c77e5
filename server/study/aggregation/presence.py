"""Training patients of each site behind a group of parameters, as they were counted before round 1."""

from __future__ import annotations

from collections.abc import Mapping

from server.study.aggregation.rule import Round


def training_weights(this: Round, modality: str) -> Mapping[str, int]:
    """Training patients by site with a modality, or all for `""`; 0 of a site that does not train.

    In secure aggregation it is known of a modality only which sites have it: all patients of those sites count.
    """
    summed = any(len(update.sites) > 1 for update in this.updates)
    weights = {}
    for site, counted in this.enrolled.items():
        patients = counted.patients["train"] if counted.trains else 0
        if modality and counted.trains:
            patients = patients * min(counted.modalities[modality], 1) if summed else counted.modalities[modality]
        weights[site] = patients
    return weights
