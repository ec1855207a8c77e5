"""Reachability test of the center's server: DNS, TCP, TLS, certificate and name, each with its own error."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from client.errors import ExitCode, SiteError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 10.0
EXPIRED, NOT_YET_VALID, WRONG_NAMES = 10, 9, (62, 64)  # OpenSSL's X509_V_ERR_*
CLOCK = "if the date looks right, compare this computer's clock; otherwise ask the center to renew it"


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as its parts; the port is 443 where none is named."""
    host, _, port = address.partition(":")
    return host, int(port or 443)


def check_server(address: str, ca_certificate: Path, timeout_s: float = TIMEOUT_S) -> str:
    """Connects, and lets the server prove its name with a certificate that this CA signed.

    Args:
        address: `host[:port]` of the center's proxy.
        ca_certificate: The only authority that is trusted.
        timeout_s: For each step.

    Returns:
        How the connection is protected ("TLSv1.3, its certificate is valid until ...").

    Raises:
        SiteError: With what stands between this site and the center.
    """
    host, port = split_address(address)
    context = ssl.create_default_context(cafile=str(ca_certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _connect(host, port, timeout_s) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                valid = (secure.getpeercert() or {}).get("notAfter", "unknown")
                return f"{secure.version()}, its certificate is valid until {valid}"
        except ssl.SSLCertVerificationError as error:
            _refuse_certificate(address, ca_certificate, error)
        except (ssl.SSLError, OSError) as error:
            _fail(
                "the server answers, but not with TLS 1.2 or newer",
                address,
                found=_reason(error),
                fix="compare host and port with what the center told you; a firewall that opens TLS looks the same",
            )


def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    address = f"{host}:{port}"
    proxy = _proxy(host)
    through = f" through the proxy {proxy}" if proxy else ""
    try:
        return _tunnel(proxy, host, port, timeout_s) if proxy else socket.create_connection((host, port), timeout_s)
    except socket.gaierror as error:
        fix = "compare `center.address` with what the center told you; ask your network team whether this name resolves"
        _fail(f"the center's name is unknown here{through}", address, found=_reason(error), fix=fix)
    except ConnectionRefusedError:
        fix = "compare the port; ask the center whether its server runs"
        _fail(f"the center's computer refuses the connection{through}", address, found="connection refused", fix=fix)
    except TimeoutError:
        fix = f"ask your network team to let this computer reach {address} (outgoing TCP); no incoming port is needed"
        _fail(f"the center does not answer{through}", address, found=f"nothing within {timeout_s:.0f} s", fix=fix)
    except OSError as error:
        fix = "ask your network team whether this computer may reach that address"
        _fail(f"the center cannot be reached{through}", address, found=_reason(error), fix=fix)


def _proxy(host: str) -> str:
    """The web proxy that Flower's HTTP client would take from the environment, or nothing."""
    if urllib.request.proxy_bypass(host):
        return ""
    proxies = urllib.request.getproxies()
    return proxies.get("https") or proxies.get("all") or ""


def _tunnel(proxy: str, host: str, port: int, timeout_s: float) -> socket.socket:
    from http.client import HTTPConnection

    place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = HTTPConnection(place.hostname or "", place.port or 80, timeout=timeout_s)
    connection.set_tunnel(host, port)
    try:
        connection.connect()
    except OSError:
        connection.close()
        raise
    return connection.sock


def _refuse_certificate(address: str, ca_certificate: Path, error: ssl.SSLCertVerificationError) -> NoReturn:
    presented = _presented(address)
    if error.verify_code in WRONG_NAMES:
        fix = "put the name that the certificate holds into `center.address`, or ask the center which is right"
        _fail("the server's certificate is for another name", address, found=presented, expected=address, fix=fix)
    if error.verify_code == EXPIRED:
        _fail("the server's certificate has expired", address, found=presented, fix=CLOCK)
    if error.verify_code == NOT_YET_VALID:
        _fail("the server's certificate is not valid yet", address, found=presented, fix=CLOCK)
    _fail(
        "the server's certificate was not signed by the center's CA: do not join",
        address,
        found=f"{presented} ({error.verify_message})",
        expected=f"one signed by {ca_certificate}",
        fix="ask the center for its present ca.crt; if it is the same, something between you and the center opens TLS",
    )


def _presented(address: str) -> str:
    """What the refused certificate says of itself; nothing is believed of it."""
    from cryptography import x509

    try:
        pem = ssl.get_server_certificate(split_address(address), timeout=TIMEOUT_S)
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return "a certificate without names"
    listed = ", ".join(str(name.value) for name in names)
    days = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"for {listed}; signed by {certificate.issuer.rfc4514_string()}; valid {days}"


def _reason(error: OSError) -> str:
    return str(error.strerror or error)


def _fail(what: str, address: str, *, found: str = "", expected: str = "", fix: str = "") -> NoReturn:
    raise SiteError(
        what,
        where=address,
        found=found,
        expected=expected,
        fix=fix,
        public="the site cannot reach the center",
        exit_code=ExitCode.SERVER_UNREACHABLE,
    )
