"""Admission of a study at a site: its settings are approved and allowed, and no patient's row was read for it."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from flwr.app import Context, RecordDict

from client.config.site import SiteConfig, load_site
from client.governance.approval import check_approval
from client.governance.policy_checks import check_policy
from shared_models.folds import fold_settings, folds_of
from shared_models.messages import Arrays
from shared_models.score_ranges import with_score_ranges
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task

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
        return folder_of_rounds(self.site.state_dir, "normalisation", self.config)

    @property
    def optimizer_folder(self) -> Path:
        """Where this site keeps its optimizer's moments."""
        return folder_of_rounds(self.site.state_dir, "optimizer", self.config)

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
        return folder_of_rounds(self.site.state_dir, "rule", self.config)

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


def folder_of_rounds(state_dir: Path, kind: str, config: StudySettings) -> Path:
    """Where a site keeps what one round leaves to the next, such as its optimizer's moments.

    It is apart for each way in which a study is protected. Otherwise another approval of a study of the same name,
    without sums over sites or without noise, could begin at a late round, and show in its updates what they hid.
    """
    protected = {"sums": uses_secure_aggregation(config), "private": config.privacy == "patient"}
    return state_dir / kind / "+".join([config.study, *(name for name, is_on in protected.items() if is_on)])


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
    return read_site(_place(context))


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


def _place(context: Context) -> Place:
    file, data_root = locate_site(context)
    written = file.stat() if file.exists() else None
    return file, data_root, written and (written.st_mtime_ns, written.st_size)


# A simulation opens all its sites in turn: more of them than the cache holds would be read again for every message.
@functools.lru_cache(maxsize=512)
def read_site(place: Place) -> SiteConfig:
    """The settings of the site at a place; the place says whether their file has changed since."""
    return load_site(*place[:2])
