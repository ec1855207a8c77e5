"""Between a hospital and the center, for real: TLS, node keys and what a hostile neighbour can do with a request."""

from __future__ import annotations

import datetime
import http.client
import ssl
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, RegisterNodeFleetRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode import node_auth_http_interceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from server.__main__ import main
from server.errors import ExitCode
from server.operations.superlink import list_sites
from server.study.audit import audit_of
from server.study.weights.checkpoint import describe
from shared_models.chained_log import read
from shared_models.study_settings import parse_study_settings
from simulation.engines.rehearsal import rehearse

pytestmark = pytest.mark.e2e


def context_of(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client of this version alone, whatever the system's policy; OpenSSL 3 has the old ones at level 0 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return only(context, version)


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of the versions that are to be refused
        context.minimum_version = context.maximum_version = version
    return context


def shake_hands(address: str, version: ssl.TLSVersion) -> str | None:
    host, port = address.split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context_of(version), timeout=30)
    try:
        connection.connect()
        return str(connection.sock.version())
    finally:
        connection.close()


OLD, NEW = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1), (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", OLD)
def test_an_old_tls_is_refused_by_proxy_and_superlink(center: Any, version: ssl.TLSVersion) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(center.directory / "server.crt", center.directory / "server.key")
    assert agreed(only(server, version), context_of(version)) == version.name.replace("_", ".")  # it can be offered
    for address in (center.address, f"127.0.0.1:{center.port}"):
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version|eof occurred"):
            shake_hands(address, version)


@pytest.mark.parametrize("version", NEW)
def test_tls_1_2_and_1_3_are_accepted(center: Any, version: ssl.TLSVersion) -> None:
    for address in (center.address, f"127.0.0.1:{center.port}"):
        assert shake_hands(address, version) == version.name.replace("_", ".")


def agreed(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """The version of a handshake in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0].version()


class Recorder:
    """Keeps the last request as it went out."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        response = call_next(context)
        self.headers, self.body = dict(response.request.headers), response.request.content
        return response


class Neighbour:
    """Flower's own client of the Fleet API, through the proxy, with a key of its own."""

    def __init__(self, center: Any, folder: Path, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.public_file, self.sent = folder / f"{name}.pub", Recorder()
        self.public_file.write_bytes(self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.activation = ActivateNodeRequest(public_key=pem, heartbeat_interval=60)
        self.registration = RegisterNodeFleetRequest(public_key=pem)
        self.fleet = FleetHttpClient.from_server_address(
            center.address,
            insecure=False,
            root_certificates=center.ca.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flower-supernode"),
                NodeAuthHttpInterceptor(self.key, self.key.public_key()),
                self.sent,
            ],
        )

    def pull(self, node: int) -> Any:
        return self.fleet.PullMessages(PullMessagesRequest(node=Node(node_id=node)))


@pytest.fixture
def neighbour(center: Any, tmp_path: Path) -> Iterator[Any]:
    made: list[Neighbour] = []

    def make(name: str) -> Neighbour:
        made.append(Neighbour(center, tmp_path, name))
        return made[-1]

    yield make
    for one in made:
        one.fleet.close()


def refused(call: Any, *arguments: Any) -> str:
    """Why a call got no answer: `status detail`."""
    with pytest.raises(httpx.HTTPStatusError) as answer:
        call(*arguments)
    return f"{answer.value.response.status_code} {answer.value.response.json()['detail']}"


UNKNOWN = "401 Invalid SuperNode authentication"


def test_an_unregistered_key_joins_nothing_and_cannot_let_itself_in(center: Any, neighbour: Any) -> None:
    member, stranger = neighbour("oak"), neighbour("stranger")
    node = center.register("oak", member.public_file)
    assert member.fleet.ActivateNode(member.activation).node_id == node
    assert refused(stranger.fleet.ActivateNode, stranger.activation) == "412 Failed to activate SuperNode."
    assert "must be registered via the CLI" in refused(stranger.fleet.RegisterNode, stranger.registration)
    assert refused(stranger.fleet.ActivateNode, member.activation) == UNKNOWN  # another's key
    assert refused(stranger.pull, node) == UNKNOWN


def test_a_new_key_takes_the_old_ones_place_and_a_revoked_one_is_refused_at_once(center: Any, neighbour: Any) -> None:
    old, new, folder = neighbour("old"), neighbour("new"), ["--directory", str(center.directory)]
    node = center.register("elm", old.public_file)
    old.fleet.ActivateNode(old.activation)
    old.pull(node)
    assert main(["register", "elm", str(new.public_file), *folder]) == ExitCode.CREDENTIALS
    assert main(["register", "elm", str(new.public_file), "--replace", *folder]) == ExitCode.OK
    assert refused(old.pull, node) == UNKNOWN
    assert refused(old.fleet.ActivateNode, old.activation) == "412 Failed to activate SuperNode."
    moved = new.fleet.ActivateNode(new.activation).node_id
    new.pull(moved)
    assert main(["unregister", "elm", *folder]) == ExitCode.OK
    assert refused(new.pull, moved) == UNKNOWN
    events = [(line["event"], line["site"]) for line in read(audit_of(center.directory / "results"))]
    assert [event for event, site in events if site == "elm"] == ["register", "register", "unregister", "unregister"]


def replay(center: Any, path: str, headers: dict[str, str], body: bytes) -> int:
    host, port = center.address.split(":")
    context = ssl.create_default_context(cafile=center.ca)
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    try:
        connection.request("POST", path, body, {k: v for k, v in headers.items() if k != "content-length"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_captured_request_is_worth_five_minutes_and_one_site(
    center: Any, neighbour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, other = neighbour("ash"), neighbour("fir")
    node, another = center.register("ash", victim.public_file), center.register("fir", other.public_file)
    victim.fleet.ActivateNode(victim.activation)
    victim.pull(node)
    headers, body, path = victim.sent.headers, victim.sent.body, "/v1/fleet/pull-messages"
    heartbeat = SendNodeHeartbeatRequest(node=Node(node_id=node), heartbeat_interval=60).SerializeToString()
    # Flower signs the time alone, so these pass: docs/security.md says so under what is not promised.
    assert replay(center, path, headers, body) == 200
    assert replay(center, "/v1/fleet/send-node-heartbeat", headers, heartbeat) == 200
    # What a thief of a request cannot do: act as another site, or give the request another time.
    stolen = PullMessagesRequest(node=Node(node_id=another)).SerializeToString()
    assert replay(center, path, headers, stolen) == 401
    moment = datetime.datetime.fromisoformat(headers["flwr-timestamp"]) + datetime.timedelta(seconds=1)
    assert replay(center, path, {**headers, "flwr-timestamp": moment.isoformat()}, body) == 401
    for seconds in (-306, 60):  # 5 s are allowed, and a busy machine's request takes some on its way
        there = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        monkeypatch.setattr(node_auth_http_interceptor, "now", lambda there=there: there)
        assert refused(victim.pull, node) == UNKNOWN


@pytest.mark.slow
def test_a_study_goes_on_when_a_key_is_replaced_and_the_site_is_back_under_its_name(
    hospitals: Any, small_study: dict[str, Any], tmp_path: Path
) -> None:
    study = {**small_study, "rounds": 4, "sites": "a,b", "min-sites": 1, "join-timeout-s": 120.0}
    first, second = (parse_study_settings({**study, "study": name}) for name in ("first", "second"))
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    with rehearse(hospitals({"a": 70, "b": 60}), folder) as federation:
        key, center = folder / "keys" / "b", federation.center
        run = federation.begin(first)
        until(lambda: (describe(center.results, "first") or {"round": 0})["round"] >= 1)
        (before,) = [site for site in list_sites(center) if site.name == "b"]
        make = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key.with_name("new"))]
        subprocess.run(make, check=True)
        words = ["register", "b", str(key.with_name("new.pub")), "--replace", "--directory", str(center.directory)]
        assert main(words) == ExitCode.OK
        for suffix in ("", ".pub"):  # the hospital puts its new key where the old one was; its SuperNode comes back
            key.with_name(f"new{suffix}").replace(key.with_name(f"b{suffix}"))
        assert federation.finish(run, first)["rounds_completed"] == 4
        until(lambda: federation.online() == {"a", "b"})
        (after,) = [site for site in list_sites(center) if site.name == "b"]
        assert after.node_id != before.node_id
        rounds = federation.finish(federation.begin(second), second)["rounds"]
        assert [record["counted"] for record in rounds] == [["a", "b"]] * 4


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
