"""A real SuperLink, SuperExec and nginx, over TLS."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from server.__main__ import main
from server.errors import ExitCode
from server.operations.certificates import create_authority

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"),
]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A hospital's fresh pair; the public half lies beside it."""
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", "key"]
    subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path / "key"


def post(address: str, path: str, ca: Path, method: str = "POST", body: bytes = b"") -> tuple[int, str]:
    host, port = address.split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=ssl.create_default_context(cafile=ca), timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": "application/protobuf"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def sites(center: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["status", "--json", "--directory", str(center.directory)]) == ExitCode.OK
    return {site["site"]: site["state"] for site in json.loads(capsys.readouterr().out)["sites"]}


def test_fleet_api_reaches_the_superlink_through_the_proxy(center: Any) -> None:
    status, text = post(center.address, "/v1/fleet/pull-messages", center.ca)
    assert status not in {403, 404, 502}
    assert "nginx" not in text


def test_body_of_a_chunk_passes(center: Any) -> None:
    status, _ = post(center.address, "/v1/fleet/push-object", center.ca, body=bytes(6 * 2**20))
    assert status not in {403, 413, 502}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/runtime/get-nodes",
        "/v1/fleet/../control/list-nodes",
        "/v1/control/../fleet/get-run",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/%252e%252e/control/list-nodes",
        "//v1/control/list-nodes",
        "/v1/fleet/",
        "/docs",
    ],
)
def test_every_other_path_is_refused(center: Any, path: str) -> None:
    status, text = post(center.address, path, center.ca)
    assert status == 403
    assert "nginx" in text


def test_other_methods_are_refused(center: Any) -> None:
    assert post(center.address, "/v1/fleet/get-run", center.ca, method="GET")[0] == 403


def test_client_with_another_authority_does_not_trust_the_center(center: Any, tmp_path: Path) -> None:
    create_authority(tmp_path / "ca.crt", tmp_path / "ca.key", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        post(center.address, "/v1/fleet/get-run", tmp_path / "ca.crt")


def test_superlink_itself_listens_on_loopback_with_tls(center: Any) -> None:
    assert post(f"127.0.0.1:{center.port}", "/v1/control/list-nodes", center.ca)[0] == 200


def test_proxy_is_back_after_a_kill(center: Any) -> None:
    center.kill("proxy")
    deadline = time.monotonic() + 120
    while True:
        try:
            assert post(center.address, "/v1/fleet/pull-messages", center.ca)[0] not in {403, 404}
            return
        except OSError:  # refused, or cut in its handshake
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_site_registers_appears_survives_a_kill_and_leaves(
    center: Any, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--directory", str(center.directory)]
    assert main(["register", "duke", str(key), *folder]) == ExitCode.CREDENTIALS
    assert "PRIVATE" in capsys.readouterr().err
    assert main(["register", "duke", f"{key}.pub", *folder]) == ExitCode.OK
    capsys.readouterr()
    assert sites(center, capsys) == {"duke": "registered"}
    assert main(["register", "ucsf", f"{key}.pub", *folder]) == ExitCode.CREDENTIALS
    assert "this key is already registered" in capsys.readouterr().err

    center.kill_superlink()
    assert sites(center, capsys) == {"duke": "registered"}
    assert post(center.address, "/v1/fleet/pull-messages", center.ca)[0] not in {403, 502}

    assert main(["unregister", "duke", *folder]) == ExitCode.OK
    capsys.readouterr()
    assert sites(center, capsys) == {}
    assert main(["register", "duke", f"{key}.pub", *folder]) == ExitCode.CREDENTIALS
    assert "ask the hospital for a new one" in capsys.readouterr().err


def test_study_that_no_site_joins_fails_with_its_log(center: Any, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--set", "study=lonely", "--set", "join-timeout-s=1", "--follow"]
    assert main([*words, "--directory", str(center.directory)]) == ExitCode.RUN_FAILED
    output = capfd.readouterr()
    assert "finished:failed" in output.err
    assert main(["status", "--json", "--directory", str(center.directory)]) == ExitCode.OK
    runs = json.loads(capfd.readouterr().out)["runs"]
    assert ("lonely", "finished:failed") in {(run["study"], run["state"]) for run in runs}
    assert [path.name for path in (center.directory / "bundles").glob("lonely-*/*")] == ["pyproject.toml"]
