"""Folder of a coordinating center: its paths, addresses and `center.toml`.

center.toml            the addresses below
ca.crt                 the one file that hospitals need
ca.key server.key superexec.secret     never leave this folder
server.crt  nginx.conf  start.sh  systemd/
state.db               Flower's: registered sites, runs, messages on their way
bundles/ runs.jsonl    what each run was asked to do
results/ logs/ run/ flower/
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from server.errors import CenterError, ExitCode

HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")


@dataclass(frozen=True)
class Center:
    """Where a center lives and listens.

    Attributes:
        directory: Absolute path of its folder.
        address: `host:port` under which hospitals reach the proxy.
        port: The SuperLink's, on loopback.
        proxy_port: The proxy's own, on every interface; differs from the address's behind a firewall that translates.
    """

    directory: Path
    address: str
    port: int = 8000
    proxy_port: int = 443

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the server certificate is good for: the public name, and loopback for the center's own processes."""
        return tuple(dict.fromkeys([split_address(self.address)[0], "localhost", "127.0.0.1"]))

    @property
    def authority(self) -> Path:
        """The CA certificate that hospitals receive."""
        return self.directory / "ca.crt"

    @property
    def secret(self) -> Path:
        """What proves to the SuperLink that our own SuperExec asks for a run."""
        return self.directory / "superexec.secret"

    @property
    def results(self) -> Path:
        """Checkpoints and results, one folder a study."""
        return self.directory / "results"


def open_center(directory: Path) -> Center:
    """Reads the folder of a center.

    Raises:
        CenterError: If it is none, or its `center.toml` cannot be used.
    """
    directory = directory.resolve()
    file = directory / "center.toml"
    if not file.is_file():
        raise CenterError(
            what="this folder is not a center's",
            where=directory,
            found="no center.toml" if directory.is_dir() else "no such folder",
            fix="name the folder with --directory, or make one: python -m server init --address center.example.org",
        )
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        return Center(directory, str(values["address"]), int(values["port"]), int(values["proxy-port"]))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CenterError(
            what="cannot use the center's settings",
            where=file,
            found=f"{type(error).__name__}: {error}",
            expected='address = "host:port", port = 8000, proxy-port = 443',
            fix="mend the file by hand",
        ) from None


def parse_address(text: str) -> str:
    """Checks `host` or `host:port` and returns `host:port`, 443 where no port is given.

    Raises:
        CenterError: If it is neither.
    """
    host, _, port = text.partition(":")
    if not HOST_NAME.fullmatch(host) or not (port or "443").isdigit() or not 0 < int(port or "443") < 65536:
        raise CenterError(
            what="cannot use this address",
            where="--address",
            found=repr(text),
            expected="a host name or IPv4 address without https://, as center.example.org or 192.0.2.7:8443",
            fix="give the address under which hospitals will reach this machine",
        )
    if re.fullmatch(r"[\d.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError as error:
            raise CenterError(what="cannot use this address", where="--address", found=str(error)) from None
    return f"{host}:{port or 443}"


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as a host and a number."""
    host, _, port = address.partition(":")
    return host, int(port)


def require_file(path: Path, what: str, fix: str) -> Path:
    """Returns `path`, if it is a file.

    Raises:
        CenterError: If it is not.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise CenterError(what=f"cannot read {what}", where=path, found=found, fix=fix, exit_code=ExitCode.FILE)
    return path
