"""Version of a site's state folder: one that another release wrote is refused, and nothing in it is changed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from client.errors import ExitCode, SiteError
from shared_models.atomic_files import DRAFT_PREFIX, write_atomically

FILE = "state_version"
VERSION = "2"  # raise it when a later release cannot continue from what lies in the folder


def require_own_state(folder: Path) -> None:
    """Refuses a state folder of another release, and notes this one's version in a new or empty one.

    Raises:
        SiteError: If another release wrote it.
    """
    path = folder / FILE
    with contextlib.suppress(OSError):  # what cannot be read or written here is reported by whoever needs a file of it
        if path.exists():
            version = path.read_text(encoding="utf-8", errors="replace").strip()
            if version != VERSION:
                raise _of_another_release(folder, f"version {version[:20]!r} in {FILE}")
        elif any(not file.name.startswith(DRAFT_PREFIX) for file in _entries(folder)):
            raise _of_another_release(folder, f"files, and no {FILE}")
        else:
            write_atomically(path, f"{VERSION}\n")


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _of_another_release(folder: Path, found: str) -> SiteError:
    return SiteError(
        what="another release wrote this site's state folder; this one does not continue from it, and changes nothing",
        where=str(folder),
        found=found,
        expected=f"{FILE} {VERSION}, or a folder that is not there yet",
        fix=f"name another `state_dir` in the site's YAML, copy {folder.parent / 'ledger'} there if it exists (what is "
        "spent stays spent), and approve studies again; a study that runs continues with the release that began it",
        public="the site's state folder is another release's",
        exit_code=ExitCode.SITE_CONFIG,
    )
