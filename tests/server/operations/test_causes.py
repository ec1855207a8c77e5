from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from server.operations import causes, certificates
from server.operations.causes import likely_cause
from server.operations.center import Center
from server.operations.certificates import create_authority, issue_server_certificate


def center_of(folder: Path) -> Center:
    create_authority(folder / "ca.crt", folder / "ca.key", "localhost")
    issue_server_certificate(folder, ["localhost"])
    return Center(folder, "localhost:443", 8000, 443)


def test_a_center_in_order_gives_no_cause(tmp_path: Path) -> None:
    assert likely_cause(center_of(tmp_path)) == ("", "")


def test_an_expired_certificate_is_a_cause_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "SERVER_LIFETIME", timedelta(seconds=-10))
    monkeypatch.setattr(certificates, "CLOCK_SKEW", timedelta(days=1))
    cause, fix = likely_cause(center_of(tmp_path))
    assert "the server certificate expired on" in cause
    assert "server init --renew" in fix


def test_a_certificate_that_cannot_be_read_is_a_cause_and_no_error_of_its_own(tmp_path: Path) -> None:
    center = center_of(tmp_path)
    for content in (None, "no certificate"):
        (tmp_path / "server.crt").unlink() if content is None else (tmp_path / "server.crt").write_text(content)
        cause, fix = likely_cause(center)
        assert "server.crt is not there, or is no certificate" in cause
        assert "server init --renew" in fix


def test_a_full_disk_is_a_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "FULL_BYTES", 2**60)
    assert f"the disk of {tmp_path} is full" in likely_cause(center_of(tmp_path))[0]
