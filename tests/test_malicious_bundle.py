"""What a hostile center gets: runs whose bundles hold code, through a real SuperLink, at a real hospital."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import stat
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from flwr.app import ConfigRecord, Message
from flwr.common.serde import run_from_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest
from flwr.supercore.constant import AGENT_MESSAGE_CONTENT_RECORD_KEY, AGENT_MESSAGE_TEXT_KEY, TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from client.config.site import load_site
from client.governance.audit import audit_of
from server.operations.center import Center
from server.operations.proxy import find_nginx
from server.study.audit import audit_of as audit_at_the_center
from shared_models.chained_log import read
from shared_models.messages import TrainRequest
from shared_models.study_settings import parse_study_settings
from simulation.engines.rehearsal import rehearse

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light"),
]

CANARY = "canary: no byte of this patient's file leaves"
OTHER_FILES, OTHER_APP = "it holds other files than its settings", "it is too large or does not name client.app:app"
SENTENCE = "the site refused the study: {}; sites run the code that they installed themselves"
CODE = "from pathlib import Path\n(Path({marks!r}) / {name!r}).write_text(Path({canary!r}).read_text())\n"


def settings(**components: str) -> str:
    """A study's settings, with some of its components replaced."""
    components = {"serverapp": "server.app:app", "clientapp": "client.app:app", **components}
    app = {"publisher": "center", "components": components, "config": {"study": "hostile"}}
    project = {"name": "hostile", "version": "1.0.0", "description": "", "license": "Apache-2.0"}
    return tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}})


def bundle(*others: tuple[str, str], note: str = "", link: bool = False, **components: str) -> bytes:
    """A bundle with Flower's own list of checksums, however hostile its other entries are."""
    entries = [("pyproject.toml", settings(**components) + note), *others]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            if link and name != "pyproject.toml":
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        sums = [f"{name},{hashlib.sha256(text.encode()).hexdigest()},{8 * len(text)}" for name, text in entries]
        archive.writestr(".info/CONTENT", "\n".join(sums))
    return file.getvalue()


def attacks(marks: Path, canary: Path) -> dict[str, tuple[bytes, str]]:
    """Each attack's bundle, and why the site refuses it; what runs copies the canary into `marks`."""

    def code(*names: str) -> list[tuple[str, str]]:
        where = {"marks": str(marks), "canary": str(canary)}
        return [(name, CODE.format(name=name.replace("/", "_"), **where)) for name in names]

    library = code("torch.py", "numpy/__init__.py", "sitecustomize.py", "usercustomize.py", "flwr/__init__.py")
    path_file = ("start.pth", f"import pathlib; pathlib.Path({str(marks / 'pth')!r}).touch()\n")
    return {
        "client": (bundle(*code("client/__init__.py", "client/app.py")), OTHER_FILES),
        "shared_models": (bundle(*code("shared_models/__init__.py", "shared_models/task.py")), OTHER_FILES),
        "library": (bundle(*library, path_file), OTHER_FILES),
        "module": (bundle(*code("evil.py"), clientapp="evil:app"), OTHER_FILES),
        "installed module": (bundle(clientapp="antigravity:app"), OTHER_APP),
        "agent": (bundle(*code("evil.py"), agentapp="evil:app"), OTHER_FILES),
        "path": (bundle(*code("../../x.py", str(marks / "absolute.py"))), OTHER_FILES),
        "link": (bundle(("data", str(canary.parent)), link=True), OTHER_FILES),
        "second settings": (bundle(("pyproject.toml", settings(clientapp="evil:app")), *code("evil.py")), OTHER_FILES),
        "bomb": (bundle(note="#" * 5_000_000), OTHER_APP),
    }


