"""Folds of a study: a part of each site's patients, or a whole site, is left out of training in turn.

A fold is a study of its own, whose settings follow from those that hospitals approve: center and sites make them alike.
Its name is the study's and the fold's, as `duke/fold-2`, so all that is stored or counted by a study's name (round
budgets, charges to the privacy ledger, optimizers' moments, checkpoints) is stored and counted for each fold.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings


@dataclass(frozen=True)
class Fold:
    """One of a study's folds.

    Attributes:
        number: From 1.
        label: Its name within the study.
        repeat: Which repeat it is of, from 1.
        part: Which part of each site's patients it tests, from 1; 0 where it leaves out a site.
        left_out: The site that does not train in it; empty where it leaves out a part of each.
    """

    number: int
    label: str
    repeat: int = 1
    part: int = 0
    left_out: str = ""


class FoldSettings(StudySettings):
    """The settings of one fold: the study's, under the fold's name."""

    study: str
    fold: int


def folds_of(config: StudySettings) -> tuple[Fold, ...]:
    """The folds of a study in their order; none where it has one split, and of a fold itself.

    Raises:
        SettingsError: If each site is to be left out and the study does not name them, or too few would train.
    """
    if isinstance(config, FoldSettings):
        return ()
    if config.leave_out == "each":
        sites = _left_out_in_turn(config)
        return tuple(Fold(number, f"without-{site}", left_out=site) for number, site in enumerate(sites, start=1))
    pairs = [(repeat, part) for repeat in range(1, config.repeats + 1) for part in range(1, config.folds + 1)]
    several = config.repeats > 1
    return tuple(
        Fold(number, f"repeat-{repeat}-fold-{part}" if several else f"fold-{part}", repeat, part)
        for number, (repeat, part) in enumerate(pairs, start=1)
    )


def fold_settings(config: StudySettings, fold: Fold) -> FoldSettings:
    """The settings of one of a study's folds."""
    values = config.model_dump() | {"study": f"{config.study}/{fold.label}", "fold": fold.number}
    if fold.left_out:
        values["evaluation_only_sites"] = ", ".join([*config.never_train, fold.left_out])
    return FoldSettings.model_validate(values)


def study_of(config: StudySettings) -> StudySettings:
    """The settings of the study that a fold is of; a study's own are its own."""
    if not isinstance(config, FoldSettings):
        return config
    shared = config.model_dump(exclude={"fold"}) | {"study": config.study.rpartition("/")[0]}
    if config.leave_out == "each":
        shared["evaluation_only_sites"] = ", ".join(config.never_train[:-1])
    return StudySettings.model_validate(shared)


def whole_study(config: StudySettings) -> StudySettings:
    """The settings of the study of a fold whose sites are those of all its folds; else its own."""
    return config if config.leave_out == "each" else study_of(config)


def each_fold(config: StudySettings) -> list[StudySettings]:
    """The settings of each of a study's folds; its own where it has none."""
    return [fold_settings(config, fold) for fold in folds_of(config)] or [config]


def fold_of(config: StudySettings) -> Fold | None:
    """The fold whose settings these are; None of a study's own."""
    if not isinstance(config, FoldSettings):
        return None
    if config.leave_out == "each":
        left_out = config.never_train[-1]
        return Fold(config.fold, f"without-{left_out}", left_out=left_out)
    repeat, part = divmod(config.fold - 1, config.folds)
    return Fold(config.fold, config.study.rpartition("/")[2], repeat + 1, part + 1)


def trainings(config: StudySettings) -> int:
    """How often a site that trains is trained on for a study, of which `config` may be a fold: once without folds."""
    if config.leave_out == "each":
        there = len(config.expected_sites) - len(config.never_train)
        return max(there - (not isinstance(config, FoldSettings)), 1)
    return config.folds * config.repeats or 1


def _left_out_in_turn(config: StudySettings) -> list[str]:
    sites = [site for site in config.expected_sites if site not in config.never_train]
    if not sites:
        msg = 'leave-out = "each": name the sites, as in sites = "elm, oak, ash"; hospitals approve who is left out'
        raise SettingsError(msg)
    left, secure = len(sites) - 1, config.secure_aggregation == "on"
    if left < max(config.min_sites, 3 if secure else 1):
        why, instead = f"min-sites is {config.min_sites}", f"set min-sites={left}"
        if secure and left < 3:
            why, instead = "secure aggregation needs 3", f"turn secure-aggregation off and set min-sites={left}"
        msg = (
            f'leave-out = "each" leaves {left} of {len(sites)} sites to train, and {why}: find more sites, or {instead}'
        )
        raise SettingsError(msg)
    return sites
