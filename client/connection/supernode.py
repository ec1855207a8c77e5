"""The site's SuperNode: one life of Flower's own process, reported in sentences, that never outlives this one."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.connection.reachability import connection_remark
from client.connection.supernode_log import COLOURS, UNANSWERED, SuperNodeLogParser, level_of
from client.connection.warm_process import PROGRAMS, install_launcher
from client.contract.addresses import joined_address, split_address
from client.errors import ExitCode, SiteError
from shared_models.flower_environment import flower_environment

if TYPE_CHECKING:
    import logging

    from client.config.site import Center, SiteConfig

Report = Callable[[str], None]

STOP_S = 10.0


@dataclass(frozen=True)
class LaunchConfig:
    """What a site's SuperNode is started with.

    Attributes:
        site: Its name.
        center: Where the center is and how to prove who is who.
        state_dir: The site's own folder, for logs and Flower's files.
        node_config: What the site's ClientApp finds in `context.node_config`.
    """

    site: str
    center: Center
    state_dir: Path
    node_config: Mapping[str, str]


def launch_config(site: SiteConfig, center: Center, config_file: Path, data_root: Path | None) -> LaunchConfig:
    """What a site's SuperNode is started with; `data_root` only where the command line replaced the file's own."""
    node_config = {"site-config": str(config_file.resolve())}
    if data_root:
        node_config["data-root"] = str(data_root.resolve())
    return LaunchConfig(site.site, center, site.state_dir, node_config)


def run_once(launch: LaunchConfig, parser: SuperNodeLogParser, log: logging.Logger, report: Report) -> int:
    """Runs the SuperNode until it ends.

    Args:
        launch: What to start.
        parser: Learns from every line of its log.
        log: Takes every line.
        report: Takes each sentence that the parser makes of it.

    Returns:
        Its exit status; negative for a signal.
    """
    child = subprocess.Popen(
        command(launch, _free_port()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd=launch.state_dir,
        env=guarded_environment(launch.state_dir),
        start_new_session=True,  # Ctrl-C reaches us alone, and the whole group can be ended
        preexec_fn=_end_with_parent(),
    )
    listener = threading.Thread(target=_listen, args=(child, launch, parser, log, report), daemon=True)
    listener.start()
    try:
        return child.wait()
    finally:
        _end(child)
        listener.join(STOP_S)


def _listen(
    child: subprocess.Popen[str], launch: LaunchConfig, parser: SuperNodeLogParser, log: logging.Logger, report: Report
) -> None:
    if child.stdout is None:
        return
    with child.stdout as lines:
        for line in lines:
            text = COLOURS.sub("", line.rstrip())
            log.log(level_of(text), "%s", text)
            if sentence := parser.read(line):
                report(_with_reason(sentence, launch.center) if sentence == UNANSWERED else sentence)


def _with_reason(sentence: str, center: Center) -> str:
    why = connection_remark(center.address, center.ca_certificate)
    return f"{sentence}: {why}" if why else sentence


def _end(child: subprocess.Popen[str]) -> None:
    """Ends the SuperNode, then whatever it started: a ClientApp whose training is no longer wanted."""
    child.terminate()  # nothing happens if it ended already
    with suppress(subprocess.TimeoutExpired):
        child.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def command(launch: LaunchConfig, port: int) -> list[str]:
    """The SuperNode's command line; `port` serves its own ClientApps, on this computer only."""
    superlink = joined_address(*split_address(launch.center.address))
    return [
        *(sys.executable, "-P", "-m", "client.connection.supernode_process", f"127.0.0.1:{port}"),
        *("--isolation", "process"),  # without a SuperExec
        *("--superlink", superlink),
        *("--root-certificates", str(launch.center.ca_certificate)),
        *("--auth-supernode-private-key", str(launch.center.private_key)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--node-config", node_config(launch.node_config)),
    ]


def node_config(values: Mapping[str, str]) -> str:
    """Flower's `key="value" key="value"`, where a value may hold any character.

    Flower splits at quotes before it reads each value as TOML, so those are written as TOML escapes.
    """

    def escaped(character: str) -> str:
        return f"\\u{ord(character):04x}" if character in '"\\' or ord(character) < 32 else character

    return " ".join(f'{key}="{"".join(map(escaped, value))}"' for key, value in values.items())


def environment(state_dir: Path) -> dict[str, str]:
    """This process's environment, with Flower quiet, offline and in the site's folder."""
    ours = flower_environment(state_dir / "flwr")
    ours["FLWR_LOG_LEVEL"] = "INFO"  # less would hide the lines that SuperNodeLogParser reads
    # A hospital's web proxy must not come between the SuperNode and its own ClientApp.
    exempt = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy", ""), "127.0.0.1", "localhost"]
    ours["NO_PROXY"] = ours["no_proxy"] = ",".join(filter(None, exempt))
    return ours


def guarded_environment(state_dir: Path) -> dict[str, str]:
    """The environment, where every program that Flower starts for a task is the site's own guarded launcher.

    Raises:
        SiteError: If another one would be found.
    """
    ours, folder = environment(state_dir), install_launcher(state_dir)
    ours["PATH"] = os.pathsep.join([str(folder.resolve()), ours["PATH"]])
    for program in PROGRAMS:
        if (other := shutil.which(program, path=ours["PATH"])) != str(folder.resolve() / program):
            raise SiteError(
                what=f"the site's own {program} cannot be run",
                where=str(folder),
                found=f"{other} would run instead, which takes code from the center",
                fix="choose a state_dir on a disk that is not mounted noexec, in a path without ':'",
                exit_code=ExitCode.SITE_CONFIG,
            )
    return ours


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _end_with_parent() -> Callable[[], None] | None:
    """What the child runs before Flower: on Linux, SIGTERM when this process dies, even by kill -9."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def before_exec() -> None:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
