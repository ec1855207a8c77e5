"""Several lines at once; all else of the record is tested as hospitals use it, in tests/client/governance."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from shared_models.chained_log import BrokenRecordError, UnwritableRecordError, append, read

ENTRIES = [{"event": "sent", "site": site} for site in ("oak", "elm", "ash")]


def test_several_lines_are_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert append(path, *ENTRIES) + append(path, *ENTRIES[:1]) == read(path)
    assert [(line["line"], line["site"]) for line in read(path)] == [(1, "oak"), (2, "elm"), (3, "ash"), (4, "oak")]
    assert [line["previous"] for line in read(path)[1:]] == [line["hash"] for line in read(path)[:-1]]


def killed_at(path: Path, step: int) -> None:
    """Appends in a process that kills itself before the given one of its calls to the system."""
    calls = 0

    def counted(plain: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments, **options)

        return call

    for name in ("write", "fsync", "open", "close", "replace"):
        setattr(os, name, counted(getattr(os, name)))
    append(path, *ENTRIES)


def test_a_kill_while_the_first_lines_are_written_leaves_a_record_that_goes_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for step in range(1, 40):
        path = tmp_path / f"{step}.jsonl"
        process = context.Process(target=killed_at, args=(path, step))
        process.start()
        process.join()
        lines = read(path)
        assert len(lines) in {0, 3}
        assert append(path, *ENTRIES)[-1]["line"] == len(lines) + 3
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert 8 < step < 39


def test_a_file_that_is_no_record_is_broken_and_a_folder_in_its_place_unwritable(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("words\n")
    with pytest.raises(BrokenRecordError, match="line 1"):
        append(tmp_path / "log.jsonl", *ENTRIES)
    with pytest.raises(UnwritableRecordError):
        read(tmp_path)
