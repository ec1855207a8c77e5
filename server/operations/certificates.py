"""Certificate authority of the center, and the TLS certificate of its proxy and SuperLink.

Hospitals need `ca.crt` and nothing else: no public authority is asked, and no other authority is believed.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.errors import CenterError, ExitCode
from server.operations.center import require_file
from shared_models.atomic_files import write_atomically

AUTHORITY_LIFETIME = timedelta(days=3652)
SERVER_LIFETIME = timedelta(days=365)
CLOCK_SKEW = timedelta(minutes=5)  # a hospital's clock may run behind ours


def create_authority(certificate_file: Path, key_file: Path, name: str) -> None:
    """Writes a new authority: P-384, ten years, able to sign servers but no further authority."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _name(f"{name} federation CA")
    certificate = (
        _certificate(subject, subject, key.public_key(), AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write_key(key_file, key)
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))


def issue_server_certificate(directory: Path, hosts: Sequence[str]) -> None:
    """Signs `server.crt` in `directory` with the authority there; makes `server.key` only where there is none.

    Args:
        directory: Holds `ca.crt` and `ca.key`.
        hosts: Names and IP addresses the certificate is good for; the first names its subject.

    Raises:
        CenterError: If the authority's key is not there.
    """
    lost = "bring it back from where you keep the copy; without it a new server certificate cannot be signed"
    authority_key = _read_key(require_file(directory / "ca.key", "the authority's key", lost))
    authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    key_file = directory / "server.key"
    if not key_file.exists():
        _write_key(key_file, ec.generate_private_key(ec.SECP384R1()))
    public_key = _read_key(key_file).public_key()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _certificate(_name(hosts[0]), authority.subject, public_key, SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    write_atomically(directory / "server.crt", certificate.public_bytes(Encoding.PEM))


def read_expiry(certificate_file: Path) -> datetime:
    """When a certificate ends, in UTC."""
    return x509.load_pem_x509_certificate(certificate_file.read_bytes()).not_valid_after_utc


def write_private(path: Path, content: bytes) -> None:
    """Writes a new file that only its owner may read; an existing one is never touched."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])  # 64: the limit of X.520


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CenterError(
            what="this key was not made by `python -m server init`",
            where=path,
            found=type(key).__name__,
            expected="an EC key on the curve P-384",
            fix="restore the file from the backup of the center's folder",
            exit_code=ExitCode.CREDENTIALS,
        )
    return key
