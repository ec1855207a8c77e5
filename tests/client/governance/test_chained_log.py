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
from shared_models import chained_log as shared_log
from shared_models import hash_chain


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "records" / "log.jsonl"
    for number in range(4):
        append(path, {"event": "charge", "number": number})
    return path


def lines(path):
    return path.read_text().splitlines(keepends=True)


def test_lines_come_back_in_order_and_name_the_one_before(log):
    lines = read(log)
    assert [line["number"] for line in lines] == [0, 1, 2, 3]
    assert [line["previous"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
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


AT_THE_END = [removed, cut_at_the_end, emptied, deleted, garbled, without_its_head, replaced_by_another_chain]


@pytest.mark.parametrize("spoil", [changed, reordered, *AT_THE_END])
def test_a_spoiled_file_is_refused_when_it_is_read_and_left_as_it_is(log, spoil):
    spoil(log)
    refused(log, lambda: read(log))


@pytest.mark.parametrize("spoil", AT_THE_END)
def test_an_append_refuses_a_file_that_does_not_end_as_its_head_says(log, spoil):
    spoil(log)
    refused(log, lambda: append(log, {"event": "charge"}))


def refused(log, attempt):
    before = log.read_bytes() if log.exists() else None
    with pytest.raises(SiteError, match="not as it was written") as caught:
        attempt()
    assert "to do" in str(caught.value)
    assert "log" not in caught.value.public
    assert (log.read_bytes() if log.exists() else None) == before


@pytest.mark.parametrize("spoil", [changed, reordered])
def test_what_was_changed_before_the_end_is_found_by_the_next_full_check_whatever_was_appended(log, spoil):
    spoil(log)
    append(log, {"event": "charge", "number": 4})
    with pytest.raises(SiteError, match="line"):
        read(log)


@pytest.mark.parametrize("key", ["lines", "hash", "start", "end"])
@pytest.mark.parametrize("value", [0, 3, -1, 10**9, "x", None, [], "0" * 64])
def test_a_head_that_was_edited_is_refused(log, key, value):
    head = log.with_name("log.jsonl.head")
    before = json.loads(head.read_text())
    head.write_text(json.dumps(before | {key: value}))
    with pytest.raises(SiteError):
        append(log, {"event": "charge"})


def test_a_head_of_the_version_that_noted_no_place_is_taken(log):
    head = log.with_name("log.jsonl.head")
    content = json.loads(head.read_text())
    head.write_text(json.dumps({"lines": content["lines"], "hash": content["hash"]}))
    assert append(log, {"event": "charge", "number": 4})["line"] == 5
    assert len(read(log)) == 5


STEPS = ("write", "fsync", "ftruncate", "truncate", "open", "close", "replace")


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
        lines = read(log)
        assert lines[: len(acknowledged)] == acknowledged
        assert len(lines) <= len(acknowledged) + 1
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert 8 < step < 39
    assert append(log, {"event": "after"})["line"] == len(lines) + 1


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
    answer = answers.get(timeout=60)
    process.join()
    assert "cannot be written" in answer
    assert "room on the disk" in answer
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


def hold(path, held, let_go):
    with chained_log.locked(path):
        held.set()
        let_go.wait(60)


def test_a_record_that_another_process_holds_is_waited_for_and_then_refused_with_one_sentence(log, monkeypatch):
    monkeypatch.setattr(shared_log, "LOCK_WAIT_S", 0.2)
    context = multiprocessing.get_context("fork")
    held, let_go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(log, held, let_go))
    process.start()
    assert held.wait(60)
    before = time.monotonic()
    with pytest.raises(SiteError, match="held by another process") as caught:
        append(log, {"event": "charge"})
    assert time.monotonic() - before >= 0.2
    assert caught.value.public == "the site cannot write its records: it takes no part until that is mended"
    assert len(read(log)) == 4  # reading waits for nobody
    let_go.set()
    process.join()
    append(log, {"event": "charge"})


def as_nobody(path, answers):
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        append(path, {"event": "charge"})
    except SiteError as error:
        answers.put(str(error))


def test_a_file_that_may_not_be_written_is_one_sentence(log):
    for folder in (log.parent, *log.parents[:3]):
        folder.chmod(0o755)
    log.parent.chmod(0o555)
    for file in log.parent.iterdir():
        file.chmod(0o444)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=as_nobody, args=(log, answers))
    process.start()
    answer = answers.get(timeout=60)
    process.join()
    log.parent.chmod(0o755)
    assert "a record of the site cannot be written" in answer
    assert len(read(log)) == 4


def test_what_is_decided_from_a_record_and_the_line_about_it_are_one_step(log):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_to, args=(log, 20)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [line["number"] for line in read(log) if line["event"] == "counted"] == list(range(1, 21))


def count_to(path, most):
    while True:
        with chained_log.locked(path) as record:
            last = record.newest("counted")
            if last and last["number"] == most:
                return
            record.append({"event": "counted", "number": last["number"] + 1 if last else 1})


def test_the_newest_line_of_an_event_is_found_behind_others_and_its_hash_is_checked(log):
    append(log, {"event": "note"})
    append(log, {"event": "note"})
    assert chained_log.newest(log, "charge")["number"] == 3
    assert chained_log.newest(log, "never") is None
    assert chained_log.newest(log.with_name("none.jsonl"), "charge") is None
    log.write_text(log.read_text().replace('"number": 3', '"number": 7'))
    with pytest.raises(SiteError, match="line 4"):
        chained_log.newest(log, "charge")


@pytest.mark.parametrize("before", [10, 10_000])
def test_an_append_hashes_two_lines_however_many_there_are(tmp_path, monkeypatch, before):
    path, hashed = tmp_path / "log.jsonl", []
    shared_log.append(path, *({"event": "sent", "number": number} for number in range(before)))
    plain = hash_chain.hash_of
    monkeypatch.setattr(hash_chain, "hash_of", lambda line: hashed.append(line["line"]) or plain(line))
    append(path, {"event": "sent"})
    assert hashed == [before, before + 1]


def test_lines_are_plain_json(log):
    assert json.loads(lines(log)[0])["event"] == "charge"
