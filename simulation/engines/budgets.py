"""Approval budgets of simulated sites: whoever starts a simulation approves its study."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from client.config.site import load_site
from client.errors import SiteError
from client.governance.budget import renew
from shared_models.study_settings import StudySettings


def begin_budgets(sites: Mapping[str, Path], config: StudySettings) -> None:
    """Resets each budget, also where the study resumes; a site that cannot be opened says so when it is asked."""
    for file in sites.values():
        with contextlib.suppress(SiteError):
            renew(load_site(file), config)
