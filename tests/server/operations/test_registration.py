from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from server.errors import CenterError, ExitCode
from server.operations.registration import read_public_key

OPENSSH = (Encoding.OpenSSH, PublicFormat.OpenSSH)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_nist_curves_are_taken(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    public = ec.generate_private_key(curve).public_key()
    file = tmp_path / "duke.pub"
    file.write_bytes(public.public_bytes(*OPENSSH) + b" someone@duke\n")
    assert read_public_key(file) == public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_key_of_ssh_keygen_is_what_flower_reads(tmp_path: Path) -> None:
    from flwr.cli.supernode.register import try_load_public_key

    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", "duke"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert read_public_key(tmp_path / "duke.pub") == try_load_public_key(tmp_path / "duke.pub")


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_private_key_is_refused_loudly(tmp_path: Path, form: PrivateFormat) -> None:
    file = tmp_path / "duke"
    file.write_bytes(ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, form, NoEncryption()))
    with pytest.raises(CenterError, match=r"PRIVATE key(.|\n)*delete this copy") as raised:
        read_public_key(file)
    assert raised.value.exit_code == ExitCode.CREDENTIALS


def test_other_kind_of_key_says_what_is_supported(tmp_path: Path) -> None:
    file = tmp_path / "duke.pub"
    file.write_bytes(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*OPENSSH))
    with pytest.raises(CenterError, match=r"ssh-ed25519(.|\n)*nistp384(.|\n)*ssh-keygen -t ecdsa") as raised:
        read_public_key(file)
    assert raised.value.exit_code == ExitCode.CREDENTIALS


@pytest.mark.parametrize("content", [b"", b"not a key", b"\xff\xfe", b"ecdsa-sha2-nistp384 AAAA"])
def test_no_key_at_all(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "duke.pub"
    file.write_bytes(content)
    with pytest.raises(CenterError, match="no OpenSSH public key"):
        read_public_key(file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CenterError, match="no such file") as raised:
        read_public_key(tmp_path / "duke.pub")
    assert raised.value.exit_code == ExitCode.FILE
