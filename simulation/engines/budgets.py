"""Simulated sites of a study: whoever starts it approves it there, and no second process runs it at the same time."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from pathlib import Path

from client.config.site import load_site
from client.errors import SiteError
from client.governance.budget import renew
from client.private_files import writing
from server.study.exchange import StudyError
from shared_models.study_settings import StudySettings


def begin_budgets(sites: Mapping[str, Path], config: StudySettings) -> None:
    """Resets each budget, also where the study resumes; a site that cannot be opened says so when it is asked."""
    for file in sites.values():
        with contextlib.suppress(SiteError):
            renew(load_site(file), config)


@contextlib.contextmanager
def only_here(sites: Mapping[str, Path], config: StudySettings) -> Iterator[None]:
    """Holds the study at each site for this process, and resets its budgets.

    Two runs of one study into two folders of results would train with each other's state of the optimizer.

    Raises:
        StudyError: If another process holds it.
    """
    with contextlib.ExitStack() as held:
        for name, file in sites.items():
            with contextlib.suppress(SiteError):
                path = load_site(file).state_dir / "simulated" / f"{config.study}.lock"
                with writing(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    lock = held.enter_context(path.open("w"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    msg = (
                        f"another run of the study {config.study} uses the site {name} now, and both would train with "
                        "one state of the optimizer; wait for it, or choose another `study` name"
                    )
                    raise StudyError(msg) from None
        begin_budgets(sites, config)
        yield
