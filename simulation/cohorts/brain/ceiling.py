"""Bayes-optimal AUC of the receptors in the synthetic brain metastases.

The mean of K lesions' latents is all that they say of the patient's: it is Gaussian about them with variance .25 / K
each. The configurations' posterior is therefore exact. One phase at 90 s does not show wash-out, and a lesion's image
counts as showing the other latents exactly, so the ceilings are upper bounds. Site D scans 60 s later, when a little of
wash-out shows.
"""

from __future__ import annotations

import numpy as np

from simulation.cohorts import population as who
from simulation.cohorts.brain.cohort import LESION_SD, MAX_LESIONS, lesion_shares
from simulation.cohorts.ceiling import Ceiling, configuration_posterior, receptor_ceilings

SHOWN = tuple(index for index, name in enumerate(who.LATENTS) if name != "wash_out")


def receptor_auc(lesions: int = 0, patients: int = 200_000, seed: int = 0) -> dict[str, Ceiling]:
    """The ceilings for ER, PR and HER2 of patients with so many lesions; 0 takes them as the cohort has them."""
    rng = np.random.default_rng(seed)
    cohort = who.draw(patients, rng)
    shares = lesion_shares() if lesions == 0 else np.arange(1, MAX_LESIONS + 1) == lesions
    counts = 1 + rng.choice(MAX_LESIONS, patients, p=shares / shares.sum())
    mean = cohort.z + LESION_SD / np.sqrt(counts)[:, None] * rng.standard_normal(cohort.z.shape)
    posterior = np.empty((patients, len(who.CONFIGURATIONS)))
    for count in np.unique(counts):
        rows = counts == count
        posterior[rows] = configuration_posterior(
            mean[rows][:, SHOWN], SHOWN, noise_variance=float(LESION_SD**2 / count)
        )
    return receptor_ceilings(posterior)
