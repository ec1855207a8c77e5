"""Resumption of a run whose process at the center died: from its last checkpoint, without a person.

Flower 1.41 does not start a run again. It calls one failed whose process it has not heard of for a while, as after the
SuperExec, the study's own process or the machine ended. One that failed by itself, with a reason, is left to a person.

The same process bounds the logs of the others, because it runs under every supervisor, systemd too.
"""

from __future__ import annotations

import logging
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from server.errors import CenterError
from server.operations.bundle import recorded_runs, start_study
from server.operations.center import Center, open_center
from server.operations.superlink import Run, find_run, follow_run, list_runs
from server.study.weights.checkpoint import describe
from shared_models.log_files import empty_full_log
from shared_models.study_settings import StudySettings, parse_study_settings

CHECK_EVERY_S = 10.0
LOST = "No heartbeat received from the task"
"""What Flower says of such a run."""


def is_lost(run: Run) -> bool:
    """Whether a run failed because its process died."""
    return run.state == "finished:failed" and LOST in run.details


def resume_lost(center: Center, say: Callable[[str], None]) -> list[int]:
    """Starts each lost run again that is the last one of its study, and returns the new runs' numbers.

    `auto-resume` bounds how often in a row, without a round in between: what kills a study each time is not a blip.

    Args:
        center: Whose runs.
        say: Takes a line for the operator.
    """
    records = recorded_runs(center)
    last = {record["study"]: run_id for run_id, record in records.items()}
    lost = [str(run.run_id) for run in list_runs(center) if is_lost(run)]
    return [
        resumed
        for run_id in lost
        if run_id in records and last[records[run_id]["study"]] == run_id
        if (resumed := _resume(center, run_id, records[run_id], say)) is not None
    ]


def follow_to_end(center: Center, run_id: int, write: Callable[[str], object]) -> Run:
    """The run once it has ended, or the one that resumed it; writes the log of each meanwhile."""
    for text in follow_run(center, run_id):
        write(text)
    ended = find_run(center, run_id)
    resumed = _resumed_as(center, ended)
    if resumed is None:
        write(f"Run {run_id}: {ended.state}\n")
        return ended
    write(f"Run {run_id} was lost; run {resumed} resumes it\n")
    return follow_to_end(center, resumed, write)


def _resumed_as(center: Center, run: Run) -> int | None:
    """The run that resumes a lost one, if one is started while it would be; None of a run that is not lost."""
    deadline = time.monotonic() + 3 * CHECK_EVERY_S
    while is_lost(run) and time.monotonic() < deadline:
        for run_id, record in recorded_runs(center).items():
            if record.get("resumes") == str(run.run_id):
                return int(run_id)
        time.sleep(CHECK_EVERY_S / 10)
    return None


def _resume(center: Center, run_id: str, record: Mapping[str, Any], say: Callable[[str], None]) -> int | None:
    config = _settings_of(center, record)
    facts = describe(center.results, config.study)
    done = int(facts["round"]) if facts else 0
    tries = record["tries"] + 1 if record.get("after_round") == done else 1
    if tries > config.auto_resume:
        return None
    again = {"resume": True, "overwrite": False} if facts else {}
    links = {"resumes": run_id, "tries": tries, "after_round": done}
    resumed, _ = start_study(center, config.model_copy(update=again), **links)
    say(
        f"run {run_id} of {config.study} was lost: its process at the center died. Run {resumed} continues after round "
        f"{done}, attempt {tries} of {config.auto_resume} without a round between"
    )
    return resumed


def _settings_of(center: Center, record: Mapping[str, Any]) -> StudySettings:
    project = (center.directory / "bundles" / record["bundle"] / "pyproject.toml").read_text(encoding="utf-8")
    return parse_study_settings(tomllib.loads(project)["tool"]["flwr"]["app"]["config"])


def _empty_full_logs(center: Center) -> None:
    for log in sorted((center.directory / "logs").glob("*.log")):
        try:
            empty_full_log(log)
        except OSError as error:  # a full disk is no reason to resume no runs
            print(f"{log} is full and cannot be copied: {error.strerror}", flush=True)


def main(directory: str) -> None:
    """Looks after the runs of a center until it is stopped; the SuperLink is asked only while one may be running."""
    center = open_center(Path(directory))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settled: set[str] = set()
    while True:
        _empty_full_logs(center)
        records = recorded_runs(center)
        try:
            if set(records) - settled:
                resume_lost(center, lambda line: print(line, flush=True))
                runs = list_runs(center)
                settled |= {str(run.run_id) for run in runs if run.state.startswith("finished")}
                settled |= set(records) - {str(run.run_id) for run in runs}  # among the last ones no more
        except CenterError as error:  # the SuperLink may be starting
            print(error, flush=True)
        time.sleep(CHECK_EVERY_S)


if __name__ == "__main__":
    main(sys.argv[1])
