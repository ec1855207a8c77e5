"""Creation of a center's folder: keys, certificates, proxy configuration, start script, systemd units."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import tomli_w

from server.errors import CenterError
from server.operations.center import Center
from server.operations.certificates import create_authority, issue_server_certificate, write_private
from server.operations.processes import start_script, systemd_units
from server.operations.proxy import proxy_configuration
from shared_models.atomic_files import write_atomically

SUBFOLDERS = ("bundles", "results", "logs", "run", "flower", "systemd")


def create_center(center: Center) -> list[Path]:
    """Makes what is missing of a center's folder, and touches nothing that is there.

    Returns:
        The files it wrote.

    Raises:
        CenterError: If the folder is another user's, as the root of a mounted volume often is.
    """
    folder = center.directory
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise CenterError(
            what="the center's folder belongs to another user",
            where=folder,
            expected="a folder of its own for the user who runs the center: it holds private keys",
            fix="chown it, or name one that is not there yet with --directory",
        )
    folder.chmod(0o700)
    for name in SUBFOLDERS:
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    before = _files(folder)
    if not center.authority.exists():
        create_authority(center.authority, folder / "ca.key", center.hosts[0])
    if not (folder / "server.crt").exists():
        issue_server_certificate(folder, center.hosts)
    if not center.secret.exists():
        write_private(center.secret, secrets.token_bytes(48))
    texts = {
        "center.toml": _settings(center),
        "nginx.conf": proxy_configuration(center),
        "start.sh": start_script(center),
        "flower/config.toml": flower_connection(center),
        **{f"systemd/{name}": text for name, text in systemd_units(center).items()},
    }
    for name, text in texts.items():
        if not (folder / name).exists():
            write_atomically(folder / name, text)
    (folder / "start.sh").chmod(0o700)
    return sorted(_files(folder) - before)


def renew_certificate(center: Center) -> None:
    """Signs a new server certificate with the authority and the key that are there, for the center's address now.

    Hospitals that trust the authority notice nothing. The proxy and the SuperLink read it when they start.
    """
    issue_server_certificate(center.directory, center.hosts)
    write_atomically(center.directory / "center.toml", _settings(center))


def flower_connection(center: Center) -> str:
    """$FLWR_HOME/config.toml, so that Flower's own `flwr log RUN center` and `flwr stop RUN center` work too."""
    connection = {"address": f"127.0.0.1:{center.port}", "root-certificates": str(center.authority)}
    return tomli_w.dumps({"superlink": {"default": "center", "center": connection}})


def _settings(center: Center) -> str:
    return tomli_w.dumps({"address": center.address, "port": center.port, "proxy-port": center.proxy_port})


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
