from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from client.connection.reachability import check_server, split_address
from client.errors import ExitCode, SiteError

DAY = timedelta(days=1)
Serve = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def signed(
    folder: Path, name: str, start: timedelta = -DAY, end: timedelta = 9 * DAY, ca: str = "ca"
) -> tuple[Path, Path]:
    """A server certificate for `name`, by the authority whose `{ca}.crt` it writes beside it."""
    now, authority, key = (
        datetime.now(UTC),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"The {ca}")])

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey, is_ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + (-DAY if is_ca else start))
            .not_valid_after(now + (9 * DAY if is_ca else end))
            .add_extension(x509.BasicConstraints(is_ca, None), True)
        )

    own = certificate(issuer, authority.public_key(), True).sign(authority, hashes.SHA256())
    (folder / f"{ca}.crt").write_bytes(own.public_bytes(Encoding.PEM))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    server = certificate(subject, key.public_key(), False).add_extension(names, False).sign(authority, hashes.SHA256())
    (folder / "server.crt").write_bytes(server.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "server.crt", folder / "server.key"


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A loopback server that gives each connection to `answer`."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def loop() -> None:
            while not stop.is_set():
                with suppress(OSError), listener.accept()[0] as connection:
                    connection.settimeout(5)
                    answer(connection)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(certificate: Path, key: Path, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> str:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            context.maximum_version = newest

            def answer(connection: socket.socket) -> None:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)

            return f"localhost:{stack.enter_context(listening(answer))}"

        yield start


def refusal(address: str, ca: Path, timeout_s: float = 5.0) -> str:
    with pytest.raises(SiteError) as refused:
        check_server(address, ca, timeout_s)
    assert refused.value.exit_code == ExitCode.SERVER_UNREACHABLE
    return str(refused.value)


def test_accepts_a_server_that_this_ca_signed(serve: Serve, tmp_path: Path) -> None:
    address = serve(*signed(tmp_path, "localhost"))
    assert check_server(address, tmp_path / "ca.crt").startswith("TLSv1.3, its certificate is valid until ")


def test_refuses_another_authority(serve: Serve, tmp_path: Path) -> None:
    address = serve(*signed(tmp_path, "localhost", ca="stranger"))
    signed(tmp_path, "localhost", ca="ca")
    message = refusal(address, tmp_path / "ca.crt")
    assert "was not signed by the center's CA: do not join" in message
    assert "signed by CN=The stranger" in message


def test_refuses_another_name(serve: Serve, tmp_path: Path) -> None:
    message = refusal(serve(*signed(tmp_path, "center.example.org")), tmp_path / "ca.crt")
    assert "for another name" in message
    assert "for center.example.org" in message


@pytest.mark.parametrize(("start", "end", "words"), [(-9, -1, "has expired"), (1, 9, "is not valid yet")])
def test_refuses_a_certificate_out_of_its_time(serve: Serve, tmp_path: Path, start: int, end: int, words: str) -> None:
    message = refusal(serve(*signed(tmp_path, "localhost", start * DAY, end * DAY)), tmp_path / "ca.crt")
    assert f"the server's certificate {words}" in message
    assert "clock" in message


def test_refuses_a_server_without_tls(tmp_path: Path) -> None:
    signed(tmp_path, "localhost")
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert "not with TLS 1.2 or newer" in refusal(f"localhost:{port}", tmp_path / "ca.crt")


def test_tells_refused_from_unknown_from_silent(tmp_path: Path) -> None:
    signed(tmp_path, "localhost")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = refusal(f"localhost:{port}", tmp_path / "ca.crt", timeout_s=0.2)
    assert "not with TLS" in silent
    assert "refuses the connection" in refusal(f"localhost:{port}", tmp_path / "ca.crt")
    assert "name is unknown here" in refusal("center.invalid", tmp_path / "ca.crt")


def test_goes_through_the_proxy_that_flower_would_take(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(*signed(tmp_path, "localhost"))
    asked: list[bytes] = []

    def relay(connection: socket.socket) -> None:
        asked.append(connection.recv(4096).split(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(split_address(address)) as onward:
            back = threading.Thread(target=copy, args=(onward, connection))
            back.start()
            copy(connection, onward)
            back.join()

    with listening(relay) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        assert check_server(address, tmp_path / "ca.crt").startswith("TLSv1.3")
    assert [line.rsplit(b" ", 1)[0] for line in asked] == [f"CONNECT {address}".encode()]
    assert "through the proxy http://127.0.0.1" in refusal(address, tmp_path / "ca.crt")


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_port_is_443_where_none_is_named() -> None:
    assert split_address("center.example.org") == ("center.example.org", 443)
    assert split_address("center.example.org:8443") == ("center.example.org", 8443)
