from __future__ import annotations

import ipaddress
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from client.connection.credentials import check_certificate, check_key
from client.errors import ExitCode, SiteError

DAY = timedelta(days=1)


@dataclass
class Authority:
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    def sign(self, start: timedelta = -DAY, end: timedelta = 99 * DAY, *, ca: bool | None = True) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start)
            .not_valid_after(now + end)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture
def authority() -> Authority:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Center CA")])
    return Authority(name, ec.generate_private_key(ec.SECP384R1()))


def write(path: Path, *certificates: x509.Certificate) -> Path:
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    return path


def refusal_of_certificate(path: Path) -> str:
    with pytest.raises(SiteError) as refused:
        check_certificate(path)
    assert refused.value.exit_code == ExitCode.CREDENTIALS
    assert str(path) in str(refused.value)
    assert str(path) not in refused.value.public
    return str(refused.value)


def test_accepts_a_ca_that_lasts(authority: Authority, tmp_path: Path) -> None:
    summary = check_certificate(write(tmp_path / "ca.crt", authority.sign()))
    assert summary.name == "CN=Center CA"
    assert summary.warning == ""


def test_accepts_what_the_center_makes(tmp_path: Path) -> None:
    from server.operations.certificates import create_authority

    create_authority(tmp_path / "ca.crt", tmp_path / "ca.key", "breast")
    assert check_certificate(tmp_path / "ca.crt").warning == ""


def test_warns_a_month_before_the_ca_expires(authority: Authority, tmp_path: Path) -> None:
    bundle = write(tmp_path / "ca.crt", authority.sign(), authority.sign(end=20 * DAY + DAY / 2))
    assert check_certificate(bundle).warning == "expires in 20 days: ask the center for the next one"


@pytest.mark.parametrize(
    ("start", "end", "ca", "message"),
    [
        (-9 * DAY, -DAY, True, "CA certificate has expired"),
        (DAY, 9 * DAY, True, "CA certificate is not valid yet"),
        (-DAY, DAY, False, "not a CA"),
        (-DAY, DAY, None, "not a CA"),
    ],
)
def test_refuses_a_ca(
    authority: Authority, tmp_path: Path, start: timedelta, end: timedelta, ca: bool | None, message: str
) -> None:
    path = write(tmp_path / "ca.crt", authority.sign(start, end, ca=ca))
    assert message in refusal_of_certificate(path)


def test_refuses_what_is_no_certificate(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    assert "No such file" in refusal_of_certificate(path)
    path.write_bytes(b"")
    assert "an empty file" in refusal_of_certificate(path)
    path.write_bytes(b"<html>login</html>")
    assert "begins with '<html>login</html>'" in refusal_of_certificate(path)


def write_key(
    path: Path,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    form: PrivateFormat = PrivateFormat.OpenSSH,
) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    path.chmod(0o600)
    return path


def refusal_of_key(path: Path) -> str:
    with pytest.raises(SiteError) as refused:
        check_key(path)
    assert refused.value.exit_code == ExitCode.CREDENTIALS
    return str(refused.value)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_accepts_a_nist_key_and_names_its_missing_half(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    path = write_key(tmp_path / "duke", ec.generate_private_key(curve))
    summary = check_key(path)
    assert summary.warning == f"no public half yet: ssh-keygen -y -f {path} > {path}.pub"


def test_fingerprint_is_ssh_keygens(tmp_path: Path) -> None:
    path = tmp_path / "duke"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(path)], check=True)
    listed = subprocess.run(["ssh-keygen", "-l", "-f", f"{path}.pub"], check=True, capture_output=True, text=True)
    summary = check_key(path)
    assert summary.fingerprint == listed.stdout.split()[1]
    assert summary.warning == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_refuses_a_key_that_others_can_use(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "duke", ec.generate_private_key(ec.SECP384R1()))
    path.chmod(mode)
    assert f"chmod 600 {path}" in refusal_of_key(path)


def test_refuses_a_public_half_of_another_key(tmp_path: Path) -> None:
    path = write_key(tmp_path / "duke", ec.generate_private_key(ec.SECP384R1()))
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    (tmp_path / "duke.pub").write_bytes(other.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" x@y\n")
    assert "belongs to another key" in refusal_of_key(path)


def test_refuses_keys_that_flower_cannot_use(tmp_path: Path) -> None:
    path, key = tmp_path / "duke", ec.generate_private_key(ec.SECP384R1())
    assert "No such file" in refusal_of_key(path)
    assert "Ed25519" in refusal_of_key(write_key(path, ed25519.Ed25519PrivateKey.generate()))
    assert "ssh-keygen -p" in refusal_of_key(write_key(path, key, PrivateFormat.TraditionalOpenSSL))
    subprocess.run(["ssh-keygen", "-q", "-p", "-f", str(path), "-N", "secret"], check=True, capture_output=True)
    assert "passphrase" in refusal_of_key(path)
    path.write_bytes(b"not a key")
    assert "begins with 'not a key'" in refusal_of_key(path)


def test_the_advice_for_a_pem_key_works(tmp_path: Path) -> None:
    path = write_key(tmp_path / "duke", ec.generate_private_key(ec.SECP384R1()), PrivateFormat.TraditionalOpenSSL)
    subprocess.run(["ssh-keygen", "-q", "-p", "-f", str(path), "-N", ""], check=True, capture_output=True)
    assert check_key(path).fingerprint.startswith("SHA256:")
