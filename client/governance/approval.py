"""Approvals of studies: a study with its exact settings, until the approval is revoked.

A line for each approval and each revocation is in `state_dir/SITE/approvals.jsonl`, chained by hashes. Of a study's
lines the last one counts. Every message is checked against it, so that a revocation stops a study that runs.
"""

from __future__ import annotations

import getpass
import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import ExitCode, SiteError
from client.governance.chained_log import Line, append, read
from client.governance.notices import NOT_APPROVED, write_notice
from shared_models import agreed
from shared_models.agreed import agreed_settings, settings_hash
from shared_models.installation import image

if TYPE_CHECKING:
    from client.config.site import SiteConfig
    from shared_models.study_settings import StudySettings

FILE = "approvals.jsonl"
APPROVED, REVOKED = "approved", "revoked"
COMMAND = "python -m client approve STUDY.toml --site {site}"
SHOWN = 8


def approvals_of(site: SiteConfig) -> Path:
    """The site's record of approvals."""
    return site.state_dir / FILE


def needs_approval(site: SiteConfig) -> bool:
    """Whether a study needs one: where a center can send it, unless the site's policy waives it."""
    return site.center is not None and site.policy.approval == "required"


def approve(site: SiteConfig, config: StudySettings) -> Line:
    """Writes an approval down, in place of an earlier one of the same study, and resets its budget.

    Raises:
        SiteError: If a record is damaged or cannot be written. Then approve again.
    """
    from client.governance.budget import renew

    settings = agreed_settings(config)
    entry = {"event": APPROVED, "study": config.study, "sha256": settings_hash(config), "settings": settings}
    program = {"version": version("breast-federation"), **({"image": digest} if (digest := image()) else {})}
    line = append(approvals_of(site), {**entry, **program, "by": _person()})
    renew(site, config)
    return line


def revoke(site: SiteConfig, study: str) -> Line:
    """Writes down that an approval holds no longer; the next message of the study is refused.

    Raises:
        SiteError: If the study is not approved, or the record is damaged or cannot be written.
    """
    if study not in (approved := approvals(site)):
        raise SiteError(
            what="there is no such approval to revoke",
            where=str(approvals_of(site)),
            found=f"study {study}",
            expected=" or ".join(approved) or "an approved study; there is none",
            fix=f"list them: python -m client approvals --site {site.site}",
            exit_code=ExitCode.USAGE,
        )
    return append(approvals_of(site), {"event": REVOKED, "study": study, "by": _person()})


def approvals(site: SiteConfig) -> dict[str, Line]:
    """The approvals in force, by study.

    Raises:
        SiteError: If the record is damaged.
    """
    return _in_force(approvals_of(site))


def _in_force(record: Path) -> dict[str, Line]:
    last = {line["study"]: line for line in read(record) if line["event"] in (APPROVED, REVOKED)}
    return {study: line for study, line in last.items() if line["event"] == APPROVED}


@lru_cache(maxsize=512)
def _in_force_once(record: Path, *written: tuple[int, int] | None) -> dict[str, Line]:
    """The approvals in force; verified again only where the record or its head has changed, not for every message."""
    del written
    return _in_force(record)


def _written(file: Path) -> tuple[int, int] | None:
    """When a file was written and how large it is; None where there is none."""
    facts = file.stat() if file.exists() else None
    return facts and (facts.st_mtime_ns, facts.st_size)


def check_approval(site: SiteConfig, config: StudySettings) -> None:
    """Refuses a study that the site has not approved with these settings, and says so in the SuperNode's log.

    Raises:
        SiteError: If so, with what differs; or if the record is damaged.
    """
    if not needs_approval(site):
        return
    record = approvals_of(site)
    written = [_written(file) for file in (record, record.with_name(f"{record.name}.head"))]
    line = _in_force_once(record, *written).get(config.study)
    if line and line["sha256"] == settings_hash(config):
        return
    write_notice(NOT_APPROVED, study=config.study)
    raise SiteError(
        what="the study is not approved here" if line is None else "the study was approved here with other settings",
        where=f"{approvals_of(site)}, study {config.study}",
        found=_differences(line, config) if line else "no approval in force",
        expected="an approval of these settings",
        fix=f"if the hospital wants this study: {COMMAND.format(site=site.site)}",
        public=_public(line, config),
        exit_code=ExitCode.STUDY,
    )


def _public(line: Line | None, config: StudySettings) -> str:
    """What the center learns: the names of the settings that differ, which it knows and which are of no patient."""
    if line is None:
        return agreed.NOT_APPROVED
    keys = _changed_keys(line, config)
    names = ", ".join([*keys[:SHOWN], *([f"{len(keys) - SHOWN} more"] if len(keys) > SHOWN else [])])
    return f"{agreed.OTHERWISE_APPROVED} ({names}); it takes part once it has approved these"


def _changed_keys(line: Line, config: StudySettings) -> list[str]:
    before, now = line["settings"], agreed_settings(config)
    return [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def _differences(line: Line, config: StudySettings) -> str:
    before, now, keys = line["settings"], agreed_settings(config), _changed_keys(line, config)
    parts = [f"{key} is {_shown(now.get(key))}, approved {_shown(before.get(key))}" for key in keys[:SHOWN]]
    return "; ".join([*parts, *([f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else [])])


def _shown(value: object) -> str:
    text = "not there" if value is None else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"
