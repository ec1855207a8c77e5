"""Node keys of secure aggregation: this site's own, and those of the hospitals that its policy names.

The center carries the sites' statements from one to the other, and could put keys of its own in their place. A site
that has its partners' public keys from themselves takes no others.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, NoReturn

from client.errors import ExitCode, SiteError
from client.private_files import write_private
from shared_models.secure_aggregation.secrets import compressed
from shared_models.secure_aggregation.signing import public_key

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from client.config.site import SiteConfig

EXPECTED = "an OpenSSH key on the NIST curve P-384: a public one is a line that begins with ecdsa-sha2-nistp384"


def takes_no_others(site: SiteConfig) -> bool:
    """Whether this site takes part with its partners only: where it names them, and where sums are required.

    In a simulation there is no one to get a key from.
    """
    required = site.policy.secure_aggregation == "required" and site.center is not None
    return required or bool(site.policy.partners)


def partner_points(site: SiteConfig) -> dict[str, str]:
    """The partners' public keys by name, as compressed points.

    Raises:
        SiteError: If one cannot be read.
    """
    return {name: compressed(partner_key(path)) for name, path in site.policy.partners.items()}


def node_key(site: SiteConfig) -> ec.EllipticCurvePrivateKey:
    """The private key by which the center and the partners know this site; a simulated site makes one.

    Raises:
        SiteError: If it cannot be read, or is on another curve.
    """
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    path = site.center.private_key if site.center else site.state_dir / "simulated_node_key"
    if site.center is None and not path.exists():
        _make(path)
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        _unusable("this site's private key", path, error)
    return key if _on_p384(key) else _unusable("this site's private key", path, key)  # type: ignore[return-value]


def partner_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Another hospital's public key.

    Raises:
        SiteError: If the file holds none, or one on another curve.
    """
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        key = load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        _unusable("a partner's public key", path, error)
    return key if _on_p384(key) else _unusable("a partner's public key", path, key)  # type: ignore[return-value]


def key_fingerprint(point: str) -> str:
    """A public key as `ssh-keygen -lf` prints it, from its compressed point."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    line = public_key(point).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _on_p384(key: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec

    kinds = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
    return isinstance(key, kinds) and isinstance(key.curve, ec.SECP384R1)


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP384R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))


def _unusable(what: str, path: Path, problem: object) -> NoReturn:
    if isinstance(problem, Exception):
        problem = str(problem.strerror if isinstance(problem, OSError) else problem)
    else:
        problem = f"a key of another kind, {getattr(getattr(problem, 'curve', None), 'name', type(problem).__name__)}"
    raise SiteError(
        what=f"{what} cannot be used",
        where=str(path),
        found=problem,
        expected=EXPECTED,
        fix="for a partner, get the .pub file that the hospital made for the center, from that hospital; "
        "for this site, make a key as docs/hospital.md says and register it again",
        public=f"{what.replace('this', 'the')} cannot be used at the site",
        exit_code=ExitCode.CREDENTIALS,
    )
