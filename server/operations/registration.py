"""Registration of sites: a hospital's public key under the site's name."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from server.errors import CenterError, ExitCode
from server.operations.center import Center, require_file
from server.operations.superlink import Site, list_sites, register_site, unregister_site
from server.study.audit import key_fingerprint, note

SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
SUPPORTED = "an OpenSSH public key on a NIST curve: ecdsa-sha2-nistp384 (or nistp256, nistp521)"
MAKE_ONE = "the hospital makes a pair with: ssh-keygen -t ecdsa -b 384 -N '' -f NAME, and sends NAME.pub"


def register(center: Center, name: str, key_file: Path, replace: bool = False) -> int:
    """Registers a site.

    Args:
        center: Where.
        name: What the study calls the site.
        key_file: Its public key.
        replace: Whether the key takes the place of the one that is registered under this name; that one is shut out.

    Returns:
        Its node number.

    Raises:
        CenterError: If the name or the key cannot be used, or is taken.
    """
    if not SITE_NAME.fullmatch(name):
        raise CenterError(
            what="cannot use this site name",
            where="NAME",
            found=repr(name),
            expected="up to 64 letters, digits, `-`, `_` or `.`, as `duke`; the same as `site:` in its YAML",
            exit_code=ExitCode.USAGE,
        )
    key = read_public_key(key_file)
    sites = list_sites(center)
    for site in sites:
        if site.name == name and (site.public_key == key or not replace):
            how = "with the same key" if site.public_key == key else "with another key"
            _refuse(f"{name} is already registered {how}", name, site, "a new key takes its place with --replace")
        if site.public_key == key:
            _refuse("this key is already registered", key_file, site, "ask the hospital for a key of its own")
    note(center.results, {"event": "register", "site": name, "key": key_fingerprint(key)})
    node_id = register_site(center, name, key)
    for site in sites:
        if site.name == name:
            _shut_out(center, site)
    return node_id


def unregister(center: Center, name: str) -> None:
    """Shuts a site out. Its key can never be registered again: to come back it makes a new one.

    Raises:
        CenterError: If no site has this name.
    """
    sites = {site.name: site for site in list_sites(center)}
    if name not in sites:
        raise CenterError(
            what=f"no site is registered as {name!r}",
            where=center.directory,
            found=f"registered: {', '.join(sites) or 'none'}",
            exit_code=ExitCode.CREDENTIALS,
        )
    _shut_out(center, sites[name])


def _shut_out(center: Center, site: Site) -> None:
    unregister_site(center, site)  # before it is noted: a damaged log must not keep a thief in
    note(center.results, {"event": "unregister", "site": site.name, "key": key_fingerprint(site.public_key)})


def read_public_key(path: Path) -> bytes:
    """Reads a hospital's public key and returns it as Flower stores it.

    Raises:
        CenterError: If it is private, of a kind that Flower does not take, or no key at all.
    """
    content = require_file(path, "the site's public key", MAKE_ONE).read_bytes()
    if b"PRIVATE KEY" in content:
        raise CenterError(
            what="this is a PRIVATE key. It must never leave the hospital",
            where=path,
            found="a private key",
            expected=SUPPORTED,
            fix="delete this copy, tell the hospital to make a new pair and to send the file that ends in .pub",
            exit_code=ExitCode.CREDENTIALS,
        )
    try:
        key = load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise _unsupported(path, "no OpenSSH public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _unsupported(path, content.split(maxsplit=1)[0].decode("ascii", "replace"))
    if not isinstance(key.curve, CURVES):
        raise _unsupported(path, f"the curve {key.curve.name}")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _unsupported(path: Path, found: str) -> CenterError:
    return CenterError(
        what="cannot use this key",
        where=path,
        found=found,
        expected=SUPPORTED,
        fix=MAKE_ONE,
        exit_code=ExitCode.CREDENTIALS,
    )


def _refuse(what: str, where: str | Path, site: Site, fix: str) -> None:
    found = f"{site.name}, node {site.node_id}, {site.state}"
    raise CenterError(what=what, where=where, found=found, fix=fix, exit_code=ExitCode.CREDENTIALS)
