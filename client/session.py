"""One study as a site sees it: first its approved settings, then its cohort, opened once for each message."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from flwr.app import Context, RecordDict
from torch import nn

from client.cohort.load import Cohort, load_cohort
from client.config.site import SiteConfig, load_site
from client.errors import ExitCode, SiteError
from client.governance.approval import check_approval
from client.governance.policy_checks import check_policy
from client.training.combat import harmonise, stored_sums
from client.training.fedbn import restore
from client.training.initial_weights import with_frozen
from client.training.loop import choose_device
from client.training.rule import check_rule_state
from shared_models.folds import fold_settings, folds_of
from shared_models.messages import Arrays, ModelRequest, Request, StudyStatistics, TrainRequest
from shared_models.score_ranges import with_score_ranges
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task
from shared_models.trained_parts import build_network, frozen_names

Place = tuple[Path, Path | None, tuple[int, int] | None]
"""A site's YAML, the data folder in place of the one it names, and when and how large the YAML was written."""


@dataclass(frozen=True)
class AdmittedStudy:
    """A study that this site has approved with these very settings; no patient's row was read for it.

    Attributes:
        config: The study's settings.
        site: The site's.
        task: What is learned.
        place: Where the site's settings are.
        memory: What Flower keeps for this site from message to message of one run, in its SuperNode's memory.
    """

    config: StudySettings
    site: SiteConfig
    task: Task
    place: Place
    memory: RecordDict

    @property
    def trains(self) -> bool:
        """Whether this site gives an update: both the site and the coordinator may say no."""
        return self.site.role == "train" and self.site.site not in self.config.never_train

    @property
    def normalisation_folder(self) -> Path:
        """Where this site keeps its own normalisation layers."""
        return self.site.state_dir / "normalisation" / self.config.study

    @property
    def optimizer_folder(self) -> Path:
        """Where this site keeps its optimizer's moments."""
        return self.site.state_dir / "optimizer" / self.config.study

    @property
    def own_network_file(self) -> Path:
        """Where this site keeps its own network, in a study with `personal`."""
        return self.site.state_dir / "personal" / f"{self.config.study}.safetensors"

    @property
    def initial_weights_file(self) -> Path:
        """Where this site keeps the study's frozen weights."""
        return self.site.state_dir / "initial_weights" / f"{self.config.study}.safetensors"

    @property
    def harmonisation_file(self) -> Path:
        """Where this site keeps the sums that its scanner's effect is estimated from."""
        return self.site.state_dir / "harmonisation" / f"{self.config.study}.safetensors"

    @property
    def rule_folder(self) -> Path:
        """Where the aggregation rule's half at this site keeps its state."""
        return self.site.state_dir / "rule" / self.config.study

    def in_fold(self, number: int) -> Self:
        """The study of one of its folds; itself where it has none.

        Raises:
            ValueError: If the number is not that of a fold that was approved.
        """
        folds = folds_of(self.config)
        if not folds and not number:
            return self
        if not 1 <= number <= len(folds):
            asked = f"fold {number}" if number else "no fold"
            msg = f"it is of {asked}, and the study that was approved has {len(folds) or 'no'} folds"
            raise ValueError(msg)
        return replace(self, config=fold_settings(self.config, folds[number - 1]))

    def counting_in(self, ranges: Arrays) -> Self:
        """The study whose scores are counted in bins of these ranges.

        Raises:
            ValueError: If they are not of its targets' scores.
        """
        return replace(self, task=with_score_ranges(self.task, ranges))

    def seed(self, server_round: int) -> int:
        """A seed of this site's own for one round, the same whenever that round is run again."""
        return zlib.crc32(f"{self.config.seed}/{server_round}/{self.site.site}".encode())


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

    def class_weights(self) -> dict[str, torch.Tensor]:
        """The study's class weights by target on this site's device; empty where classes weigh alike."""
        weights = self.frozen.class_weights.items()
        return {name: torch.from_numpy(array.copy()).to(choose_device()) for name, array in weights}


@dataclass(frozen=True)
class Received:
    """What a request brings, as it fits the study that is installed here."""

    network: nn.Module | None = None
    statistics: StudyStatistics | None = None


def locate_site(context: Context) -> tuple[Path, Path | None]:
    """The settings of the site that a message is for, and the data folder its SuperNode was started with.

    This is the only place where deployment (its own SuperNode) and simulation under Ray (a share) differ.
    """
    node = context.node_config
    if "site-config" in node:
        return Path(str(node["site-config"])), Path(str(node["data-root"])) if "data-root" in node else None
    sites = sorted(Path(str(context.run_config["simulated-sites"])).glob("*.yaml"))
    return sites[int(node["partition-id"])], None


def open_site(context: Context) -> SiteConfig:
    """The settings of the site that a message is for; within one process, read again only when the file has changed."""
    return _read_site(_place(context))


def admit(context: Context) -> AdmittedStudy:
    """The study of a message, if the site has approved these very settings and its policy allows them.

    Raises:
        SettingsError: If the settings cannot be used.
        SiteError: If the site's own cannot, or the study is not approved or not allowed.
    """
    config = parse_study_settings({key: value for key, value in context.run_config.items() if key != "simulated-sites"})
    site = open_site(context)
    check_approval(site, config)
    task = load_task(config)
    check_policy(site, config, task)
    return AdmittedStudy(config, site, task, _place(context), context.state)


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


def forget_cohorts() -> None:
    """Reads every cohort again, for a simulation that changes files or readers on the way."""
    _read_cohort.cache_clear()


def _place(context: Context) -> Place:
    file, data_root = locate_site(context)
    written = file.stat() if file.exists() else None
    return file, data_root, written and (written.st_mtime_ns, written.st_size)


# A simulation opens all its sites in turn: more of them than the cache holds would be read again for every message.
@functools.lru_cache(maxsize=512)
def _read_site(place: Place) -> SiteConfig:
    return load_site(*place[:2])


@functools.lru_cache(maxsize=512)
def _read_cohort(place: Place, config: StudySettings) -> Cohort:
    return load_cohort(_read_site(place), load_task(config), config)
