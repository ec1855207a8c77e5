"""The append-only record behind the privacy ledger and the audit log."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import time

import pytest

from client.errors import SiteError
from client.governance import chained_log
from client.governance.chained_log import append, read


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "records" / "log.jsonl"
    for number in range(4):
        append(path, {"event": "charge", "number": number})
    return path


def lines(path):
    return path.read_text().splitlines(keepends=True)


def test_lines_come_back_in_order_and_name_the_one_before(log):
    found = read(log)
    assert [line["number"] for line in found] == [0, 1, 2, 3]
    assert [line["previous"] for line in found[1:]] == [line["hash"] for line in found[:-1]]
    assert log.stat().st_mode & 0o077 == 0


def changed(path):
    path.write_text(path.read_text().replace('"number": 1', '"number": 7'))


def removed(path):
    path.write_text("".join(lines(path)[:1] + lines(path)[2:]))


def reordered(path):
    first, second, *rest = lines(path)
    path.write_text("".join([second, first, *rest]))


def cut_at_the_end(path):
    path.write_text("".join(lines(path)[:-1]))


def emptied(path):
    path.write_text("")


def deleted(path):
    path.unlink()


def garbled(path):
    path.write_bytes(b"\xff\xfe" + path.read_bytes())


def without_its_head(path):
    path.with_name("log.jsonl.head").unlink()


def replaced_by_another_chain(path):
    other = path.with_name("other.jsonl")
    for number in range(5):
        append(other, {"event": "charge", "number": number, "another": True})
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    "spoil",
    [
        changed,
        removed,
        reordered,
        cut_at_the_end,
        emptied,
        deleted,
        garbled,
        without_its_head,
        replaced_by_another_chain,
    ],
)
def test_a_spoiled_file_is_refused_and_left_as_it_is(log, spoil):
    spoil(log)
    before = log.read_bytes() if log.exists() else None
    for attempt in (lambda: read(log), lambda: append(log, {"event": "charge"})):
        with pytest.raises(SiteError, match="not as it was written") as caught:
            attempt()
        assert "to do" in str(caught.value)
        assert "log" not in caught.value.public
    assert (log.read_bytes() if log.exists() else None) == before


STEPS = ("write", "fsync", "truncate", "open", "close", "replace")


def killed_at(path, step):
    """Appends in a process that kills itself before the given one of its calls to the system."""
    calls = 0

    def counted(plain):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    append(path, {"event": "charge", "number": "last"})


def test_a_kill_at_any_step_leaves_all_acknowledged_lines(log):
    context = multiprocessing.get_context("fork")
    for step in range(1, 40):
        acknowledged = read(log)
        process = context.Process(target=killed_at, args=(log, step))
        process.start()
        process.join()
        found = read(log)
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) <= len(acknowledged) + 1
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert 8 < step < 39
    assert append(log, {"event": "after"})["line"] == len(found) + 1


def test_half_a_line_is_dropped_by_the_next(log):
    with log.open("a") as file:
        file.write('{"line": 5, "eve')
    assert len(read(log)) == 4
    append(log, {"event": "charge", "number": 4})
    assert [line["number"] for line in read(log)] == [0, 1, 2, 3, 4]


def on_a_full_disk(path, room, answers):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        append(path, {"event": "charge", "number": "lost"})
    except SiteError as error:
        answers.put(str(error))


def test_a_full_disk_is_an_error_and_loses_nothing(log):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=on_a_full_disk, args=(log, log.stat().st_size + 20, answers))
    process.start()
    said = answers.get(timeout=60)
    process.join()
    assert "cannot be written" in said
    assert "room on the disk" in said
    assert len(read(log)) == 4
    append(log, {"event": "charge", "number": 4})
    assert len(read(log)) == 5


def test_a_file_in_the_way_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "records").write_text("a file")
    with pytest.raises(SiteError, match="cannot be written"):
        append(tmp_path / "records" / "log.jsonl", {"event": "charge"})


def test_a_clock_set_back_is_refused_until_a_person_says_so(log, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    append(log, {"event": "charge", "number": 4})  # summer time, or a small correction
    monkeypatch.setattr(time, "time", lambda: now - 3 * 86_400)
    with pytest.raises(SiteError, match="clock is behind"):
        append(log, {"event": "charge"})
    assert len(read(log)) == 5
    append(log, {"event": chained_log.CLOCK_SET})
    append(log, {"event": "charge"})
    assert len(read(log)) == 7


def many(path, number):
    for _ in range(10):
        append(path, {"event": "charge", "number": number})


def test_several_processes_may_append(log):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=many, args=(log, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read(log)) == 34


def test_lines_are_plain_json(log):
    assert json.loads(lines(log)[0])["event"] == "charge"
