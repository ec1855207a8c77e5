"""Files of a fold that was tested: its results, and its test patients' statistics, to be added to other folds'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save

from server.study.results.results_file import RESULTS, read_results
from server.study.results.schema import Results
from server.study.results.subgroups_section import pool_subgroups
from server.study.results.target_results import Role
from server.study.scoring import Summaries, pack, unpack
from server.study.study_files import writing
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.atomic_files import write_atomically
from shared_models.folds import Fold, fold_settings
from shared_models.importance import Importance
from shared_models.messages import Arrays
from shared_models.score_ranges import with_score_ranges
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

TESTED = "tested.safetensors"
ALL_FOLDS = "all folds"
ROLES: tuple[Role, ...] = ("internal", "external")
TESTED_AS = (*ROLES, ALL_FOLDS)


@dataclass(frozen=True)
class Finished:
    """A fold that has been tested.

    Attributes:
        fold: Which.
        results: Its own.
        tested: Its test patients' statistics, by role; and those of sites that tell of all their folds at once.
        by_subgroup: The same by subgroup.
        lost: What their scores lose with a part of the input changed, by role.
        score_ranges: What the bins of all these were made of.
    """

    fold: Fold
    results: Results
    tested: Mapping[str, Summaries]
    by_subgroup: Mapping[str, Arrays]
    lost: Mapping[str, Importance]
    score_ranges: Arrays = field(default_factory=dict)


def store_tested(
    tested: tuple[Summaries, Summaries, Summaries],
    by_subgroup: tuple[Arrays, Arrays, Arrays],
    lost: Mapping[Role, Importance],
    folder: Path,
) -> None:
    """Keeps the test patients' statistics of a fold beside its results.

    Args:
        tested: Those of the sites that train and of those that do not, of this fold; and those of sites that tell of
            all their folds at once, after the last one of a repeat.
        by_subgroup: The same by subgroup.
        lost: What their scores lose with a part of the input changed, by role.
        folder: The fold's.
    """
    by_role = zip(TESTED_AS, tested, by_subgroup, strict=True)
    arrays = {f"{role}:{name}": a for role, sums, also in by_role for name, a in {**pack(sums), **also}.items()}
    arrays |= {f"{role}:{name}": array for role, one in lost.items() for name, array in one.pack().items()}
    with writing(folder / TESTED):
        write_atomically(folder / TESTED, save(arrays))


def read_finished(fold: Fold, folder: Path, task: Task, config: StudySettings) -> Finished:
    """A fold that was tested, from its folder; `config` is the study's."""
    arrays: dict[str, dict[str, Any]] = {role: {} for role in TESTED_AS}
    for key, array in load_file(folder / TESTED).items():
        role, _, name = key.partition(":")
        arrays[role][name] = array
    own, ranges = fold_settings(config, fold), load_checkpoint(folder / BEST).score_ranges
    task = with_score_ranges(task, ranges)
    tested = {role: unpack(counted, task, own) for role, counted in arrays.items()}
    by_subgroup = {role: pool_subgroups({fold.label: counted}, task, own) for role, counted in arrays.items()}
    merged = not uses_secure_aggregation(own)
    lost: dict[str, Importance] = {role: Importance.unpack(arrays[role], task, own, merged) for role in ROLES}
    return Finished(fold, read_results(folder / RESULTS), tested, by_subgroup, lost, ranges)
