"""Credentials of a site: the center's CA certificate, and the site's own key pair.

Every check raises a `SiteError` that says what was found and what to do; none writes a file.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from client.errors import ExitCode, SiteError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

WARN_BEFORE = timedelta(days=30)
NEW_KEY = 'make one: ssh-keygen -t ecdsa -b 384 -N "" -f {path}'


@dataclass(frozen=True)
class Certificate:
    """A CA certificate that can be used today.

    Attributes:
        name: Its subject.
        expires: When the center must have sent another.
        warning: Set when that is soon.
    """

    name: str
    expires: datetime
    warning: str = ""


@dataclass(frozen=True)
class Key:
    """A site's private key that Flower accepts.

    Attributes:
        fingerprint: Of its public half, as `ssh-keygen -l` prints it and the center reads it.
        public_file: Where the public half lies.
        warning: Set when the public half is not beside the key.
    """

    fingerprint: str
    public_file: Path
    warning: str = ""


def check_certificate(path: Path) -> Certificate:
    """Checks the CA certificate (or bundle) that the center gave this site.

    Raises:
        SiteError: If it cannot be read, is no PEM certificate, is no CA, or is not valid today.
    """
    from cryptography import x509

    data = _read(path, "the center's CA certificate", "ask the center for its ca.crt, and put it there")
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError:
        _fail(
            "the center's CA certificate is not a PEM certificate",
            path,
            found=_beginning(data),
            expected="a text file that begins with -----BEGIN CERTIFICATE-----",
            fix="ask the center for its ca.crt again",
        )
    for certificate in certificates:
        _require_valid_ca(certificate, path)
    first = min(certificates, key=lambda certificate: certificate.not_valid_after_utc)
    expires = first.not_valid_after_utc
    days = (expires - datetime.now(UTC)).days
    soon = expires - datetime.now(UTC) < WARN_BEFORE
    warning = f"expires in {days} days: ask the center for the next one" if soon else ""
    return Certificate(first.subject.rfc4514_string(), expires, warning)


def _require_valid_ca(certificate: x509.Certificate, path: Path) -> None:
    from cryptography import x509

    name = certificate.subject.rfc4514_string()
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if not authority:
        _fail(
            "the certificate is not a CA",
            path,
            found=f"{name}, a certificate that may not sign others",
            expected="the certificate of the center's authority, not the one of its server",
            fix="ask the center for its ca.crt",
        )
    clock = f"; this computer's clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if certificate.not_valid_after_utc < datetime.now(UTC):
        found = f"{name}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}{clock}"
        _fail("the center's CA certificate has expired", path, found=found, fix="ask the center for its new ca.crt")
    if certificate.not_valid_before_utc > datetime.now(UTC):
        found = f"{name}, valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC{clock}"
        _fail("the center's CA certificate is not valid yet", path, found=found, fix="set this computer's clock")


def check_key(path: Path) -> Key:
    """Checks the site's private key, as Flower's SuperNode will read it.

    Raises:
        SiteError: If it cannot be read, others can read it, it is not a NIST curve key in OpenSSH's format without a
            passphrase, or the public key beside it is another key's.
    """
    data = _read(path, "the site's private key", NEW_KEY.format(path=path))
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        _fail(
            "others on this computer can use the site's private key",
            path,
            found=f"mode {mode:03o}",
            expected="mode 600, for its owner only",
            fix=f"chmod 600 {path}",
        )
    own = _public_line(_load_key(data, path))
    public = path.with_name(path.name + ".pub")
    fingerprint = base64.b64encode(hashlib.sha256(base64.b64decode(own.split()[1])).digest()).decode().rstrip("=")
    if not public.is_file():
        return Key(f"SHA256:{fingerprint}", public, f"no public half yet: ssh-keygen -y -f {path} > {public}")
    if public.read_text(encoding="utf-8", errors="replace").split()[:2] != own.split():
        _fail(
            "the public key beside the private key belongs to another key",
            public,
            expected=own,
            fix=f"write the right one: ssh-keygen -y -f {path} > {public}, and send it to the center",
        )
    return Key(f"SHA256:{fingerprint}", public)


def _load_key(data: bytes, path: Path) -> ec.EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    expected = "a key on a NIST curve in OpenSSH's format: ecdsa-sha2-nistp384 (or nistp256, nistp521)"
    try:
        key = load_ssh_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if "password" in str(error).lower():
            _fail(
                "the site's private key asks for a passphrase",
                path,
                expected="a key without one: the site reconnects by itself, unattended",
                fix=f'ssh-keygen -p -f {path} -N ""',
            )
        pem = b"-----BEGIN EC PRIVATE KEY" in data or b"-----BEGIN PRIVATE KEY" in data
        fix = f'rewrite it in OpenSSH\'s format: ssh-keygen -p -f {path} -N ""' if pem else NEW_KEY.format(path=path)
        _fail("the site's private key cannot be read", path, found=_beginning(data), expected=expected, fix=fix)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        found = type(key).__name__.strip("_")
        _fail("Flower cannot use this kind of key", path, found=found, expected=expected, fix=NEW_KEY.format(path=path))
    return key


def _public_line(key: ec.EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def _read(path: Path, what: str, fix: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        _fail(f"cannot read {what}", path, found=str(error.strerror), fix=fix)


def _beginning(data: bytes) -> str:
    first = data.lstrip().split(b"\n", 1)[0][:40].decode("ascii", errors="replace")
    return f"a file that begins with {first!r}" if first else "an empty file"


def _fail(what: str, path: Path, *, found: str = "", expected: str = "", fix: str = "") -> NoReturn:
    raise SiteError(
        what,
        where=str(path),
        found=found,
        expected=expected,
        fix=fix,
        public="the site's credentials need attention",
        exit_code=ExitCode.CREDENTIALS,
    )
