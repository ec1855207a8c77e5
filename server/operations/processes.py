"""Processes of the center (SuperLink, SuperExec, resumption, nginx): their commands and environments."""

from __future__ import annotations

import getpass
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from server.errors import CenterError
from server.operations.center import Center
from server.operations.proxy import find_nginx
from shared_models.flower_environment import flower_environment

PROCESS_NAMES = ("superlink", "superexec", "auto-resume", "proxy")

UNIT = """\
# {description}. Install all of them, once:
#   sudo cp {folder}/systemd/*.service /etc/systemd/system/ && sudo systemctl daemon-reload
#   sudo systemctl enable --now {units}
[Unit]
Description={description}
After=network-online.target{after}
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
User={user}
WorkingDirectory={folder}
ExecStart={python} -P -m server start --only {name} --directory {folder}
Restart=always
RestartSec=1
TimeoutStopSec=20
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Process:
    """A program that has to run.

    Attributes:
        name: One of `PROCESS_NAMES`.
        command: Its argument list.
    """

    name: str
    command: tuple[str, ...]


def center_process(center: Center, name: str) -> Process:
    """How to start one of the center's processes.

    Raises:
        CenterError: If its program is not installed.
    """
    folder = center.directory
    if name == "superlink":
        # fmt: off
        return Process(name, (
            _flower("flower-superlink"), "--host", "127.0.0.1", "--port", str(center.port),
            "--ssl-ca-certfile", str(center.authority), "--ssl-certfile", str(folder / "server.crt"),
            "--ssl-keyfile", str(folder / "server.key"), "--database", str(folder / "state.db"),
            "--enable-supernode-auth", "--isolation", "process", "--superexec-auth-secret-file", str(center.secret),
        ))
    if name == "superexec":
        return Process(
            name,
            (
                _flower("flower-superexec"),
                "--runtime-api-address",
                f"127.0.0.1:{center.port}",
                "--root-certificates",
                str(center.authority),
                "--superexec-auth-secret-file",
                str(center.secret),
            ),
        )
        # fmt: on
    if name == "auto-resume":
        return Process(name, (sys.executable, "-P", "-m", "server.operations.auto_resume", str(folder)))
    nginx = find_nginx()
    if nginx is None:
        raise CenterError(
            what="nginx is not installed",
            where="PATH, /usr/sbin and /usr/local/sbin",
            expected="nginx 1.19.5 or newer",
            fix="apt install nginx-light (or dnf install nginx); `--no-proxy` starts the center without it",
        )
    return Process(name, (nginx, "-p", f"{folder}/", "-c", str(folder / "nginx.conf"), "-e", "stderr"))


def process_environment(center: Center) -> dict[str, str]:
    """What the processes find in their environment; their logs are written line by line."""
    return {**flower_environment(center.directory / "flower"), "PYTHONUNBUFFERED": "1"}


def start_script(center: Center) -> str:
    """`start.sh`: all processes under one supervisor, for a terminal, a container or one systemd unit."""
    python = shlex.quote(sys.executable)
    return f"""\
#!/bin/sh
# Starts the center in the foreground and keeps it running; SIGTERM or Ctrl-C stops it. Logs lie in logs/.
exec {python} -P -m server start --directory {shlex.quote(str(center.directory))} "$@"
"""


def systemd_units(center: Center) -> dict[str, str]:
    """One hardened unit a process: the alternative to `start.sh`, with systemd as the supervisor."""
    titles = {"superlink": "Flower SuperLink", "superexec": "Flower SuperExec", "proxy": "TLS proxy"}
    titles["auto-resume"] = "resumption of lost runs"
    names = {name: f"breast-federation-{name}.service" for name in PROCESS_NAMES}
    return {
        names[name]: UNIT.format(
            description=f"Breast federation: {titles[name]}",
            folder=center.directory,
            units=" ".join(names.values()),
            after="" if name == "superlink" else f" {names['superlink']}",
            user=getpass.getuser(),
            python=sys.executable,
            name=name,
            capabilities="CAP_NET_BIND_SERVICE" if name == "proxy" and center.proxy_port < 1024 else "",
        )
        for name in PROCESS_NAMES
    }


def _flower(program: str) -> str:
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        raise CenterError(
            what=f"{program} is not installed",
            where=path,
            expected="Flower 1.41 or 1.42 in the same environment as this package",
            fix=f"{sys.executable} -m pip install 'flwr>=1.41,<1.43'",
        )
    return str(path)
