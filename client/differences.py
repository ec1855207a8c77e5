"""Differences of a site's patients from all the other sites', by the sums that the center sends; told at the site.

With secure aggregation nobody else can see them, and without it the site should know what the center does.
"""

from __future__ import annotations

import logging

import numpy as np

from client.governance.notices import UNLIKE_OTHERS, write_notice
from client.session import StudySession, least_told
from client.training.dataset import feature_statistics
from shared_models.differences import Sums, differences, without
from shared_models.folds import fold_of
from shared_models.secure_aggregation.choice import uses_secure_aggregation

log = logging.getLogger("client")


def own_and_others(study: StudySession) -> tuple[Sums, Sums]:
    """Sums of this site's patients and of all the others', without tables that the study harmonises.

    Of a site that trains its training patients beside the others' training patients, of any other site all of its own.
    """
    cohort, task, pooled = study.cohort, study.task, study.frozen.features
    patients = cohort.parts["train"] if study.trains else np.arange(len(cohort.patients))
    own = feature_statistics(cohort, task, patients, least_told(study))
    compared = {name: sums for name, sums in own.items() if name not in study.frozen.references}
    others = {name: without(pooled[name], sums) if study.trains else pooled[name] for name, sums in compared.items()}
    all_counts = study.frozen.counts
    counts = {name: task.targets[name].counts(cohort.truths[name][patients]) for name in all_counts}
    other_counts = {name: all_counts[name] - counts[name] * study.trains for name in all_counts}
    return Sums(compared, counts), Sums(others, other_counts)


def unlike_others(study: StudySession) -> list[str]:
    """What differs in tables and outcomes, a sentence each."""
    return differences(*own_and_others(study), study.task)


def tell_differences(study: StudySession) -> None:
    """Logs what differs, in the first fold of a study of several; a simulated site leaves it to the center's log."""
    fold = fold_of(study.config)
    told_there = study.site.center is None and not uses_secure_aggregation(study.config)
    if told_there or (fold is not None and fold.number > 1):
        return
    for sentence in unlike_others(study):
        log.warning("%s is unlike the other hospitals: %s; check units and codes", study.site.site, sentence)
        if study.site.center is not None:
            write_notice(UNLIKE_OTHERS, sentence=f"{sentence}; check units and codes")
