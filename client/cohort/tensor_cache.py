"""Parsed tensors on the site's disk, so that a message need not read tables and images anew.

An entry is a folder of `.npy` files and one JSON, named by a hash of everything that went into it. It is filled
under another name and renamed, so that a reader never sees half of it and concurrent writers are harmless.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.cache.artifacts import FOLDER as KEPT
from client.config.site import SiteConfig
from client.private_files import writing
from client.tables.read import table_files
from client.tables.sql import query_stamp
from shared_models.task import Task

# Raise it when a reader changes what it makes of the same files.
VERSION = 4
ABANDONED_AFTER_S = 86_400.0


@dataclass(frozen=True, eq=False)
class Entry:
    """What was parsed: facts for the JSON, and arrays by name."""

    facts: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def cached(site: SiteConfig, task: Task, parse: Callable[[Path], Entry]) -> Entry:
    """The entry for the site's files and the task as they are now, parsed if it is not there yet.

    Args:
        site: The site.
        task: The task, with the study's features.
        parse: Fills an entry; large arrays may be memory maps of `.npy` files in the folder it is given.

    Returns:
        The entry, its arrays memory-mapped and read-only.
    """
    cache = site.state_dir / "cache"
    folder = cache / _key(site, task)
    if (entry := _load(folder)) is None:
        _build(folder, parse)
        entry = _load(folder)
        _drop_old(site, folder)
    if entry is None:
        msg = f"the cache {folder} cannot be read back"
        raise OSError(msg)
    return entry


def _key(site: SiteConfig, task: Task) -> str:
    settings = site.model_dump_json(
        include={"tables", "patients", "instances", "include", "split", "modalities", "targets"}
    )
    digest = hashlib.sha256(f"{VERSION}\n{settings}\n{task.modalities!r}\n{task.targets!r}\n".encode())
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
    return sorted(paths)


def _load(folder: Path) -> Entry | None:
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        names: list[str] = facts.pop("arrays")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
        os.utime(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, EOFError):  # cut short by a power failure
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Entry(facts, arrays)


def _build(folder: Path, parse: Callable[[Path], Entry]) -> None:
    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        entry = parse(draft)
        with writing(folder):
            _write(draft, folder, entry)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(draft: Path, folder: Path, entry: Entry) -> None:
    for name, array in entry.arrays.items():
        if isinstance(array, np.memmap):
            array.flush()
        else:
            np.save(draft / f"{name}.npy", array, allow_pickle=False)
    facts = entry.facts | {"arrays": list(entry.arrays)}
    (draft / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    try:
        draft.rename(folder)
    except OSError:
        if not (folder / "facts.json").exists():  # otherwise another process was faster, with the same content
            raise


def _drop_old(site: SiteConfig, used: Path) -> None:
    """Keeps what was used last, up to `cache_gib`: whole cohorts, and what was made of single patients' files."""
    cache = site.state_dir / "cache"
    for path in cache.glob(".draft-*"):
        if time.time() - _modified(path) > ABANDONED_AFTER_S:
            shutil.rmtree(path, ignore_errors=True)
    found = [path for path in cache.iterdir() if not path.name.startswith(".") and path != used]
    found += (site.state_dir / KEPT).glob("*/*")
    room = site.cache_gib * 2**30 - _bytes(used)
    for path in sorted(found, key=_modified, reverse=True):
        room -= _bytes(path)
        if room < 0:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process dropped it
        return 0.0


def _bytes(path: Path) -> int:
    """On disk: a sparse file takes less than its length."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(512 * file.stat().st_blocks for file in files if file.exists())
