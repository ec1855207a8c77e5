"""Reachability test of the center's server: DNS, proxy, TCP, TLS, certificate, name, clock, each with its own error."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from client.connection.clock import SET, is_refused, says_otherwise, seconds_ahead
from client.connection.web_proxy import ProxyError, web_proxy
from client.contract.addresses import joined_address, split_address
from client.errors import ExitCode, SiteError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 10.0
EXPIRED, NOT_YET_VALID, WRONG_NAMES = 10, 9, (62, 64)  # OpenSSL's X509_V_ERR_*
CLOCK = "if the date looks right, compare this computer's clock; otherwise ask the center to renew it"


@dataclass(frozen=True)
class Reached:
    """A server that has proved to be the center.

    Attributes:
        protection: How the connection is protected ("TLSv1.3, its certificate is valid until ...").
        ahead_s: How far this computer's clock is ahead of its own; None where it does not say its time.
    """

    protection: str
    ahead_s: float | None


def check_server(address: str, ca_certificate: Path, timeout_s: float = TIMEOUT_S) -> Reached:
    """Connects, lets the server prove its name with a certificate that this CA signed, and asks for its time.

    Args:
        address: `host[:port]` of the center's proxy.
        ca_certificate: The only authority that is trusted.
        timeout_s: For each step.

    Raises:
        SiteError: With what prevents a connection to the center.
    """
    host, port = split_address(address)
    context = ssl.create_default_context(cafile=str(ca_certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _connect(host, port, timeout_s) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                valid = (secure.getpeercert() or {}).get("notAfter", "unknown")
                description = f"{secure.version()}, its certificate is valid until {valid}"
                return Reached(description, seconds_ahead(secure, host))
        except ssl.SSLCertVerificationError as error:
            _refuse_certificate(address, ca_certificate, error)
        except (ssl.SSLError, OSError) as error:
            _fail(
                "the server answers, but not with TLS 1.2 or newer",
                address,
                found=_reason(error),
                fix="compare host and port with what the center told you; a firewall that opens TLS looks the same",
            )


def connection_remark(address: str, ca_certificate: Path) -> str:
    """What keeps the center from this site now, or would make it refuse it, in a sentence; nothing where neither."""
    try:
        ahead_s = check_server(address, ca_certificate).ahead_s
    except SiteError as error:
        return f"{error.what} ({error.found}): {error.fix}"
    return f"{says_otherwise(ahead_s)}, and the center refuses such: {SET}" if is_refused(ahead_s) else ""


def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    address = joined_address(host, port)
    try:
        proxy = web_proxy(host)
        return proxy.tunnel(host, port, timeout_s) if proxy else socket.create_connection((host, port), timeout_s)
    except ProxyError as error:
        _fail(error.what, address, found=error.found, fix=error.fix)
    except socket.gaierror as error:
        fix = "compare `center.address` with what the center told you; ask your network team whether this name resolves"
        _fail("the center's name is unknown here", address, found=_reason(error), fix=fix)
    except ConnectionRefusedError:
        fix = "compare the port; ask the center whether its server runs"
        _fail("the center's computer refuses the connection", address, found="connection refused", fix=fix)
    except TimeoutError:
        fix = f"ask your network team to let this computer reach {address} (outgoing TCP); no incoming port is needed"
        _fail("the center does not answer", address, found=f"nothing within {timeout_s:.0f} s", fix=fix)
    except OSError as error:
        fix = "ask your network team whether this computer may reach that address"
        _fail("the center cannot be reached", address, found=_reason(error), fix=fix)


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
        certificate = x509.load_der_x509_certificate(_unverified(*split_address(address)))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (SiteError, OSError, ValueError, x509.ExtensionNotFound):
        return "a certificate without names"
    listed = ", ".join(str(name.value) for name in names)
    days = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"for {listed}; signed by {certificate.issuer.rfc4514_string()}; valid {days}"


def _unverified(host: str, port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with _connect(host, port, TIMEOUT_S) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        return secure.getpeercert(binary_form=True) or b""


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
