"""What a patient's files become, computed once, in parallel, and kept on the site's disk by content.

A result is named by a hash of the recipe (settings, versions) and of the files' contents: a run that was broken off
goes on where it was, and a changed file or setting is computed anew, alone. Each result is written whole or not at all.

The work is done in processes of their own. A file can make the library that reads it crash; then that patient is set
aside and the others go on.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from client.private_files import writing
from client.progress import progress
from shared_models.atomic_files import atomic_path

if TYPE_CHECKING:
    from client.contract.protocols import Site

Array = NDArray[Any]

log = logging.getLogger("client")
FOLDER = "kept"


@dataclass(frozen=True)
class Job:
    """One array to be made.

    Attributes:
        files: All files whose contents decide the result.
        make: Makes it; a function at the top of a module, or a `functools.partial` of one, that can be sent to
            another process.
        cache_key_extra: What decides it besides the files and the recipe, such as a patient's cells of a table.
    """

    files: tuple[Path, ...]
    make: Callable[[], Array]
    cache_key_extra: str = ""


def compute(site: Site, recipe: str, jobs: Mapping[int, Job], what: str) -> Iterator[tuple[int, Array | SiteError]]:
    """The array of each job, in their order; where it cannot be made, why not.

    Args:
        site: The site; its `workers` is how many processes. 1 is this one: a crash is then the program's.
        recipe: All besides the files that decides a result, such as settings and the versions of libraries.
        jobs: By a number of the caller's, as the patient's row.
        what: What is being done, for the progress bar.
    """
    folder = site.state_dir / FOLDER / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    workers = min(site.workers or len(os.sched_getaffinity(0)), len(jobs))
    made = _here(folder, jobs) if site.workers == 1 or not jobs else _in_processes(folder, jobs, workers)
    for number, found in progress(made, what, len(jobs)):
        yield number, found if isinstance(found, SiteError) else np.load(found, mmap_mode="r", allow_pickle=False)


def _here(folder: Path, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Path | SiteError]]:
    for number, job in jobs.items():
        yield number, _make(folder, job)


def _in_processes(folder: Path, jobs: Mapping[int, Job], workers: int) -> Iterator[tuple[int, Path | SiteError]]:
    """The jobs' results; after a crash, the few that were under way are done alone, to find whose file it was."""
    left = list(jobs)
    alone: dict[int, Path | SiteError] = {}
    while left:
        futures: dict[int, Future[Path | SiteError]] = {}
        with _pool(workers) as pool:
            try:
                for number in left:
                    if number not in alone:
                        futures[number] = pool.submit(_make, folder, jobs[number])
                while left:
                    yield left[0], alone[left[0]] if left[0] in alone else futures[left[0]].result()
                    del left[0]
            except BrokenProcessPool:
                log.warning("a process that reads patients' files ended; those under way are read anew, each alone")
            except (GeneratorExit, SiteError):
                pool.shutdown(cancel_futures=True)
                raise
        # a process takes the jobs in their order: those under way were the first without a result
        suspects = [number for number, future in futures.items() if left and future.exception()][:workers]
        alone |= {number: _alone(folder, jobs[number]) for number in suspects}


def _alone(folder: Path, job: Job) -> Path | SiteError:
    with _pool(1) as pool:
        try:
            return pool.submit(_make, folder, job).result()
        except BrokenProcessPool:
            return _crashed(job)


def _pool(workers: int) -> ProcessPoolExecutor:
    # a fork would copy the threads' locks of torch and ITK, and hang
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = "1"


def _make(folder: Path, job: Job) -> Path | SiteError:
    try:
        digest = hashlib.sha256(job.cache_key_extra.encode())
        for path in job.files:
            if not path.is_file():  # a pipe would never end
                msg = f"{path.name} is missing, or no regular file"
                raise FileNotFoundError(msg)
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        kept = folder / f"{digest.hexdigest()[:32]}.npy"
        if kept.exists():
            os.utime(kept)
            return kept
        array = job.make()
    except SiteError as error:
        return error
    except Exception as error:  # a library's own, on a file it was not made for
        return _unexpected(job, error)
    # a full disk is no fault of the patient's files
    with writing(kept), atomic_path(kept) as draft, draft.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return kept


def _unexpected(job: Job, error: Exception) -> SiteError:
    return SiteError(
        what="a patient's files cannot be used",
        where=str(job.files[0].parent if len(job.files) > 1 else job.files[0]),
        found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        expected="files that the reader was made for",
        fix="write them anew, or move them out of data_root",
        public="an image of the site cannot be used",
    )


def _crashed(job: Job) -> SiteError:
    return SiteError(
        what="the process that reads a patient's files ended",
        where=str(job.files[0].parent if len(job.files) > 1 else job.files[0]),
        found="a crash, or too little memory",
        expected="files that can be read",
        fix="write them anew or move them out of data_root; if many patients are named, free some memory",
        public="an image of the site cannot be used",
    )
