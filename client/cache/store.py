"""The artefact store: arrays made of patients' files, each made once, named by content and written whole.

An artefact is a file `artefacts/RECIPE/CONTENT.npy` in the site's cache. RECIPE is a hash of all besides the files that
decides it, such as settings and the versions of libraries; CONTENT is one of the files. So a run that was broken off
continues where it stopped, only a changed file or setting is computed again, and studies share what they can.

All artefacts of the same files are made by one job, in a worker process: what they share, such as an exam that is read
and preprocessed, is made once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.cache.workers import run, run_alone
from client.errors import SiteError
from client.private_files import writing
from client.progress import progress
from shared_models.atomic_files import atomic_path

if TYPE_CHECKING:
    from client.contract.protocols import Site

Array = NDArray[Any]
Stored = Callable[[str, Callable[[], Array]], Array]
"""The array of a recipe and the job's files: from the store, or else made and stored."""
Artefacts = Mapping[str, Path | SiteError]
"""By recipe, the artefact's file, or why it cannot be made."""

# Raise it when all artefacts must be made again; what makes one has a version of its own, in its recipe.
VERSION = 1
CACHE, ARTEFACTS = "cache", "artefacts"


@dataclass(frozen=True)
class Job:
    """The artefacts to be made of one patient's files.

    Attributes:
        files: All files whose contents decide the artefacts.
        recipes: What makes each, of what `load` gives; by a text of all besides the files that decides it. Functions at
            the top of a module, or a `functools.partial` of one, that can be sent to another process.
        load: What the recipes share, called once and only if an artefact is missing. What takes long on the way, it
            may store. If left out, the recipes are given `files`.
        cache_key_extra: What decides the artefacts besides files and recipes, such as a patient's cells of a table.
    """

    files: tuple[Path, ...]
    recipes: Mapping[str, Callable[[Any], Array]]
    load: Callable[[Stored], Any] | None = None
    cache_key_extra: str = ""


def make_artefacts(site: Site, jobs: Mapping[int, Job], what: str) -> Iterator[tuple[int, Artefacts]]:
    """The artefacts of each job, in their order.

    Args:
        site: The site; its `workers` is how many processes, as `client.cache.workers.run` has it.
        jobs: By a number of the caller's.
        what: What is being done, for the progress bar.

    Raises:
        SiteError: If an artefact cannot be written: that is no fault of a patient's files.
    """
    folder = site.state_dir / CACHE / ARTEFACTS
    tasks = {number: partial(_artefacts, folder, job) for number, job in jobs.items()}
    for number, made in progress(run(tasks, site.workers), what, len(jobs)):
        yield number, _after_crash(folder, jobs[number]) if made is None else made


def _after_crash(folder: Path, job: Job) -> Artefacts:
    """Each artefact in a process of its own, where there are several: one may crash, and the others be whole."""
    if len(job.recipes) == 1:
        return dict.fromkeys(job.recipes, _crashed(job))
    made: dict[str, Path | SiteError] = {}
    for recipe, make in job.recipes.items():
        alone = run_alone(partial(_artefacts, folder, dataclasses.replace(job, recipes={recipe: make})))
        made |= alone if alone is not None else {recipe: _crashed(job)}
    return made


def _artefacts(folder: Path, job: Job) -> dict[str, Path | SiteError]:
    try:
        content = _content(job)
    except Exception as error:
        return dict.fromkeys(job.recipes, _site_error(job, error))
    paths = {recipe: _path(folder, recipe, content) for recipe in job.recipes}
    missing = [recipe for recipe, path in paths.items() if not _is_whole(path)]
    return {**paths, **(_made(folder, job, content, missing) if missing else {})}


def _made(folder: Path, job: Job, content: str, missing: list[str]) -> dict[str, Path | SiteError]:
    on_the_way: dict[Path, Array] = {}

    def stored(recipe: str, make: Callable[[], Array]) -> Array:
        path = _path(folder, recipe, content)
        if _is_whole(path):
            return np.asarray(np.load(path, allow_pickle=False))
        return on_the_way.setdefault(path, make())

    try:
        source = job.files if job.load is None else job.load(stored)
    except Exception as error:
        return dict.fromkeys(missing, _site_error(job, error))
    for path, array in on_the_way.items():
        _write(path, array)
    return {recipe: _one(_path(folder, recipe, content), job, recipe, source) for recipe in missing}


def _one(path: Path, job: Job, recipe: str, source: Any) -> Path | SiteError:
    try:
        array = job.recipes[recipe](source)
    except Exception as error:
        return _site_error(job, error)
    _write(path, array)
    return path


def _content(job: Job) -> str:
    digest = hashlib.sha256(job.cache_key_extra.encode())
    for path in job.files:
        if not path.is_file():  # a pipe would never end
            msg = f"{path.name} is missing, or no regular file"
            raise FileNotFoundError(msg)
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _path(folder: Path, recipe: str, content: str) -> Path:
    return folder / hashlib.sha256(f"{VERSION}\n{recipe}".encode()).hexdigest()[:16] / f"{content}.npy"


def _is_whole(path: Path) -> bool:
    """Whether the artefact is there; it then counts as used now."""
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
        os.utime(path)
    except (OSError, ValueError, EOFError):
        return False
    return True


def _write(path: Path, array: Array) -> None:
    with writing(path), atomic_path(path) as draft, draft.open("wb") as file:
        np.save(file, np.asarray(array, order="C"), allow_pickle=False)


def _site_error(job: Job, error: Exception) -> SiteError:
    """A reader's own error, or what a library raised on a file that it was not made for."""
    if isinstance(error, SiteError):
        return error
    return SiteError(
        what="a patient's files cannot be used",
        where=_where(job),
        found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        expected="files that the reader was made for",
        fix="write them again, or move them out of data_root",
        public="an image of the site cannot be used",
    )


def _crashed(job: Job) -> SiteError:
    return SiteError(
        what="the process that reads a patient's files ended",
        where=_where(job),
        found="a crash, or too little memory",
        expected="files that can be read",
        fix="write them again or move them out of data_root; if many patients are named, free some memory",
        public="an image of the site cannot be used",
    )


def _where(job: Job) -> str:
    return str(job.files[0].parent if len(job.files) > 1 else job.files[0])
