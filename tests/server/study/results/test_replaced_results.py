"""What a run with `overwrite` replaces is back unless a round of it counts, also after it was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from server.study.exchange import StudyError
from server.study.results import replaced_results
from server.study.results.replaced_results import MOVING, REPLACED, replacing
from server.study.weights.checkpoint import Checkpoint, save_checkpoint
from shared_models.study_settings import StudySettings

ANEW = StudySettings(study="elms", overwrite=True)
FILES = (
    "last.safetensors",
    "best.safetensors",
    "fold-1/last.safetensors",
    "results.csv",
    "comparisons.csv",
    "report.html",
    "figures/a.svg",
)


def checkpoint(rounds: int, value: float) -> Checkpoint:
    return Checkpoint(StudySettings(study="elms").to_flat(), rounds, {"w": np.full(2, value)}, {}, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a study that has ended."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".safetensors":
            save_checkpoint(checkpoint(8, 1.0), path)
        else:
            path.write_text("earlier")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fail(folder: Path, rounds: int | None) -> None:
    """A run that replaces what is there, and fails after so many rounds; with 0 after an attempt at the first."""
    with replacing(folder, ANEW):
        assert not [folder / name for name in FILES if (folder / name).exists()]
        if rounds is not None:
            save_checkpoint(checkpoint(rounds, 2.0), folder / "last.safetensors")
            save_checkpoint(checkpoint(0, 2.0), folder / "fold-2/last.safetensors")
        (folder / "report.html").write_text("of the failure")
        (folder / "unfinished.json").write_text("{}")
        msg = "it failed"
        raise StudyError(msg)


@pytest.mark.parametrize("rounds", [None, 0])
def test_a_run_of_which_no_round_counts_leaves_all_as_it_was(folder: Path, rounds: int | None) -> None:
    before = contents(folder)
    with pytest.raises(StudyError, match="it failed"):
        fail(folder, rounds)
    assert contents(folder) == before


def test_once_a_round_counts_what_was_replaced_is_gone(folder: Path) -> None:
    with pytest.raises(StudyError, match="it failed"):
        fail(folder, 1)
    names = {"last.safetensors", "fold-2/last.safetensors", "report.html", "unfinished.json"}
    assert contents(folder).keys() == names
    assert (folder / "report.html").read_text() == "of the failure"


def killed_while_it_moves(folder: Path, out: int, back: int) -> None:
    """A run that ends before its first round, killed at a move of a file there or back."""
    replace, left = Path.replace, [out]

    def counted(self: Path, target: Path) -> Path:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return replace(self, target)

    Path.replace = counted  # type: ignore[assignment, method-assign]
    with replacing(folder, ANEW):
        left[0] = back
        raise KeyboardInterrupt


@pytest.mark.parametrize(("out", "back"), [(0, 0), (2, 0), (99, 0), (99, 3)])
def test_a_process_that_is_killed_while_it_moves_files_loses_none(folder: Path, out: int, back: int) -> None:
    before = contents(folder)
    process = multiprocessing.get_context("fork").Process(target=killed_while_it_moves, args=(folder, out, back))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with replacing(folder, StudySettings(study="elms", resume=True)):
        assert contents(folder) == before


def test_a_run_that_resumes_goes_on_with_what_it_has(folder: Path) -> None:
    (folder / REPLACED).mkdir()
    for name in ("last.safetensors", "best.safetensors"):
        (folder / name).rename(folder / REPLACED / name)
    save_checkpoint(checkpoint(0, 2.0), folder / "last.safetensors")
    with replacing(folder, StudySettings(study="elms", resume=True)):
        assert replaced_results._rounds(folder) is not None
        save_checkpoint(checkpoint(1, 2.0), folder / "last.safetensors")
    assert not (folder / REPLACED).exists()
    assert not (folder / MOVING).exists()
