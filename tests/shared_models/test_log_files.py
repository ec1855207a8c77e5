from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from shared_models import log_files
from shared_models.log_files import LOG_BYTES, LOG_FILES, empty_full_log, log_file

APPENDS = """
import sys
with open(sys.argv[1], "a") as log:
    for line in sys.stdin:
        log.write(line), log.flush(), print(flush=True)
"""


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    log = logging.Logger("server")
    yield log
    for handler in log.handlers:
        handler.close()


def test_json_line_is_one_line_whatever_it_holds(tmp_path: Path, log: logging.Logger) -> None:
    path = tmp_path / "study.log"
    log.addHandler(log_file(path, logging.Formatter(), as_json=True))
    message = 'site "oak"\n{"level": "INFO"}\x1b[0m \u2028 \udc80'
    log.warning("%s", message)
    try:
        raise ValueError("of a sort")
    except ValueError:
        log.exception("the study ends")
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("WARNING", "server", message)
    assert datetime.fromisoformat(first["time"]).utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    assert "ValueError: of a sort" in second["error"]


def test_log_is_bounded_and_its_owners_alone(tmp_path: Path, log: logging.Logger) -> None:
    path = tmp_path / "study.log"
    path.write_text("of before\n")
    path.chmod(0o600)
    log.addHandler(log_file(path, logging.Formatter("%(message)s"), as_json=False))
    for number in range(8):
        log.warning("%d %s", number, "x" * (LOG_BYTES - 10))
    files = sorted(tmp_path.iterdir())
    assert len(files) == LOG_FILES + 1
    assert all(file.stat().st_size <= LOG_BYTES and file.stat().st_mode & 0o077 == 0 for file in files)
    assert [file.read_text()[0] for file in files] == ["7", "6", "5", "4", "3", "2"]


def test_log_that_another_program_holds_open_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "LOG_BYTES", 10)
    path = tmp_path / "superlink.log"
    writer = subprocess.Popen(
        [sys.executable, "-S", "-c", APPENDS, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin
    assert writer.stdout
    for number in range(9):
        writer.stdin.write(f"line number {number}\n")
        writer.stdin.flush()
        writer.stdout.readline()
        empty_full_log(path)
        assert path.read_text() == ""
    writer.communicate("short\n")
    empty_full_log(path)
    older = [path.with_name(f"superlink.log.{number}").read_text() for number in range(1, LOG_FILES + 1)]
    assert path.read_text() == "short\n"
    assert older == [f"line number {number}\n" for number in (8, 7, 6, 5, 4)]
    assert len(list(tmp_path.iterdir())) == LOG_FILES + 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_writes_no_traceback_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    handler = log_file(Path("/dev/full"), logging.Formatter(), as_json=False)
    handler.emit(logging.makeLogRecord({"msg": "round 3: answer to train sent"}))
    with suppress(OSError):  # what could not be written is tried once more
        handler.close()
    assert capsys.readouterr().err == ""
