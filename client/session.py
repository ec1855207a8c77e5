"""One study as a site sees it: its settings, its cohort, and the network, opened anew for each message."""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from flwr.app import ConfigRecord, Context, Message
from torch import nn

from client.cohort.load import Cohort, load_cohort
from client.config.site import SiteConfig, load_site
from client.errors import ExitCode, SiteError
from client.governance.approval import check_approval
from client.governance.audit import record_refused, record_sent
from client.governance.policy import check_policy
from client.training.combat import harmonise, kept
from client.training.fedbn import restore
from client.training.loop import choose_device
from shared_models.errors import UserError
from shared_models.messages import (
    MODEL,
    REQUEST,
    STATISTICS,
    unpack_arrays,
    unpack_class_weights,
    unpack_references,
    unpack_statistics,
)
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task

if TYPE_CHECKING:
    from shared_models.features import FeatureStatistics

log = logging.getLogger("client")
Handler = Callable[[Message, Context], Message]


@dataclass(frozen=True)
class StudySession:
    """What a message handler needs."""

    config: StudySettings
    site: SiteConfig
    task: Task
    cohort: Cohort

    def seed(self, server_round: int) -> int:
        """A seed of this site's own for one round, the same whenever that round is run again."""
        return zlib.crc32(f"{self.config.seed}/{server_round}/{self.site.site}".encode())

    @property
    def normalisation_folder(self) -> Path:
        """Where this site keeps its own normalisation layers."""
        return self.site.state_dir / "normalisation" / self.config.study

    @property
    def harmonisation_file(self) -> Path:
        """Where this site keeps the sums that its scanner's effect is estimated from."""
        return self.site.state_dir / "harmonisation" / f"{self.config.study}.safetensors"

    @property
    def trains(self) -> bool:
        """Whether this site gives an update: both the site and the coordinator may say no."""
        return self.site.role == "train" and self.site.site not in self.config.never_train

    def require_training(self) -> None:
        """Refuses to train where the site's own settings say that it only validates, whatever the center asks.

        Raises:
            SiteError: If so.
        """
        if not self.trains:
            raise SiteError(
                what="the center asks this site to train, and it does not",
                where=f"study {self.config.study}",
                found="a request to train",
                expected="`role: train` in the site's settings, and no mention in evaluation-only-sites",
                fix="change the role if the site is meant to train",
                public="the site only validates",
                exit_code=ExitCode.STUDY,
            )


def open_session(context: Context) -> StudySession:
    """The study of a message; within one process, the same study is opened once, if the site still approves it."""
    run_config = {key: value for key, value in context.run_config.items() if key != "simulated-sites"}
    place, config = locate_site(context), parse_study_settings(run_config)
    check_approval(_site(*place), config)
    return _open(*place, config)


def locate_site(context: Context) -> tuple[Path, Path | None]:
    """The settings of the site that a message is for, and the data folder its SuperNode was started with.

    This is the only place where deployment (its own SuperNode) and simulation under Ray (a share) differ.
    """
    node = context.node_config
    if "site-config" in node:
        return Path(str(node["site-config"])), Path(str(node["data-root"])) if "data-root" in node else None
    sites = sorted(Path(str(context.run_config["simulated-sites"])).glob("*.yaml"))
    return sites[int(node["partition-id"])], None


# A simulation opens all its sites in turn: more of them than the cache holds would be read anew for every message.
@functools.lru_cache(maxsize=512)
def _open(site_file: Path, data_root: Path | None, config: StudySettings) -> StudySession:
    site, task = _site(site_file, data_root), load_task(config)
    check_policy(site, config, task)
    return StudySession(config, site, task, load_cohort(site, task, config))


def _site(site_file: Path, data_root: Path | None) -> SiteConfig:
    """The site's settings, read anew when the file has changed."""
    written = site_file.stat() if site_file.exists() else None
    return _read_site(site_file, data_root, written and (written.st_mtime_ns, written.st_size))


@functools.lru_cache(maxsize=512)
def _read_site(site_file: Path, data_root: Path | None, written: tuple[int, int] | None) -> SiteConfig:
    del written
    return load_site(site_file, data_root)


def receive_model(study: StudySession, message: Message, server_round: int) -> nn.Module:
    """The global network of a message as it was after `server_round`, on this site's device.

    Where a study leaves normalisation layers to the sites, with this site's own.

    Raises:
        SiteError: If its weights do not fit the network this site has installed.
    """
    model = study.task.build_model(study.task, study.config)
    weights = unpack_arrays(message.content.array_records[MODEL])
    try:
        model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    except RuntimeError as error:
        raise SiteError(
            what="the global model does not fit the network installed here",
            where=f"task {study.task.name}",
            found=str(error).splitlines()[-1].strip(),
            fix="install the same version as the coordinating center",
            public="the global model does not fit the network installed at the site: versions differ",
        ) from None
    if study.config.normalisation == "local" and study.trains:
        restore(model, study.normalisation_folder, server_round)
    return model.to(choose_device())


def receive_statistics(study: StudySession, message: Message) -> Mapping[str, FeatureStatistics]:
    """The study's frozen feature statistics."""
    return unpack_statistics(unpack_arrays(message.content.array_records[STATISTICS]), study.task)


def receive_cohort(study: StudySession, message: Message) -> Cohort:
    """The site's cohort, without its scanner's effect in the tables that the study harmonises."""
    if not study.config.harmonised_tables:
        return study.cohort
    arrays = unpack_arrays(message.content.array_records[STATISTICS])
    own = kept(study.cohort, study.task, study.harmonisation_file)
    return harmonise(study.cohort, own, unpack_references(arrays, study.config))


def receive_class_weights(message: Message) -> dict[str, torch.Tensor]:
    """The study's class weights by target, from all sites' counts; empty where classes weigh alike."""
    arrays = unpack_class_weights(unpack_arrays(message.content.array_records[STATISTICS]))
    return {name: torch.from_numpy(weights.copy()).to(choose_device()) for name, weights in arrays.items()}


def receive_request(message: Message) -> ConfigRecord:
    """The message's plain values."""
    return message.content.config_records[REQUEST]


def sanitize_errors(handler: Handler) -> Handler:
    """Notes what leaves, and keeps a handler's errors at the site: the log has all of it, the center a sentence.

    Flower sends an exception's text to the center, and a text may hold a file name or an identifier.
    """

    @functools.wraps(handler)
    def handle(message: Message, context: Context) -> Message:
        try:
            reply = handler(message, context)
            record_sent(*_where(context), message, reply.content)
            return reply
        except UserError as error:
            log.error("%s", error)
            public = error.public
        except Exception:
            log.exception("unexpected error")
            public = "unexpected error at the site; the site's own log has the details"
        try:
            record_refused(*_where(context), message, public)
        except SiteError as error:
            log.error("%s", error)
        raise RuntimeError(public)

    return handle


def _where(context: Context) -> tuple[SiteConfig, str]:
    """The site of a message, and the study as the center names it."""
    return _site(*locate_site(context)), str(context.run_config.get("study", ""))


def numbers_of(prefix: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as flat numbers `prefix/name`."""
    return {f"{prefix}/{name}": float(value) for name, value in metrics.items()}
