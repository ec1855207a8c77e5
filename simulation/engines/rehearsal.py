"""Rehearsal engine: a real center and real sites on one machine, over TLS, each with its own key.

Where the in-process engine skips the network, this one runs what a deployment runs: `python -m server start`
(SuperLink, SuperExec, nginx) and one `python -m client` a site.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.config.site import load_site
from client.governance.approval import approve
from server.errors import CenterError
from server.operations.auto_resume import follow_to_end
from server.operations.bundle import start_study
from server.operations.center import Center
from server.operations.create import create_center
from server.operations.proxy import find_nginx
from server.operations.registration import register
from server.operations.superlink import list_sites
from server.operations.supervisor import die_with_parent
from server.study.exchange import StudyError
from shared_models.installation import child_environment
from shared_models.study_settings import StudySettings
from simulation.splits import Sites, write_site

if TYPE_CHECKING:
    from rich.console import Console

STARTS_WITHIN_S = 120.0
SITES_COME_WITHIN_S = 1800.0  # each reads all its images first
STOPS_WITHIN_S = 40.0


@dataclass
class Federation:
    """A center and its sites, running.

    Attributes:
        center: The center, for the functions of `server`.
        folder: Logs and settings of all of them.
        threads: For each site's arithmetic: sites that share a machine's cores would wait for each other's.
        environment_of: Further variables of the center's or a site's processes, by its name.
        processes: `center`, and `python -m client` of each site.
        sites: The settings of each site, with its key.
    """

    center: Center
    folder: Path
    threads: int
    environment_of: Callable[[str], Mapping[str, str]] = lambda party: {}
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    sites: dict[str, Path] = field(default_factory=dict)

    def start(self, name: str, *words: str) -> None:
        """Starts (or starts again) `python -P -m WORDS` under a name."""
        own = self.environment_of(name)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", *words],
                stdout=log,
                stderr=log,
                env={**os.environ, **child_environment(), **own, "OMP_NUM_THREADS": str(self.threads)},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def online(self) -> set[str]:
        """Names of the sites that are connected now."""
        with contextlib.suppress(CenterError):
            return {site.name for site in list_sites(self.center) if site.state == "online"}
        return set()

    def ended(self) -> list[str]:
        """Names of the processes that have ended."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def begin(self, config: StudySettings) -> int:
        """Starts a study that every site has approved, and returns its run's number."""
        for file in self.sites.values():
            approve(load_site(file), config)
        return start_study(self.center, config)[0]

    def finish(self, run_id: int, config: StudySettings) -> dict[str, Any]:
        """Waits for a run to end, or for the one that resumes it, and returns the study's results.

        Raises:
            StudyError: If it failed; with the end of its log.
        """
        log = list[str]()
        state = follow_to_end(self.center, run_id, log.append).state
        if state != "finished:completed":
            msg = f"the run ended as {state}:\n{''.join(log)[-2000:]}"
            raise StudyError(msg)
        results: dict[str, Any] = json.loads((self.center.results / config.study / "results.json").read_text())
        return results

    def stop(self) -> None:
        """Stops the sites, then the center."""
        for name, process in reversed(self.processes.items()):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOPS_WITHIN_S)
                except subprocess.TimeoutExpired:
                    print(f"{name} did not stop", file=sys.stderr)
                    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def rehearse(
    sites: Sites,
    folder: Path,
    address_of: Callable[[str, int], str] = lambda site, port: f"127.0.0.1:{port}",
    environment_of: Callable[[str], Mapping[str, str]] = lambda party: {},
) -> Iterator[Federation]:
    """Makes the center, gives each site a key and registers it, starts all of them, and stops them at the end.

    Args:
        sites: The sites' settings.
        folder: Where the center and all logs go.
        address_of: Where a site reaches the center whose proxy listens on a port of this machine.
        environment_of: Further variables of the processes of `center` or of a site.

    Raises:
        StudyError: If nginx is not installed, or a process does not come up.
    """
    if find_nginx() is None:
        msg = "a rehearsal needs nginx: apt-get install nginx-light"
        raise StudyError(msg)
    port, proxy_port = free_ports(2)
    center = Center(folder / "center", f"127.0.0.1:{proxy_port}", port, proxy_port)
    create_center(center)
    federation = Federation(center, folder, max(1, (os.cpu_count() or 1) // max(len(sites), 1)), environment_of)
    try:
        federation.start("center", "server", "start", "--directory", str(center.directory))
        _wait(lambda: _answers(center), "the center did not start", folder / "center.log")
        for name, file in sites.items():  # all keys first: a site may need its partners'
            reach = {"address": address_of(name, proxy_port), "ca_certificate": str(center.authority)}
            federation.sites[name] = _settings_with_key(name, file, reach, folder)
            register(center, name, folder / "keys" / f"{name}.pub")
        for name, settings in federation.sites.items():
            federation.start(name, "client", "--site", str(settings))
        came = f"not all sites came: {', '.join(sites)}"
        _wait(lambda: set(sites) <= federation.online(), came, folder, SITES_COME_WITHIN_S, federation.ended)
        yield federation
    finally:
        federation.stop()


def run_rehearsal(sites: Sites, config: StudySettings, console: Console | None = None) -> dict[str, Any]:
    """Runs one study as a rehearsal and returns its results; they lie in the rehearsal's own center.

    Raises:
        StudyError: If it cannot start or the study fails.
    """
    folder = Path(config.results_dir).resolve() / config.study / f"rehearsal-{int(time.time())}"
    folder.mkdir(parents=True)
    status = (
        console.status(f"rehearsing with {len(sites)} sites; logs in {folder}") if console else contextlib.nullcontext()
    )
    with status, rehearse(sites, folder) as federation:
        return federation.finish(federation.begin(config), config)


def _settings_with_key(name: str, file: Path, reach: Mapping[str, str], folder: Path) -> Path:
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    key = keys / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key)], check=True)
    return write_site(load_site(file), folder / "sites", site=name, center={**reach, "private_key": str(key)})


def _answers(center: Center) -> bool:
    try:
        list_sites(center)
    except CenterError:
        return False
    return True


def _wait(
    ready: Callable[[], bool],
    problem: str,
    log: Path,
    within_s: float = STARTS_WITHIN_S,
    ended: Callable[[], list[str]] = list,
) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        if (gone := ended()) or time.monotonic() > deadline:
            why = f"{', '.join(gone)} ended" if gone else f"not within {within_s:.0f} s"
            msg = f"{problem} ({why}); see {log}"
            raise StudyError(msg)
        time.sleep(0.3)


def free_ports(count: int) -> list[int]:
    """Ports that are free, below those that the system would give to a connection before they are used."""
    numbers = random.SystemRandom().sample(range(20_000, 32_000), 12_000)
    return list(itertools.islice((port for port in numbers if _is_free(port)), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
