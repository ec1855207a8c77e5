"""A site's cohort for a study, parsed once: found again by what its files and settings are now.

Nothing is opened to find it: the key is made of settings and of the files' sizes and times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from client.cache import store
from client.cache.bound import trim
from client.cache.entry import ENTRIES, Entry, read_entry, write_entry
from client.config.site import SiteConfig
from client.errors import SiteError
from client.tables.read import table_files
from client.tables.sql import query_stamp
from shared_models.task import Task

# Raise it when a reader or an extractor makes something else of the same files: each artefact has a version of its own.
VERSION = 6
ATTEMPTS = 3


def cached(site: SiteConfig, task: Task, parse: Callable[[], Entry], whom: str = "") -> Entry:
    """The entry for the site's files and the task as they are now, parsed if it is not there yet.

    Args:
        site: The site.
        task: The task, with the study's features.
        parse: Makes the entry.
        whom: Of whom it is, where not of a study's patients.

    Raises:
        SiteError: If the cache cannot be written, or other studies' entries push this one out at once.
    """
    path = site.state_dir / store.CACHE / ENTRIES / f"{_key(site, task, whom)}.safetensors"
    entry = read_entry(path)
    for _ in range(ATTEMPTS):
        if entry is not None:
            return entry
        made = parse()
        entry = read_entry(path)  # another process may have been faster: then its entry is in use, and stays
        if entry is None:
            write_entry(path, made)
            entry = read_entry(path)  # before the bound, so that it is in use
        trim(site.state_dir, site.cache_gib * 2**30)
    if entry is not None:
        return entry
    raise SiteError(
        what="the site's cache does not hold what was just written",
        where=str(path),
        found=f"files gone after each of {ATTEMPTS} attempts",
        fix="raise `cache_gib`: several studies may be pushing each other out; and check the disk",
        public="the site cannot write its own files",
    )


def _key(site: SiteConfig, task: Task, whom: str) -> str:
    settings = site.model_dump_json(
        include={"tables", "patients", "instances", "include", "split", "modalities", "targets"}
    )
    digest = hashlib.sha256(f"{VERSION} {store.VERSION}\n{settings}\n{task.modalities!r}\n{task.targets!r}\n".encode())
    if task.subgroups:
        digest.update(f"{task.subgroups!r}\n".encode())
    digest.update(whom.encode())
    for name, table in site.tables.items():
        if table.sql:
            digest.update(query_stamp(site, table, f"table {name!r}").encode())
    for path in _sources(site, task):
        digest.update(f"{path} {_stamp(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:  # gone, or a name that no file can have
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sources(site: SiteConfig, task: Task) -> list[Path]:
    paths = {path for name in site.tables for path in table_files(site, name)}
    for name in task.modalities:
        if reader := site.modalities.get(name):
            paths.update(reader.files(site))
    return sorted(paths, key=str)  # as paths, it would take as long as to read them