class HostileCenter:
    """Whoever holds the center's folder: starts runs of any bundle, and speaks in the ServerApp's place."""

    def __init__(self, center: Center) -> None:
        self._held: list[tuple[HttpGrid, HeartbeatSender]] = []
        self._address, self._authority = f"127.0.0.1:{center.port}", center.authority.read_bytes()
        self._control = ControlHttpClient.from_server_address(
            self._address,
            insecure=False,
            root_certificates=self._authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        self._runtime = RuntimeHttpClient.from_server_address(
            self._address,
            insecure=False,
            root_certificates=self._authority,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=center.secret.read_bytes(), protected_methods=["/flwr.proto.Runtime/AcquireTask"]
                ),
            ],
        )

    def start(self, content: bytes) -> int:
        fab = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
        return int(self._control.StartRun(StartRunRequest(fab=fab, user_prompt="go")).run_id)

    def train(self) -> tuple[int, HttpGrid, list[str]]:
        """Takes over the next run's server and asks every site to train; the run, its grid, the messages."""
        types = [TaskType.SERVER_APP, TaskType.AGENT_APP]
        task = self._runtime.AcquireTask(AcquireTaskRequest(supported_task_types=types))
        grid = HttpGrid(self._address, root_certificates=self._authority, token=task.token)
        given = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        run = run_from_proto(given.run)
        grid.set_run(run)
        heart = HeartbeatSender(make_task_heartbeat_fn_http(grid._runtime_client))
        heart.start()
        self._held.append((grid, heart))
        TaskIdentity.run_id, TaskIdentity.node_id = run.run_id, given.context.node_id
        TaskIdentity.task_id = given.task_id
        content = TrainRequest(round=1, model={}, statistics={}).pack()
        content[AGENT_MESSAGE_CONTENT_RECORD_KEY] = ConfigRecord({AGENT_MESSAGE_TEXT_KEY: "go"})
        asked = [Message(content, dst_node_id=node, message_type="train", ttl=600) for node in grid.get_node_ids()]
        return run.run_id, grid, list(grid.push_messages(asked))

    def close(self) -> None:
        for grid, heart in self._held:
            heart.stop()
            grid.close()
        self._control.close()
        self._runtime.close()


def answers(grid: HttpGrid, sent: list[str]) -> list[str]:
    """Why the sites sent nothing, one reason a message."""
    deadline, replies = time.monotonic() + 300, list[Message]()
    while len(replies) < len(sent):
        assert time.monotonic() < deadline, "no answer"
        # An AgentApp is also given its prompt, as a message of the SuperLink's own.
        replies += [reply for reply in grid.pull_messages(sent) if reply.metadata.reply_to_message_id in sent]
        time.sleep(0.2)
    assert not any(reply.has_content() for reply in replies), replies
    return [reply.error.reason for reply in replies]


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_no_bundle_of_a_hostile_center_runs_each_is_audited_and_an_honest_study_trains(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], tmp_path: Path
) -> None:
    files = hospitals({"oak": 60})
    marks, canary, folder = tmp_path / "marks", files["oak"].parent / "canary.csv", tmp_path / "federation"
    for made in (marks, folder):
        made.mkdir()
    marks.chmod(0o777)
    canary.write_text(CANARY)
    attempts = attacks(marks, canary)
    with rehearse(files, folder) as federation:
        center, reasons = federation.center, {}
        superexec = int((center.directory / "run" / "superexec.pid").read_text())
        os.kill(superexec, signal.SIGSTOP)
        hostile = HostileCenter(center)
        runs = {hostile.start(content): name for name, (content, _) in attempts.items()}
        for run, grid, sent in [hostile.train() for _ in runs]:
            assert len(sent) == 1
            reasons[runs[run]] = answers(grid, sent)[0]
        hostile.close()
        os.kill(superexec, signal.SIGCONT)
        site = load_site(next((folder / "sites").glob("oak.yaml")))
        audited = read(audit_of(site))

        honest = parse_study_settings({**small_study, "study": "honest", "rounds": 1, "min-sites": 1})
        assert federation.finish(federation.begin(honest), honest)["rounds_completed"] == 1

    expected = {name: SENTENCE.format(why) for name, (_, why) in attempts.items()}
    assert {name: reason.split("<'")[-1].removesuffix("'>") for name, reason in reasons.items()} == expected
    for name, reason in reasons.items():
        print(f"{name}: {reason}")
    assert sorted(line["why"] for line in audited) == sorted(expected.values())
    assert {(line["event"], line["study"], line["message"]) for line in audited} == {("refused", "hostile", "train")}
    assert list(marks.iterdir()) == []
    assert not any("hostile" in path.name for path in site.state_dir.glob("flwr/apps/*"))
    assert not any(CANARY.encode() in path.read_bytes() for path in center.directory.rglob("*") if path.is_file())
    left = read(audit_of(site))[len(audited) :]
    arrived = [line for line in read(audit_at_the_center(center.results / honest.study)) if line["event"] == "received"]
    assert {line["event"] for line in left} == {"sent"}
    assert [line["sha256"] for line in left] == [line["sha256"] for line in arrived]
