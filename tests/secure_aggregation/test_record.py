"""What a site has done once it never does again: after a kill between any two steps, and beside another process."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from federation import question

from client.governance.secure_aggregation import record as module
from client.governance.secure_aggregation.record import Record
from shared_models.secure_aggregation.statements import Survivors
from shared_models.secure_aggregation.wire import ProtocolError

APPROVAL = "ab" * 32
ONE, TWO = (Survivors("00" * 32, sites, ("train",)) for sites in (("a", "b", "c"), ("a", "b")))


def sign(record: Record, survivors: Survivors, number: int = 1, sets: int = 3) -> None:
    record.sign_once(number, survivors, question(), {"train": survivors.sites}, sets)


STEPS: dict[str, Callable[[Record], object]] = {
    "begin": lambda record: record.begin_sum(1),
    "deal": lambda record: record.mark_dealt(1, "keys"),
    "use": lambda record: record.mark_used(1, question(), ["train"], 3),
    "sign": lambda record: sign(record, ONE),
}
AGAIN: dict[str, Callable[[Record], object]] = {
    **{name: STEPS[name] for name in ("begin", "deal")},
    "use": lambda record: record.mark_used(1, question(model=2.0), ["train"], 3),
    "sign": lambda record: sign(record, TWO),
}


def prepared(folder: Path, step: str) -> Record:
    """A record in which all steps before one are done."""
    record = Record(folder / "record.sqlite", APPROVAL)
    for name in list(STEPS)[: list(STEPS).index(step)]:
        STEPS[name](record)
    return record


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_taken_once(tmp_path: Path, step: str) -> None:
    record = prepared(tmp_path, step)
    STEPS[step](record)
    with pytest.raises(ProtocolError):
        AGAIN[step](record)


def kill_at(record: Record, step: str, statement: int) -> int:
    """Does a step in a child process that is killed before its n-th statement; its exit status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = [statement]

    def count(_: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    plain = module._open

    def traced(file: Path) -> sqlite3.Connection:
        connection = plain(file)
        connection.set_trace_callback(count)
        return connection

    module._open = traced
    try:
        STEPS[step](record)
    finally:
        os._exit(0)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_between_any_two_statements_leaves_a_step_done_or_not_begun(tmp_path: Path, step: str) -> None:
    statement = 0
    while True:
        record = prepared(tmp_path / str(statement), step)
        killed = kill_at(record, step, statement) != 0
        if not killed:
            with pytest.raises(ProtocolError):
                AGAIN[step](record)
            break
        AGAIN[step](record)  # whole or not at all: it was not committed, so another one may be
        with pytest.raises(ProtocolError):
            STEPS[step](record)
        statement += 1
    assert statement >= 2


TWO_PROCESSES = """
import sys
from pathlib import Path
from test_record import AGAIN, STEPS, Record, ProtocolError, APPROVAL
step = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
try:
    {"0": STEPS, "1": AGAIN}[sys.argv[3]][step](Record(Path(sys.argv[1]), APPROVAL))
    print("done")
except ProtocolError:
    print("refused")
"""


@pytest.mark.parametrize("step", ["use", "sign"])
def test_of_two_processes_one_takes_a_step(tmp_path: Path, step: str) -> None:
    record = prepared(tmp_path, step)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", TWO_PROCESSES, str(record.file), step]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": here}
    processes = [subprocess.Popen([*command, which], **pipes) for which in "01"]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(process.communicate()[0].strip() for process in processes) == ["done", "refused"]


