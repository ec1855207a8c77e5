"""Client of Flower's Control API, on loopback.

We call the API and not the `flwr` command, because the command does not print the name a site was registered under.
The same questions can still be asked by hand: `FLWR_HOME=center/flower flwr supernode list center`.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StreamLogsRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from server.errors import CenterError, ExitCode
from server.operations.causes import likely_cause
from server.operations.center import Center
from server.operations.supervisor import is_supervised

POLL_S = 1.0
ANSWERS_WITHIN_S = 30.0  # of being started
RECONNECT_WITHIN_S = 120.0  # while we follow a run, the SuperLink may be restarted


@dataclass(frozen=True)
class Site:
    """A registered hospital.

    Attributes:
        state: `registered` (never seen), `online` or `offline`.
        last_seen: ISO time in UTC; empty if never.
        public_key: As Flower stores it.
    """

    name: str
    node_id: int
    state: str
    last_seen: str
    public_key: bytes


@dataclass(frozen=True)
class Run:
    """A run of a study.

    Attributes:
        state: `pending`, `starting`, `running`, or `finished:completed`, `finished:failed`, `finished:stopped`.
        details: Why it ended, in Flower's words.
    """

    run_id: int
    app: str
    state: str
    details: str
    started: str
    finished: str


def list_sites(center: Center) -> list[Site]:
    """The registered sites, by name."""
    with _control(center) as control:
        answer = control.ListNodes(ListNodesRequest())
    nodes = [node for node in answer.nodes_info if node.status != "unregistered"]
    return sorted((_site(node, answer.now) for node in nodes), key=lambda site: site.name)


def register_site(center: Center, name: str, public_key: bytes) -> int:
    """Lets the holder of a key in, and returns its node number."""
    with _control(center) as control:
        return int(control.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name)).node_id)


def unregister_site(center: Center, site: Site) -> None:
    """Shuts a site out, at once and for good: Flower never takes the same key again."""
    with _control(center) as control:
        control.UnregisterNode(UnregisterNodeRequest(node_id=site.node_id))


def start_run(center: Center, bundle: bytes, digest: str) -> int:
    """Starts a run of a bundle with this SHA-256 digest, and returns its number."""
    with _control(center) as control:
        answer = control.StartRun(StartRunRequest(fab=Fab(hash_str=digest, content=bundle)))
    if not answer.HasField("run_id"):
        raise _refused(center, "no reason given")
    return int(answer.run_id)


def list_runs(center: Center, limit: int = 20) -> list[Run]:
    """The last runs, newest first."""
    with _control(center) as control:
        answer = control.ListRuns(ListRunsRequest(limit=limit))
    return sorted(map(_run, answer.run_dict.values()), key=lambda run: run.started, reverse=True)


def find_run(center: Center, run_id: int) -> Run:
    """One run."""
    with _control(center) as control:
        return _run(control.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id])


def follow_run(center: Center, run_id: int) -> Iterator[str]:
    """Yields the run's log until it has ended, across restarts of the SuperLink."""
    after, failing_since = 0.0, 0.0
    while True:
        try:
            with _control(center) as control:
                for part in control.StreamLogs(StreamLogsRequest(run_id=run_id, after_timestamp=after)):
                    after = max(after, part.latest_timestamp)
                    yield part.log_output
            if find_run(center, run_id).state.startswith("finished"):
                return
            failing_since = 0.0
        except CenterError as error:
            failing_since = failing_since or time.monotonic()
            if error.exit_code != ExitCode.SUPERLINK_UNREACHABLE or _too_long(failing_since):
                raise
        time.sleep(POLL_S)


def _too_long(since: float) -> bool:
    return time.monotonic() - since > RECONNECT_WITHIN_S


@contextlib.contextmanager
def _control(center: Center) -> Iterator[ControlHttpClient]:
    _wait_while_starting(center)
    client = ControlHttpClient.from_server_address(
        f"127.0.0.1:{center.port}",
        insecure=False,
        root_certificates=center.authority.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    try:
        yield client
    except httpx.RequestError as error:
        cause, fix = likely_cause(center)
        raise CenterError(
            what="the SuperLink does not answer",
            where=f"127.0.0.1:{center.port}",
            found=cause or f"{type(error).__name__}: {error}",
            fix=fix or f"start the center: {center.directory / 'start.sh'}; if it runs, see logs/superlink.log",
            exit_code=ExitCode.SUPERLINK_UNREACHABLE,
        ) from None
    except httpx.HTTPStatusError as error:
        flower_error = FlowerError.from_json(error.response.text)
        code = flower_error.code if flower_error else None
        raise _refused(
            center, flower_error.message if flower_error else f"HTTP {error.response.status_code}", code
        ) from None
    finally:
        client.close()


def _wait_while_starting(center: Center) -> None:
    """Gives a SuperLink that was just started, or restarted, the seconds it needs before it listens."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", center.port)) == 0 or not is_supervised(center):
                return
        time.sleep(POLL_S / 4)


def _refused(center: Center, reason: str, code: int | None = None) -> CenterError:
    taken = code == ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE
    cause, fix = ("", "the key is, or was once, registered: ask the hospital for a new one")
    if not taken:
        cause, fix = likely_cause(center)
    return CenterError(
        what="the SuperLink refused the request",
        where=f"127.0.0.1:{center.port}",
        found=f"{reason}; {cause}" if cause else reason,
        fix=fix or "see logs/superlink.log",
        exit_code=ExitCode.CREDENTIALS if taken else ExitCode.CONFIGURATION,
    )


def _site(node: Any, now: str) -> Site:
    seen = now if node.status == "online" else node.last_deactivated_at
    return Site(node.name or f"node-{node.node_id}", node.node_id, node.status, _to_second(seen), node.public_key)


def _run(run: Any) -> Run:
    state = ":".join(part for part in (run.status.status, run.status.sub_status) if part)
    app = f"{run.fab_id}=={run.fab_version}"
    return Run(run.run_id, app, state, run.status.details, _to_second(run.pending_at), _to_second(run.finished_at))


def _to_second(moment: str) -> str:
    return moment[:19] + "Z" if moment else ""
