import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from server.study.checkpoint import Checkpoint, describe, load_checkpoint, only_run, save_checkpoint
from server.study.exchange import StudyError


def checkpoint(server_round: int, size: int = 4) -> Checkpoint:
    return Checkpoint(
        config={"study": "s", "rounds": 9},
        round=server_round,
        model={"w": np.full(size, server_round, np.float32), "n": np.array(3, np.int64)},
        rule_state={"m_t/w": np.ones(2)},
        statistics={"features.clinical.known": np.array([1.0, 2.0])},
        enrolled={"a": {"trains": 1.0}},
        history=({"round": 1, "counted": ["a"]},),
        values=((0, float("nan")), (1, 0.75)),
        best_round=1,
        best_value=0.75,
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = checkpoint(2)
    save_checkpoint(saved, tmp_path / "s" / "last.safetensors")
    loaded = load_checkpoint(tmp_path / "s" / "last.safetensors")
    for group in ("model", "rule_state", "statistics", "validation"):
        assert set(getattr(loaded, group)) == set(getattr(saved, group))
        for name, array in getattr(saved, group).items():
            np.testing.assert_array_equal(getattr(loaded, group)[name], array)
            assert getattr(loaded, group)[name].dtype == array.dtype
    assert (loaded.round, loaded.config, loaded.enrolled, loaded.history) == (
        2,
        saved.config,
        saved.enrolled,
        saved.history,
    )
    assert loaded.values[1] == (1, 0.75)
    described = describe(tmp_path, "s")
    assert described is not None
    assert described["round"] == 2
    assert describe(tmp_path, "other") is None


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x04N.", json.dumps({"a": 1}).encode()])
def test_a_file_that_is_no_checkpoint_is_refused_and_never_unpickled(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="no usable checkpoint"):
        load_checkpoint(path)
    with pytest.raises(StudyError, match="no usable checkpoint"):
        load_checkpoint(tmp_path / "missing")


def _keep_saving(path: str) -> None:
    for number in range(1, 10_000):
        save_checkpoint(checkpoint(number, size=200_000), Path(path))


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.13, 0.29])
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path, delay_s: float) -> None:
    path = tmp_path / "last.safetensors"
    process = multiprocessing.get_context("spawn").Process(target=_keep_saving, args=(str(path),))
    process.start()
    while not path.exists():
        time.sleep(0.005)
    time.sleep(delay_s)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    loaded = load_checkpoint(path)
    np.testing.assert_array_equal(loaded.model["w"], loaded.round)
    with only_run(tmp_path):
        assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "last.safetensors"]


def test_two_runs_of_one_study_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(StudyError, match="another run of this study"), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass
