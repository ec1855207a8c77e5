from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flwr.common.config import parse_config_args

from client.config.site import Center, load_site
from client.connection.supernode import LaunchConfig, command, environment, launch_config, node_config
from client.connection.supernode_log import SuperNodeLogParser
from client.connection.supervisor import claim
from client.errors import ExitCode, SiteError
from client.governance.approval import COMMAND, check_approval
from client.governance.notices import NOT_APPROVED, PREFIX, UNLIKE_OTHERS
from shared_models.study_settings import StudySettings

SITE = """
site: duke
data_root: .
state_dir: state
center: {{address: "{address}", ca_certificate: {ca}, private_key: duke}}
tables: {{clinical: {{file: clinical.csv, patient_id: id}}}}
modalities: {{clinical: {{reader: table, features: {{age_years: age}}}}}}
targets: {{recurrence: {{label: recurred}}}}
"""
TABLE = "id,age,recurred\n" + "".join(f"p{i},{40 + i},{i % 2}\n" for i in range(40))


@pytest.fixture
def launch(tmp_path: Path) -> LaunchConfig:
    center = Center(address="center.example.org", ca_certificate=tmp_path / "ca.crt", private_key=tmp_path / "duke")
    return LaunchConfig("duke", center, tmp_path / "state", {"site-config": "/etc/duke.yaml"})


def make_site(folder: Path, address: str, ca: Path) -> Path:
    (folder / "clinical.csv").write_text(TABLE)
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", folder / "duke"], check=True)
    (folder / "duke.yaml").write_text(SITE.format(address=address, ca=ca))
    return folder / "duke.yaml"


@pytest.mark.parametrize(
    "path",
    ["/data/duke.yaml", '/a b/it\'s "x"=1.yaml', "/a\\b/é\t\n.yaml", "/x.toml"],
    ids=["plain", "quotes", "odd", "toml"],
)
def test_flower_reads_any_path_as_it_was(path: str) -> None:
    values = {"site-config": path, "data-root": path}
    assert parse_config_args([node_config(values)]) == values


def test_a_replaced_data_root_reaches_the_client_app(tmp_path: Path) -> None:
    site = load_site(make_site(tmp_path, "localhost:1", tmp_path / "ca.crt"))
    assert site.center is not None
    file = tmp_path / "duke.yaml"
    assert launch_config(site, site.center, file, None).node_config == {"site-config": str(file)}
    assert launch_config(site, site.center, file, tmp_path).node_config == {
        "site-config": str(file),
        "data-root": str(tmp_path),
    }


def test_command_serves_its_client_apps_on_this_computer_only(launch: LaunchConfig) -> None:
    line = command(launch, 9101)
    assert Path(line[0]).is_file()
    assert line[line.index("--superlink") + 1] == "center.example.org:443"
    assert line[line.index("--host") + 1] == "127.0.0.1"
    assert "--insecure" not in line