def test_a_question_opens_again_over_the_same_sites_or_without_a_proved_cheat(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.sqlite", APPROVAL)
    for number in range(1, 7):
        record.begin_sum(number)
    sign(record, ONE, 1)
    sign(record, ONE, 1)
    sign(record, ONE, 2)
    with pytest.raises(ProtocolError, match="opened already"):
        sign(record, TWO, 3)
    for near in (question(model=2.0), question(round_=2), question(round_=2, unread=1)):
        with pytest.raises(ProtocolError, match="opened already"):
            record.sign_once(4, TWO, near, {"train": TWO.sites}, 3)
    record.add_cheat("c")
    sign(record, TWO, 5)
    with pytest.raises(ProtocolError, match="opened already"):
        sign(record, ONE, 6)


def test_another_block_of_the_same_round_is_another_question(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.sqlite", APPROVAL)
    record.begin_sum(1)
    record.begin_sum(2)
    sign(record, ONE, 1)
    record.sign_once(2, TWO, question(), {"genomic": TWO.sites}, 3)


def test_only_so_many_sets_of_survivors_as_approved(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.sqlite", APPROVAL)
    sets = [("a", "b", "c"), ("a", "b"), ("a", "b", "c"), ("b", "c")]
    for number, sites in enumerate(sets, 1):
        record.begin_sum(number)
        asked, over = question(round_=number, model=number), Survivors("00" * 32, sites, ("train",))
        if number < 4:
            record.sign_once(number, over, asked, {"train": sites}, 2)
            continue
        with pytest.raises(ProtocolError, match="more than the 2 that were approved"):
            record.sign_once(number, over, asked, {"train": sites}, 2)


def test_a_round_whose_end_a_site_has_not_seen_counts_as_a_set_of_survivors(tmp_path: Path) -> None:
    """A center that shows it to one site alone, or to all but one, would have that site's part of the round."""
    record, asked = Record(tmp_path / "record.sqlite", APPROVAL), [question(round_=n, model=n) for n in (1, 2, 3)]
    for number, one in enumerate(asked, 1):
        record.begin_sum(number)
        record.mark_used(number, one, ["train"], 3)
    record.sign_once(1, Survivors("00" * 32, ONE.sites, ("train",)), asked[0], {"train": ONE.sites}, 2)
    kind = asked[0].kind
    assert record.last_summed(kind, ["train"], 2, 2) == {"train": (0, 1)}, "that it has signed is no sum yet"
    with pytest.raises(ProtocolError, match="more than the 1 that were approved"):
        record.last_summed(kind, ["train"], 2, 1)
    record.settle(asked[0])
    assert record.last_summed(kind, ["train"], 2, 1) == {"train": (1,)}
    with pytest.raises(ProtocolError, match="more than the 2 that were approved"):
        record.last_summed(kind, ["train"], 4, 2)  # after two more without an end
    record.settle(asked[2])
    assert record.last_summed(kind, ["train", "genomic"], 4, 2) == {"train": (1,), "genomic": (0,)}


def test_the_folds_of_a_study_share_their_sets_of_survivors(tmp_path: Path) -> None:
    """A center that loses another site in each fold would else see it in the difference of the folds' sums."""
    folds = [Record(tmp_path / "record.sqlite", fold * 32, "ef" * 32) for fold in ("01", "02", "03")]
    sets = [("a", "b", "c"), ("a", "b"), ("b", "c")]

    def open_over(fold: Record, sites: tuple[str, ...]) -> None:
        fold.begin_sum(1)
        fold.sign_once(1, Survivors("00" * 32, sites, ("train",)), question(), {"train": sites}, 2)

    for fold, sites in zip(folds[:2], sets, strict=False):
        open_over(fold, sites)
    with pytest.raises(ProtocolError, match="more than the 2 that were approved"):
        open_over(folds[2], sets[2])
    for fold in folds:  # as a person who approves the study again makes it
        fold.begin_again()
    folds[2].sign_once(1, Survivors("00" * 32, sets[2], ("train",)), question(), {"train": sets[2]}, 1)


def test_attempts_and_kinds_are_counted_over_restarts(tmp_path: Path) -> None:
    file = tmp_path / "record.sqlite"
    for number in range(1, 6):
        Record(file, APPROVAL).begin_sum(number)
    Record(file, APPROVAL).mark_used(1, question(attempt=1), ["validation"], 2)
    with pytest.raises(ProtocolError, match="another kind"):
        Record(file, APPROVAL).mark_used(2, question("evaluate.validation", 2), ["validation"], 2)
    with pytest.raises(ProtocolError, match="another kind"):
        Record(file, APPROVAL).mark_used(2, question("evaluate.validation", 1, model=2.0), ["validation"], 2)
    Record(file, APPROVAL).mark_used(2, question("evaluate.validation", 2, model=2.0), ["validation"], 2)
    Record(file, APPROVAL).mark_used(3, question(attempt=2), ["validation"], 2)
    with pytest.raises(ProtocolError, match="asked 2 times already"):
        Record(file, APPROVAL).mark_used(4, question(attempt=3), ["validation"], 2)


def test_approvals_do_not_know_each_other(tmp_path: Path) -> None:
    one, other = (Record(tmp_path / "record.sqlite", approval * 32) for approval in ("ab", "cd"))
    one.begin_sum(5)
    other.begin_sum(1)
    assert (one.last_sum(), other.last_sum()) == (5, 1)


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    record = prepared(tmp_path, "deal")
    connection = sqlite3.connect(record.file)
    connection.execute("PRAGMA user_version = 4")
    connection.close()
    with pytest.raises(ProtocolError, match="cannot be read"):
        record.last_sum()
    assert record.file.stat().st_size > 0


UNWRITABLE = "the site's record of secure aggregation cannot be read or written: it is out until that is mended"


@pytest.mark.parametrize("step", STEPS)
def test_a_record_that_another_process_holds_is_refused_and_the_step_is_not_taken(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = prepared(tmp_path, step)
    record.last_sum()
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    other = sqlite3.connect(record.file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ProtocolError) as refusal:
        STEPS[step](record)
    assert str(refusal.value) == UNWRITABLE
    other.close()
    STEPS[step](record)


@pytest.mark.parametrize("step", STEPS)
def test_on_a_full_disk_a_step_is_refused_and_not_taken(tmp_path: Path, step: str) -> None:
    record = prepared(tmp_path, step)
    record.last_sum()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        try:
            STEPS[step](record)
        except ProtocolError as refusal:
            os._exit(0 if str(refusal) == UNWRITABLE else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    STEPS[step](record)
