"""Verbs that set up a center, run it, and register hospitals."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from server.errors import CenterError, ExitCode
from server.operations.center import Center, open_center, parse_address, split_address
from server.operations.verbs.console import console


def init(address: str, directory: Path, port: int, proxy_port: int | None, renew: bool) -> None:
    """Makes a center's folder, or completes it, or renews its server certificate."""
    from server.operations.create import create_center, renew_certificate
    from server.operations.proxy import find_nginx

    exists = (directory / "center.toml").exists()
    if exists:
        center = _existing(open_center(directory), address, renew)
    elif address:
        address = parse_address(address)
        center = Center(directory.resolve(), address, port, proxy_port or split_address(address)[1])
    else:
        raise CenterError(
            what="a new center needs an address",
            where="--address",
            expected="the name under which hospitals will reach this machine, as center.example.org",
            exit_code=ExitCode.USAGE,
        )
    written = create_center(center)
    if renew and exists:
        renew_certificate(center)
        written.append(center.directory / "server.crt")
    console.print(f"{'Found' if exists else 'Made'} the center {center.address} in {center.directory}", markup=False)
    for path in written:
        console.print(f"  wrote {path.relative_to(center.directory)}", markup=False)
    if exists and not written:
        console.print("  everything is there; nothing was written")
    if renew and exists:
        console.print("Restart the center for the renewed certificate. Hospitals need nothing new.")
    if find_nginx() is None:
        console.print("WARNING: nginx is not installed: apt install nginx-light (or dnf install nginx)", style="yellow")
    console.print(_next_steps(center), markup=False)


def start(directory: Path, only: str | None, with_proxy: bool, log_format: str) -> None:
    """Runs the center until it is stopped, or becomes one of its processes."""
    from server.operations.processes import PROCESS_NAMES
    from server.operations.supervisor import become, supervise
    from shared_models.log_files import FORMAT_VARIABLE

    center = open_center(directory)
    os.environ[FORMAT_VARIABLE] = log_format  # a study's process inherits it
    if only:
        become(center, only)
    names = [name for name in PROCESS_NAMES if with_proxy or name != "proxy"]
    supervise(center, names, lambda line: print(line, flush=True))


def register(directory: Path, name: str, key_file: Path, replace: bool) -> None:
    """Lets a hospital in."""
    from server.operations import registration

    node_id = registration.register(open_center(directory), name, key_file, replace)
    console.print(f"{name} is registered (node {node_id}). It can connect now: python -m client --site {name}")


def unregister(directory: Path, name: str) -> None:
    """Shuts a hospital out."""
    from server.operations import registration

    registration.unregister(open_center(directory), name)
    console.print(f"{name} is unregistered. To return it needs a new key: Flower does not accept the old one again.")


def _existing(center: Center, address: str, renew: bool) -> Center:
    """The center that is there; `--renew` may move it to another address."""
    if not address or parse_address(address) == center.address:
        return center
    if not renew:
        raise CenterError(
            what="this folder belongs to a center with another address",
            where=center.directory,
            found=center.address,
            expected=address,
            fix="choose another --directory, or add --renew to move this center to the new address",
        )
    return replace(center, address=parse_address(address))


def _next_steps(center: Center) -> str:
    folder = center.directory
    return f"""
Hospitals need one file of this folder: {center.authority}
Every key and secret in it stays here. Keep a copy of ca.key offline: whoever has it can pose as this center.

At the center:
  {folder / "start.sh"}      (or install {folder / "systemd"}/*.service)
  python -m server register duke duke.key.pub --directory {folder}
  python -m server run STUDY.toml --follow --directory {folder}
At the hospital, with ca.crt beside its settings:
  ssh-keygen -t ecdsa -b 384 -N '' -f site_configs/duke.key       (send duke.key.pub to the center, never duke.key)
  in site_configs/duke.yaml:   center: {{address: "{center.address}", ca_certificate: ca.crt, private_key: duke.key}}
  python -m client check --site duke
  python -m client approve STUDY.toml --site duke                 (the study lead sends STUDY.toml)
  python -m client --site duke"""
