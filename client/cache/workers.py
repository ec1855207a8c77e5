"""Worker processes for patients' files: a file that crashes the library that reads it costs its own task only."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from client.errors import SiteError

Result = TypeVar("Result")

log = logging.getLogger("client")


def run(tasks: Mapping[int, Callable[[], Result]], workers: int) -> Iterator[tuple[int, Result | None]]:
    """The result of each task, in their order; None where a task ended its process.

    Args:
        tasks: By a number of the caller's; functions at the top of a module, or a `functools.partial` of one, that
            can be sent to another process.
        workers: How many processes; 0 is one a core. 1 is this process: a crash is then the program's.

    Raises:
        SiteError: If a task raises one: the others are given up.
    """
    if workers == 1 or not tasks:
        yield from ((number, task()) for number, task in tasks.items())
    else:
        yield from _in_processes(tasks, min(workers or len(os.sched_getaffinity(0)), len(tasks)))


def run_alone(task: Callable[[], Result]) -> Result | None:
    """The result of a task in a process of its own; None if it ended the process."""
    with _pool(1) as pool:
        try:
            return pool.submit(task).result()
        except BrokenProcessPool:
            return None


def _in_processes(tasks: Mapping[int, Callable[[], Result]], workers: int) -> Iterator[tuple[int, Result | None]]:
    """The results; after a crash, the few tasks that were under way are done alone, to find whose file it was."""
    left = list(tasks)
    alone: dict[int, Result | None] = {}
    while left:
        futures: dict[int, Future[Result]] = {}
        with _pool(workers) as pool:
            try:
                for number in left:
                    if number not in alone:
                        futures[number] = pool.submit(tasks[number])
                while left:
                    yield left[0], alone[left[0]] if left[0] in alone else futures[left[0]].result()
                    del left[0]
            except BrokenProcessPool:
                log.warning("a process that reads patients' files ended; those in progress are read again, each alone")
            except (GeneratorExit, SiteError):
                pool.shutdown(cancel_futures=True)
                raise
        # a process takes the tasks in their order: those under way were the first without a result
        suspects = [number for number, future in futures.items() if left and future.exception()][:workers]
        alone |= {number: run_alone(tasks[number]) for number in suspects}


def _pool(workers: int) -> ProcessPoolExecutor:
    # a fork would copy the threads' locks of torch and ITK, and hang
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = "1"
