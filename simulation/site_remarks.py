"""Remarks on a simulation's sites: what a hospital's own `check` would have said of the cohort that was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from client.errors import SiteError
from client.too_few import too_few_to_score
from shared_models.folds import each_fold
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical
from shared_models.task import Task, load_task


def site_remarks(sites: Mapping[str, Path], config: StudySettings, *, scored: bool = True) -> Iterator[str]:
    """What should be known of each site's cohort, though it need not stop it; of folds, in the first.

    Args:
        sites: Name to settings file.
        config: The study.
        scored: Whether a round of it could be judged; else also how many validation patients each site lacks.
    """
    first = each_fold(config)[0]
    task = load_task(first)
    for name, file in sites.items():
        try:
            cohort = load_cohort(site := load_site(file), task, first, store_split=False)
        except SiteError:
            continue  # the study has reported it
        hidden = not scored and site.role == "train" and not uses_secure_aggregation(first)
        few = too_few_to_score(cohort, task, site.policy.minimum_count) if hidden else ()
        for remark in (*cohort.warnings, *_one_class(cohort, task), *few):
            yield f"{name}: {remark}"


def _one_class(cohort: Cohort, task: Task) -> Iterator[str]:
    """Targets of which all of a site's training patients are of the same class."""
    for name, target in task.targets.items():
        truth = cohort.truths[name][cohort.parts["train"]]
        if isinstance(target, Binary | Categorical) and len(known := np.unique(truth[~np.isnan(truth)])) == 1:
            yield f"{name}: every training patient is {known[0]:g}; the site learns nothing that tells classes apart"
