from __future__ import annotations

import shutil
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from server.errors import CenterError, ExitCode
from server.operations import certificates
from server.operations.certificates import create_authority, issue_server_certificate, read_expiry, write_private

HOSTS = ("center.example.org", "192.0.2.7", "localhost", "127.0.0.1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "center")


def make(folder: Path) -> Path:
    folder.mkdir()
    create_authority(folder / "ca.crt", folder / "ca.key", HOSTS[0])
    issue_server_certificate(folder, HOSTS)
    return folder


def handshake(folder: Path, trusted: Path, host: str) -> None:
    """A TLS handshake in memory between a server with `folder`'s certificate and a client that trusts `trusted`."""
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    serving.load_cert_chain(folder / "server.crt", folder / "server.key")
    asking.load_verify_locations(trusted)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=host)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass


@pytest.mark.parametrize("host", HOSTS)
def test_client_that_trusts_the_authority_accepts_every_name(folder: Path, host: str) -> None:
    handshake(folder, folder / "ca.crt", host)


def test_another_name_is_refused(folder: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example\.org"):
        handshake(folder, folder / "ca.crt", "other.example.org")


def test_foreign_authority_of_the_same_name_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder, make(tmp_path / "foreign") / "ca.crt", HOSTS[0])


def test_expired_certificate_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "SERVER_LIFETIME", timedelta(seconds=-1))
    issue_server_certificate(folder, HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(folder, folder / "ca.crt", HOSTS[0])


def test_renewed_certificate_is_trusted_by_who_trusted_the_first(folder: Path) -> None:
    key, first = (folder / "server.key").read_bytes(), (folder / "server.crt").read_bytes()
    issue_server_certificate(folder, ("moved.example.org",))
    assert (folder / "server.key").read_bytes() == key
    assert (folder / "server.crt").read_bytes() != first
    handshake(folder, folder / "ca.crt", "moved.example.org")


def test_lost_authority_key_is_explained(folder: Path) -> None:
    (folder / "ca.key").unlink()
    with pytest.raises(CenterError, match="the authority's key") as raised:
        issue_server_certificate(folder, HOSTS)
    assert raised.value.exit_code == ExitCode.FILE


def test_lifetimes(folder: Path) -> None:
    assert timedelta(days=364) < read_expiry(folder / "server.crt") - datetime.now(UTC) < timedelta(days=366)
    assert timedelta(days=3650) < read_expiry(folder / "ca.crt") - datetime.now(UTC) < timedelta(days=3654)


def test_authority_can_sign_no_further_authority(folder: Path) -> None:
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_keys_are_the_owners_alone_and_never_overwritten(folder: Path) -> None:
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        with pytest.raises(FileExistsError):
            write_private(folder / name, b"other")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_the_chain(folder: Path) -> None:
    command = ["openssl", "verify", "-x509_strict", "-verify_hostname", HOSTS[0], "-CAfile", "ca.crt", "server.crt"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "server.crt: OK", answer.stderr