def test_environment_keeps_flower_quiet_and_in_the_sites_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.setenv("FLWR_HOME", "/elsewhere")
    variables = environment(tmp_path)
    assert variables["FLWR_HOME"] == str(tmp_path / "flwr")
    assert variables["FLWR_TELEMETRY_ENABLED"] == "0"
    assert variables["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert variables["NO_PROXY"] == "intranet,127.0.0.1,localhost"


def sentences(parser: SuperNodeLogParser, log: str) -> list[str]:
    return [sentence for line in log.splitlines() if (sentence := parser.read(line))]


def test_sentences_of_a_round() -> None:
    log = """\
\x1b[92mINFO \x1b[0m:      SuperNode ID: 389653838933987283
\x1b[92mINFO \x1b[0m:      [RUN 77, ROUND 2]
\x1b[92mINFO \x1b[0m:      Receiving: train message (ID: 0c2f)
\x1b[92mINFO \x1b[0m:      Received successfully
\x1b[92mINFO \x1b[0m:      [RUN 77, ROUND 2]
\x1b[92mINFO \x1b[0m:      Sending: train message (ID: 55aa)
\x1b[92mINFO \x1b[0m:      Sent successfully
\x1b[92mINFO \x1b[0m:      [RUN 77]
\x1b[92mINFO \x1b[0m:      Receiving: query.prepare message (ID: 0c2f)
\x1b[92mINFO \x1b[0m:      [RUN 77]
\x1b[92mINFO \x1b[0m:      Receiving: query.open message (ID: 0c2f)
"""
    assert sentences(SuperNodeLogParser(), log) == [
        "joined the center as node 389653838933987283; waiting for work",
        "round 2: asked to train",
        "round 2: answer to train sent",
        "asked to prepare",
        "asked to reveal the sum of a secure aggregation",
    ]


def test_sentences_of_an_outage_are_few_and_a_blip_has_none() -> None:
    missed = "WARNING :   Connection attempt failed, retrying in 0.72 seconds\n"
    back = "INFO :      Connection successful after 17.13 seconds and 7 tries.\n"
    assert sentences(SuperNodeLogParser(), 2 * missed + back) == []
    silent, answers = "the center does not answer; still trying", "the center answers again after 17 s"
    assert sentences(SuperNodeLogParser(), 5 * missed + back) == [silent, answers]
    assert sentences(SuperNodeLogParser(), 47 * missed + back) == [*4 * [silent], answers]


def test_a_refused_study_is_told_with_the_command_that_approves_it(
    hospitals: Callable[..., dict[str, Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    file = hospitals({"oak": 20})["oak"]
    file.write_text(f"{file.read_text()}center: {{address: center.example.org, ca_certificate: c, private_key: k}}\n")
    with pytest.raises(SiteError) as refused:
        check_approval(load_site(file), StudySettings(study="recurrence"))
    log = f"INFO :      [RUN 77, ROUND 2]\n{capfd.readouterr().err}{refused.value}\n"
    command = COMMAND.format(site="oak")
    sentence = (
        f"round 2: refused: study 'recurrence' is not approved here with these settings; if it is wanted: {command}"
    )
    assert sentences(SuperNodeLogParser("oak"), log) == [sentence]


@pytest.mark.parametrize(
    "line",
    [
        PREFIX,
        f"{PREFIX}[]",
        f'{PREFIX}{{"event": "another"}}',
        f'INFO: {PREFIX}{{"event": "not-approved"}}',
        "  to do:    if the hospital wants this study: python -m client approve STUDY.toml --site oak",
    ],
)
def test_neither_prose_nor_a_broken_notice_is_taken_for_one(line: str) -> None:
    assert sentences(SuperNodeLogParser("oak"), line) == []


def test_a_notice_with_codes_for_the_terminal_shows_none_of_them() -> None:
    (sentence,) = sentences(
        SuperNodeLogParser("oak"), PREFIX + json.dumps({"event": NOT_APPROVED, "study": "a\x1b[2J" * 99})
    )
    assert sentence.isprintable()
    assert len(sentence) < 300


def test_a_site_that_is_unlike_the_others_is_told_so() -> None:
    notice = PREFIX + json.dumps({"event": UNLIKE_OTHERS, "sentence": "clinical: size_mm is 2.1\x1b[2J"})
    (sentence,) = sentences(SuperNodeLogParser("oak"), f"INFO :      [RUN 77, ROUND 1]\n{notice}")
    assert sentence.startswith(
        "round 1: this site's patients are unlike the other hospitals': clinical: size_mm is 2.1"
    )
    assert sentence.isprintable()


def test_sentences_of_endings() -> None:
    parser = SuperNodeLogParser()
    sentences(parser, "ERROR :     Exit Code: 305\nFailed to initialize.\n[code: 2004] Failed to activate SuperNode.")
    assert parser.refused
    assert "did not accept this site's key" in parser.ending(1)
    parser = SuperNodeLogParser()
    sentences(
        parser, "ERROR :     Exit Code: 606\nThe center runs 1.50.\n\nUpgrade.\n\nFor more information, visit: <x>"
    )
    assert parser.ending(1) == "Flower ended with its code 606: The center runs 1.50. Upgrade."
    parser = SuperNodeLogParser()
    sentences(parser, "INFO :      SuperNode terminated gracefully.")
    assert "lost its records, unregistered this site" in parser.ending(0)
    assert "signal 9" in SuperNodeLogParser().ending(-9)
    assert "it wrote nothing" in SuperNodeLogParser().ending(4)


def test_a_site_is_claimed_once_and_free_after(tmp_path: Path) -> None:
    with claim(tmp_path / "state"):
        with pytest.raises(SiteError, match=f"process {os.getpid()}") as refused, claim(tmp_path / "state"):
            pass
        assert refused.value.exit_code == ExitCode.USAGE
    with claim(tmp_path / "state"):
        pass


def processes_of(state_dir: Path) -> list[str]:
    """The command lines of all processes that work in a site's folder."""
    processes = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and f"FLWR_HOME={state_dir}/flwr\0".encode() in (folder / "environ").read_bytes():
                processes.append((folder / "cmdline").read_text().replace("\0", " "))
    return processes


class Site:
    """`python -m client` on its own, with all it has said."""

    def __init__(self, arguments: list[str]) -> None:
        command = [sys.executable, *arguments]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self.text += line

    def says(self, words: str, times: int = 1, within_s: float = 300.0) -> None:
        until(lambda: len(re.findall(words, self.text)) >= times, within_s, lambda: self.text)

    def supernode(self) -> int:
        """The process that Flower runs in."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert len(children) == 1
        return int(children[0])

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join()
        return status


@contextmanager
def running(*arguments: str) -> Iterator[Site]:
    site = Site(list(arguments))
    try:
        yield site
    finally:
        site.end(signal.SIGKILL)


def until(true: Callable[[], object], within_s: float, otherwise: Callable[[], object]) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.1)


RUN_FOREVER = """
import sys; from pathlib import Path
from client.config.site import load_site
from client.connection.supernode import launch_config; from client.connection.supervisor import run_forever
site = load_site(Path(sys.argv[1]))
sys.exit(run_forever(launch_config(site, site.center, Path(sys.argv[1]), None), print))
"""


@pytest.mark.e2e
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_no_process_is_left_however_it_ends(tmp_path: Path, number: int, status: int) -> None:
    from server.operations.certificates import create_authority

    create_authority(tmp_path / "ca.crt", tmp_path / "ca.key", "breast")
    file = make_site(tmp_path, "localhost:1", tmp_path / "ca.crt")  # nobody listens there: Flower keeps trying
    state = tmp_path / "state" / "duke"
    with running("-c", RUN_FOREVER, str(file)) as site:
        site.says("the center does not answer; still trying")
        assert len(processes_of(state)) >= 1
        assert site.end(number) == status
        until(lambda: not processes_of(state), 60, lambda: processes_of(state))
    log = (state / "logs" / "supernode.log").read_text()
    assert "Connection attempt failed" in log
    assert "\x1b" not in log


@pytest.mark.e2e
def test_a_site_waits_to_be_registered_then_joins(center: Any, tmp_path: Path) -> None:
    file = make_site(tmp_path, center.address, center.ca)
    state = tmp_path / "state" / "duke"
    with running("-m", "client", "--site", str(file)) as site:
        site.says("python -m server register duke duke.pub")
        assert "joined" not in site.text
        center.register("duke", tmp_path / "duke.pub")
        site.says("joined the center as node")
        second = subprocess.run(
            [sys.executable, "-m", "client", "--site", str(file)], capture_output=True, text=True, check=False
        )
        assert (second.returncode, "already takes part" in second.stderr) == (ExitCode.USAGE, True)
        assert site.end(signal.SIGTERM) == ExitCode.OK
        assert processes_of(state) == []

    with running("-m", "client", "--site", str(file)) as site:
        site.says("joined the center as node")  # at once: the clean stop told the center


@pytest.mark.e2e
@pytest.mark.slow  # the center counts a lost connection for 60 s
def test_a_killed_supernode_comes_back_although_the_center_first_refuses(center: Any, tmp_path: Path) -> None:
    file = make_site(tmp_path, center.address, center.ca)
    center.register("crash", tmp_path / "duke.pub")
    with running("-m", "client", "--site", str(file)) as site:
        site.says("joined the center as node")
        os.kill(site.supernode(), signal.SIGKILL)
        site.says("it still counts the connection that was lost")
        site.says("joined the center as node", times=2, within_s=300)
        assert "keeps refusing" not in site.text
        assert site.end(signal.SIGTERM) == ExitCode.OK
    assert processes_of(tmp_path / "state" / "duke") == []
