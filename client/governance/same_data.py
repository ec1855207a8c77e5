"""Data of an approval: the first question fixes them, and all others are answered of the same data or not at all.

Sums over one patient more or less, or of one value that was filled in meanwhile, tell by their difference what it is:
a hospital whose tables grow while a study runs would tell a patient's row, also within a secure sum.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from client.errors import ExitCode, SiteError
from client.governance.budget import Spent, budget_of, spent_line
from client.governance.chained_log import locked
from shared_models.folds import study_of

if TYPE_CHECKING:
    from client.config.site import SiteConfig
    from shared_models.study_settings import StudySettings

FIXED = "data"


def require_same_data(site: SiteConfig, settings: StudySettings, split: str, unsplit: str) -> None:
    """Fixes the data of an approval with its first question, and refuses a later one if they have changed.

    Of a study of folds they are those of its first fold: folds of the same patients, split anew, differ by who came.

    Args:
        site: The site.
        settings: The study's or the fold's, as they were approved.
        split: Fingerprint of patients, values, files, outcomes and split as they are now.
        unsplit: The same without the split.

    Raises:
        SiteError: If they have changed, or the record cannot be read or written.
    """
    _require_same(site, settings, split)
    if (study := study_of(settings)) is not settings:
        _require_same(site, study, unsplit)


def _require_same(site: SiteConfig, settings: StudySettings, fingerprint: str) -> None:
    path = budget_of(site, settings)
    with locked(path) as log:
        before = Spent.so_far(log)
        if not before.data:
            log.append(spent_line(settings, FIXED, 0, replace(before, data=fingerprint)))
        elif before.data != fingerprint:
            raise SiteError(
                what="the site's data are not those of the study's first question",
                where=f"{path}, study {settings.study}",
                found="patients, values, files or the split that changed since",
                expected="the same data until the study ends: a difference of sums would tell what changed",
                fix="bring the data back as they were; or approve the study again, which begins its rounds again",
                public="the site's data have changed since the study's first question: it needs a new approval there",
                exit_code=ExitCode.STUDY,
            )
