"""Partners of a site in secure aggregation: the hospitals whose public keys its policy names.

The center carries the members' keys from site to site, and could put keys of its own in their place. A site signs its
keys with its node key; one that has its partners' public keys, from themselves, takes no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from client.errors import ExitCode, SiteError
from shared_models.secure_sum import MIN_SITES, Member

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from client.config.site import SiteConfig


def signature(site: SiteConfig, statement: bytes) -> bytes:
    """Of the site's node key, by which its partners know it; a simulated site has none."""
    if site.center is None:
        return b""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.supercore.primitives.asymmetric import sign_message

    key = load_ssh_private_key(site.center.private_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return sign_message(key, statement)


def check_partners(site: SiteConfig, others: Iterable[Member], session: str) -> None:
    """Refuses a member that is no partner, or did not sign its keys for this sum; takes all where none are named.

    Raises:
        SiteError: If so, or if a partner's public key cannot be read.
    """
    from flwr.supercore.primitives.asymmetric import verify_signature

    partners = site.policy.partners
    for member in others if partners else ():
        if member.name not in partners:
            refuse(f"{member.name} is not one of policy.partners")
        key = partner_key(partners[member.name])
        if not verify_signature(key, member.statement(session), member.signature):
            refuse(f"{member.name} has not signed its keys for this sum with the key that this site holds")


def partner_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Another hospital's public key.

    Raises:
        SiteError: If the file holds none.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        key = load_ssh_public_key(path.read_bytes())
        found = f"a key of another kind, {type(key).__name__}"
    except (OSError, ValueError) as error:
        key, found = None, str(error.strerror if isinstance(error, OSError) else error)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SiteError(
            what="a partner's public key cannot be used",
            where=str(path),
            found=found,
            expected="an OpenSSH public key on a NIST curve: a line that begins with ecdsa-sha2-nistp384",
            fix="get the .pub file that the hospital made for the center, from that hospital; see policy.partners",
            public="a partner's public key cannot be used at the site",
            exit_code=ExitCode.CREDENTIALS,
        )
    return key


def refuse(found: str) -> NoReturn:
    """Does not join a sum, or does not open it.

    Raises:
        SiteError: Always.
    """
    raise SiteError(
        what="a secure sum would not be secure",
        where="secure aggregation",
        found=found,
        expected=f"at least {MIN_SITES} sites that add to each part of it, the same ones from its start to its end",
        fix="nothing, if sites dropped out: the center asks again; otherwise compare policy.partners with the center",
        public="the secure sum was refused: too few sites are left, or its messages do not belong together",
        exit_code=ExitCode.STUDY,
    )
