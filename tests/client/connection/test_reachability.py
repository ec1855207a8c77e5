from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import TypeAdapter, ValidationError

from client.connection.clock import is_refused, says_otherwise
from client.connection.reachability import check_server, connection_remark
from client.contract.addresses import Address, joined_address, split_address
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

        def start(
            certificate: Path,
            key: Path,
            newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
            ahead: timedelta = timedelta(),
        ) -> str:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            context.maximum_version = newest

            def answer(connection: socket.socket) -> None:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(4096)
                    date = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
                    secure.sendall(f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())

            return f"localhost:{stack.enter_context(listening(answer))}"

        yield start


def refusal(address: str, ca: Path, timeout_s: float = 5.0) -> str:
    with pytest.raises(SiteError) as refused:
        check_server(address, ca, timeout_s)
    assert refused.value.exit_code == ExitCode.SERVER_UNREACHABLE
    return str(refused.value)


def test_accepts_a_server_that_this_ca_signed(serve: Serve, tmp_path: Path) -> None:
    address = serve(*signed(tmp_path, "localhost"))
    assert check_server(address, tmp_path / "ca.crt").protection.startswith("TLSv1.3, its certificate is valid until ")


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
    wanted = b"Proxy-Authorization: Basic " + base64.b64encode(b"dmz:s3:cr@t")

    def relay(connection: socket.socket) -> None:
        head = connection.recv(4096).split(b"\r\n")
        asked.append(head[0])
        if wanted not in head:
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(split_address(address)) as onward:
            back = threading.Thread(target=copy, args=(onward, connection))
            back.start()
            copy(connection, onward)
            back.join()

    with listening(relay) as port:
        monkeypatch.setenv("NO_PROXY", "")
        for user, request in (
            ("", "asks for a user and a password"),
            ("dmz:wr0ng@", "asks for another user or password"),
        ):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{user}127.0.0.1:{port}")
            message = refusal(address, tmp_path / "ca.crt")
            assert f"the web proxy 127.0.0.1:{port} {request}" in message
            assert "wr0ng" not in message
        asked.clear()
        monkeypatch.setenv("HTTPS_PROXY", f"http://dmz:s3%3Acr%40t@127.0.0.1:{port}")
        assert check_server(address, tmp_path / "ca.crt").protection.startswith("TLSv1.3")
    assert [line.rsplit(b" ", 1)[0] for line in asked] == [f"CONNECT {address}".encode()]
    message = refusal(address, tmp_path / "ca.crt")
    assert f"the web proxy refuses the connection: 127.0.0.1:{port}" in message
    assert "s3" not in message
    monkeypatch.setenv("HTTPS_PROXY", "socks5://dmz:s3cret@127.0.0.1:port")
    message = refusal(address, tmp_path / "ca.crt")
    assert "the web proxy's address cannot be used" in message
    assert "s3cret" not in message


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_clock_that_the_center_would_refuse_is_told(serve: Serve, tmp_path: Path) -> None:
    files = signed(tmp_path, "localhost")
    address = serve(*files, ahead=timedelta(seconds=-60))
    began = time.time()
    ahead_s = check_server(address, tmp_path / "ca.crt").ahead_s
    # Of the time that the exchange took it takes the middle, and of the server's second, too.
    assert ahead_s == pytest.approx(60, abs=0.5 + (time.time() - began) / 2)
    assert is_refused(ahead_s)
    assert "this computer's clock is" in connection_remark(address, tmp_path / "ca.crt")
    right = serve(*files)
    assert says_otherwise(check_server(right, tmp_path / "ca.crt").ahead_s) == ""
    assert connection_remark(right, tmp_path / "ca.crt") == ""
    ended = serve(*signed(tmp_path, "localhost", start=-20 * DAY, end=-10 * DAY))
    assert "the server's certificate has expired (for localhost" in connection_remark(ended, tmp_path / "ca.crt")
    assert (is_refused(-200.0), is_refused(-301.0), is_refused(None)) == (False, True, False)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("https://center.example.org", "without https://"),
        ("center..example.org:443", "between dots"),
        ("c" * 64 + ".example.org", "between dots"),
        ("center.example.org:84430", "no number from 1 to 65535"),
        ("center.example.org:", "the port '' is no number"),
        ("2001:db8::1", "is in brackets"),
        ("[2001:db8::zz]:443", "is no IPv6 address"),
        ("center_1.example.org", "a host's name has no '_'"),
        ("dmz:s3cret@center.example.org", "without a user or a password"),
        ("center.example.org:8443", ""),
        ("[2001:db8::1]:8443", ""),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_in_words(address: str, text: str) -> None:
    check = TypeAdapter(Address)
    if not text:
        assert joined_address(*split_address(check.validate_python(address))) == address
        return
    with pytest.raises(ValidationError) as refused:
        check.validate_python(address)
    message = refused.value.errors()[0]["msg"]
    assert text in message
    assert "s3cret" not in message


def test_port_is_443_where_none_is_named() -> None:
    assert split_address("center.example.org") == ("center.example.org", 443)
    assert split_address("center.example.org:8443") == ("center.example.org", 8443)
