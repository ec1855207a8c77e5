"""Session of a study at a site: what a message brings, checked against the study, and the cohort, opened once."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from client.admission import AdmittedStudy, Place, read_site
from client.cohort.description import data_fingerprint
from client.cohort.load import Cohort, load_cohort
from client.errors import ExitCode, SiteError
from client.training.combat import harmonise, stored_sums
from client.training.fedbn import restore
from client.training.initial_weights import with_frozen
from client.training.loop import choose_device
from client.training.rule import check_rule_state
from shared_models.messages import Arrays, ModelRequest, Request, StudyStatistics, TrainRequest
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task, load_task
from shared_models.trained_parts import build_network, frozen_names


@dataclass(frozen=True)
class StudySession(AdmittedStudy):
    """What a message's handler needs besides.

    Attributes:
        cohort: The site's patients; in the tables that the study harmonises without the scanner's effect.
        network: The installed network with the global weights of the message; None where it brings none.
        statistics: The study's frozen statistics; None where the message brings none.
    """

    cohort: Cohort
    network: nn.Module | None
    statistics: StudyStatistics | None

    def model(self, server_round: int) -> nn.Module:
        """The global network as it was after a round, on this site's device.

        Where a study leaves normalisation layers to the sites, with this site's own.
        """
        assert self.network is not None
        if self.config.normalisation == "local" and self.trains:
            restore(self.network, self.normalisation_folder, server_round)
        return self.network.to(choose_device())

    @property
    def frozen(self) -> StudyStatistics:
        """The study's frozen statistics, of a message that brings them."""
        assert self.statistics is not None
        return self.statistics

    def learning(self, targets: Collection[str]) -> Self:
        """The study with the training patients' labels of these targets alone."""
        train, truths = self.cohort.parts["train"], dict(self.cohort.truths)
        for name in truths.keys() - set(targets):
            truths[name] = truths[name].copy()
            truths[name][train] = np.nan
        return replace(self, cohort=replace(self.cohort, truths=truths))

    def class_weights(self) -> dict[str, torch.Tensor]:
        """The study's class weights by target on this site's device; empty where classes weigh alike."""
        weights = self.frozen.class_weights.items()
        return {name: torch.from_numpy(array.copy()).to(choose_device()) for name, array in weights}


@dataclass(frozen=True)
class Received:
    """What a request brings, as it fits the study that is installed here."""

    network: nn.Module | None = None
    statistics: StudyStatistics | None = None


def receive(study: AdmittedStudy, request: Request[Any]) -> Received:
    """The network and the statistics that a request brings.

    Raises:
        SiteError: If the weights do not fit the network that is installed here.
        ValueError: If the statistics are not the study's, or the state of its aggregation rule is not that rule's.
    """
    if not isinstance(request, ModelRequest):
        return Received()
    network, config = build_network(study.task, study.config), study.config
    frozen = frozen_names(network, config)
    weights = with_frozen(request, frozen, config, study.initial_weights_file)
    load_weights(network, weights, study.task)
    if isinstance(request, TrainRequest):
        check_rule_state(request.rule_state, network, study.config)
    return Received(network, StudyStatistics.unpack(request.statistics, study.task, study.config))


def load_weights(network: nn.Module, weights: Arrays, task: Task) -> nn.Module:
    """The network with these weights.

    Raises:
        SiteError: If their names, shapes or types are not the network's.
    """
    expected = {name: (tuple(value.shape), value.numpy().dtype) for name, value in network.state_dict().items()}
    sent = {name: (array.shape, array.dtype) for name, array in weights.items()}
    if wrong := sorted(name for name in {*expected, *sent} if expected.get(name) != sent.get(name)):
        raise SiteError(
            what="the global model does not fit the network installed here",
            where=f"task {task.name}, {wrong[0]}",
            found=f"{sent.get(wrong[0], 'nothing')}; {len(wrong)} arrays differ",
            expected=f"{expected.get(wrong[0], 'nothing')}",
            fix="install the same version as the coordinating center",
            public="the global model does not fit the network installed at the site: versions differ",
            exit_code=ExitCode.STUDY,
        )
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return network


def open_session(study: AdmittedStudy, received: Received) -> StudySession:
    """The study with its cohort: the first time that a message leads to a patient's row.

    Raises:
        SiteError: If the site's tables or files cannot be used.
    """
    cohort = _read_cohort(study.place, study.config)
    if received.statistics and study.config.harmonised_tables:
        own = stored_sums(cohort, study.task, study.harmonisation_file)
        cohort = harmonise(cohort, own, received.statistics.references)
    known = (study.config, study.site, study.task, study.place, study.memory)
    return StudySession(*known, cohort, received.network, received.statistics)


def least_told(study: AdmittedStudy) -> int:
    """Fewest patients whose numbers this site tells by itself; 0 where it tells them in sums over sites only."""
    return 0 if uses_secure_aggregation(study.config) else study.site.policy.minimum_count


def fingerprints_of(study: AdmittedStudy) -> tuple[str, str]:
    """Keyed hashes of the data that the study is given, before any harmonisation: as they are split, and without that.

    See `data_fingerprint`.
    """
    return _fingerprints(study.place, study.config)


def forget_cohorts() -> None:
    """Reads every cohort again, for a simulation that changes files or readers on the way."""
    _read_cohort.cache_clear()
    _fingerprints.cache_clear()


# A simulation opens all its sites in turn: more of them than the cache holds would be read again for every message.
@functools.lru_cache(maxsize=512)
def _read_cohort(place: Place, config: StudySettings) -> Cohort:
    return load_cohort(read_site(place), load_task(config), config)


@functools.lru_cache(maxsize=512)
def _fingerprints(place: Place, config: StudySettings) -> tuple[str, str]:
    data = _read_cohort(place, config), load_task(config), read_site(place).state_dir
    return data_fingerprint(*data), data_fingerprint(*data, parts=())
