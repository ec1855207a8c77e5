"""Patients of a site and a finished network's outputs for them, read and standardised as in training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from client.admission import folder_of_rounds
from client.cohort.load import EVERYONE, Cohort, load_everyone
from client.cohort.split_file import read_split
from client.cohort.splits import split_file
from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from client.governance.budget import trained_in
from client.session import load_weights
from client.training.combat import harmonise, stored_sums
from client.training.dataset import select_patients
from client.training.fedbn import restore
from client.training.loop import choose_device, mean_outputs
from shared_models.trained_model import TrainedModel
from shared_models.trained_parts import build_network

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger("client")


@dataclass(frozen=True, eq=False)
class ScoredCohort:
    """N patients and what the network gave for each.

    Attributes:
        cohort: The patients; harmonised tables without the site's effect.
        outputs: `{target: (N, outputs)}`, before the target makes a probability of them.
        has_input: `(N,)` who has at least one of the modalities; the others' outputs mean nothing.
        network: What gave them, with the site's own normalisation layers where it has any.
    """

    cohort: Cohort
    outputs: Mapping[str, Tensor]
    has_input: np.ndarray[tuple[int], np.dtype[np.bool_]]
    network: nn.Module


def score(site: SiteConfig, model: TrainedModel, *, outcomes: bool, home: SiteConfig | None = None) -> ScoredCohort:
    """All patients of a site, scored.

    Args:
        site: The site.
        model: The network.
        outcomes: Whether their outcomes are read, too.
        home: The site's own patients, by whom its effect on tables is estimated, where `site` reads new ones.

    Raises:
        SiteError: If the data cannot be used, or the site reads none of what the network takes.
    """
    task = model.task if outcomes else replace(model.task, targets={})
    _require_input(site, model)
    cohort = load_everyone(site, task)
    if model.statistics.references:
        file = site.state_dir / "harmonisation" / f"{model.config.study}.safetensors"
        own = stored_sums(load_everyone(home or site, replace(model.task, targets={})), model.task, file)
        cohort = harmonise(cohort, own, model.statistics.references)
    patients = select_patients(cohort, EVERYONE, model.task, model.statistics.features)
    has_input = np.logical_or.reduceat(cohort.present.any(axis=1), cohort.first[:-1])
    network = load_weights(build_network(model.task, model.config), model.weights, model.task)
    if model.config.normalisation == "local" and trained_here(site, model):
        folder = folder_of_rounds(site.state_dir, "normalisation", model.config)
        if not restore(network, folder, model.round):
            log.warning(
                "no normalisation layers of the site's own in %s: the network scores with the common ones", folder
            )
    network = network.to(choose_device())
    return ScoredCohort(cohort, mean_outputs(network, patients, model.task), has_input, network)


def trained_here(site: SiteConfig, model: TrainedModel) -> bool:
    """Whether the network was trained on patients of this site: by the file's word, or by the site's own record."""
    return site.site in model.trained_at or trained_in(site, model.config.study)


def trained_on(site: SiteConfig, model: TrainedModel) -> frozenset[str] | None:
    """The site's patients on whom the network was trained; None where they were, and the site cannot say which."""
    if not trained_here(site, model):
        return frozenset()
    file = split_file(site, model.config)
    if not file.path.exists():
        return None
    parts = read_split(file.path, file.columns, model.config.split_seed)
    return frozenset(patient for patient, in_folds in parts.items() if in_folds[file.column] == "train")


def _require_input(site: SiteConfig, model: TrainedModel) -> None:
    if not set(site.modalities) & set(model.task.modalities):
        raise SiteError(
            what="this site reads none of what the network takes",
            where=f"site {site.site}, modalities",
            found=", ".join(site.modalities),
            expected=" or ".join(model.task.modalities),
            fix="map one of the study's modalities in the site's YAML",
            exit_code=ExitCode.STUDY,
        )
