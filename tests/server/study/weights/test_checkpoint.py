import json
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from server.study.enrolment import Enrolment
from server.study.exchange import StudyError
from server.study.weights.checkpoint import (
    FORMAT,
    FORMAT_VERSION,
    Checkpoint,
    approval_notice,
    describe,
    load_checkpoint,
    only_run,
    require_own_folder,
    save_checkpoint,
)
from shared_models.agreed import settings_hash
from shared_models.metrics.summary import shape_of_counts
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Target, TimeToEvent


def checkpoint(server_round: int, size: int = 4) -> Checkpoint:
    return Checkpoint(
        config={"study": "s", "rounds": 9},
        round=server_round,
        model={"w": np.full(size, server_round, np.float32), "n": np.array(3, np.int64)},
        rule_state={"m_t/w": np.ones(2)},
        statistics={"features.clinical.known": np.array([1.0, 2.0])},
        enrolled={"a": Enrolment(True, {"train": 3}, {"clinical": 3}, 0)},
        history=({"round": 1, "counted": ["a"]},),
        values=((0, float("nan")), (1, 0.75)),
        best_round=1,
        best_value=0.75,
    )


def test_a_disk_without_room_is_a_sentence_and_leaves_the_last_round(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(1), tmp_path / "last.safetensors")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(StudyError, match="the center cannot write a file of the study") as error:
            save_checkpoint(checkpoint(2, size=10_000), tmp_path / "last.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in str(error.value)
    assert "resume=true" in str(error.value)
    assert load_checkpoint(tmp_path / "last.safetensors").round == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


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
    for read in (lambda: load_checkpoint(path), lambda: require_own_folder(tmp_path)):
        with pytest.raises(StudyError, match=r"last\.safetensors: the checkpoint is damaged .* move it away"):
            read()
    with pytest.raises(StudyError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "missing")
    require_own_folder(tmp_path / "empty")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"study": "{}"}, "written by an earlier release, or by another program, and this release reads format 4"),
        (None, "by an earlier release"),
        ({"format": FORMAT, "format_version": "2"}, "written in format 2, and this release reads format 4 only"),
        ({"format": FORMAT, "format_version": "5"}, "written in format 5, and this release reads format 4 only"),
    ],
)
def test_a_checkpoint_of_another_format_is_refused_and_stays_as_it_is(
    tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    path = tmp_path / "s" / "best.safetensors"
    path.parent.mkdir()
    path.write_bytes(save({"model:w": np.ones(2)}, metadata=metadata))
    before = path.read_bytes()
    for read in (lambda: load_checkpoint(path), lambda: require_own_folder(path.parent)):
        with pytest.raises(StudyError, match=message):
            read()
    assert path.read_bytes() == before


# Format 2 had 1,024 bins of risk: its counts cannot be added to today's, and a resumed study ended in a traceback.
OF_PAIRS = dict.fromkeys(["cases", "others", "comparable", "concordant", "disjoint", "variance"], ())
SHAPES_OF_COUNTS = {
    Binary(): {
        "scores": dict.fromkeys(["positives", "negatives"], (1024,)),
        "calibration": dict.fromkeys(["counts", "predicted", "observed", "squared_error"], (16,)),
        "within_site": OF_PAIRS,
    },
    TimeToEvent((365.0, 730.0), 5 * 365.25): {
        "concordance": dict.fromkeys(["events", "censored"], (181, 256)),
        "within_site": OF_PAIRS,
        "horizon": {"events": (12, 1024), "free": (1024,), "events_by_step": (120,), "censored_by_step": (120,)},
        "within_site_at_horizon": OF_PAIRS,
    },
}


@pytest.mark.parametrize("target", SHAPES_OF_COUNTS)
def test_counts_of_another_shape_are_another_format_of_checkpoint(target: Target) -> None:
    expected = {f"{of}.{name}": s for of, shapes in SHAPES_OF_COUNTS[target].items() for name, s in shapes.items()}
    assert (FORMAT_VERSION, shape_of_counts(target)) == ("4", expected), "raise CHECKPOINT_VERSION with the shapes"


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(checkpoint(2), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StudyError, match="damaged"):
        load_checkpoint(path)


def test_only_what_hospitals_approved_makes_them_approve_anew() -> None:
    before = StudySettings(rounds=20).to_flat()
    assert approval_notice(before, StudySettings(rounds=20, resume=True, join_timeout_s=1.0)) == ""
    longer = StudySettings(rounds=30, resume=True)
    notice = approval_notice(before, longer)
    assert notice.startswith("rounds is 30, was 20: hospitals approved the study as it was")
    assert settings_hash(longer) in notice


def _keep_saving(path: str) -> None:
    for number in range(1, 10_000):
        save_checkpoint(checkpoint(number, size=200_000), Path(path))


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.13, 0.29])
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path, delay_s: float) -> None:
    path = tmp_path / "last.safetensors"
    process = multiprocessing.get_context("spawn").Process(target=_keep_saving, args=(str(path),))
    process.start()
    while not path.exists():
        assert process.is_alive()
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
