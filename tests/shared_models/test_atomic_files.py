import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared_models import chained_log
from shared_models.atomic_files import DRAFT_PREFIX, atomic_path, scratch, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("content", "written"), [("a\r\nä\n", b"a\r\n\xc3\xa4\n"), (b"\0\xff", b"\0\xff")])
def test_content_is_written_as_it_is_and_nothing_is_left_beside_it(tmp_path, content, written):
    file = tmp_path / "new" / "file"
    write_atomically(file, "earlier, and longer than what comes")
    write_atomically(file, content)
    assert file.read_bytes() == written
    assert names(file.parent) == ["file"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "own" / "file", "x")
        write_atomically(tmp_path / "public", "x", mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "own" / "file").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "own").stat().st_mode & 0o077 == 0
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_goes_wrong_on_the_way_leaves_the_old_file_and_no_draft(tmp_path, raised):
    file = tmp_path / "file"
    write_atomically(file, "old")

    def write_half():
        with atomic_path(file) as draft:
            draft.write_text("half of the ne")
            raise raised

    with pytest.raises(raised):
        write_half()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_nobody_else_can_read_a_draft(tmp_path):
    with atomic_path(tmp_path / "file", mode=0o644) as draft:
        assert draft.parent == tmp_path
        assert draft.stat().st_mode & 0o777 == 0o600


def test_a_folder_in_the_files_place_is_an_oserror_and_leaves_no_draft(tmp_path):
    (tmp_path / "file" / "within").mkdir(parents=True)
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file", "x")
    assert names(tmp_path) == ["file"]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file_and_a_draft_known_by_its_name(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, "old")
    program = (
        "import os, pathlib, sys\n"
        "from shared_models.atomic_files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half of the ne')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    assert [name.startswith(DRAFT_PREFIX) for name in names(tmp_path) if name != "file"] == [True]


def test_nothing_in_a_scratch_folder_is_synced_and_all_else_is(tmp_path, monkeypatch):
    synced: list[str] = []
    real = os.fsync

    def seen(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", seen)
    with scratch(tmp_path / "made"):
        write_atomically(tmp_path / "made" / "site" / "file", "x")
        chained_log.append(tmp_path / "made" / "site" / "log.jsonl", {"event": "sent"})
        assert synced == []
        write_atomically(tmp_path / "mademoiselle" / "file", "x")
        chained_log.append(tmp_path / "log.jsonl", {"event": "sent"})
    assert {str(tmp_path / "mademoiselle"), str(tmp_path / "log.jsonl")} <= {*synced}
    synced.clear()
    write_atomically(tmp_path / "made" / "file", "x")
    assert synced, "a hospital's own files always are"
    assert [line["event"] for line in chained_log.read(tmp_path / "made" / "site" / "log.jsonl")] == ["sent"]
