from __future__ import annotations

import io
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from client.__main__ import main
from client.errors import ExitCode
from client.verbs.arguments import OLD_FLAGS
from server.operations.certificates import create_authority, issue_server_certificate
from shared_models.installation import describe

SITE = """
site: duke
data_root: data
state_dir: state
center: {{address: "{address}", ca_certificate: ca.crt, private_key: duke}}
tables: {{clinical: {{file: clinical.csv, patient_id: id}}}}
modalities: {{clinical: {{reader: table, features: {{age_years: age}}}}}}
targets: {{recurrence: {{label: recurred}}}}
"""
TABLE = "id,age,recurred\n" + "".join(f"p{i},{40 + i},{i % 2}\n" for i in range(40))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hospital's folder with everything in place but a center that runs."""
    create_authority(tmp_path / "ca.crt", tmp_path / "ca.key", "breast")
    issue_server_certificate(tmp_path, ["localhost"])
    site = tmp_path / "site_configs"
    (site / "data").mkdir(parents=True)
    (site / "data" / "clinical.csv").write_text(TABLE)
    (tmp_path / "ca.crt").rename(site / "ca.crt")
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", site / "duke"], check=True)
    configure(tmp_path, "localhost:1")
    return tmp_path


def configure(folder: Path, address: str) -> None:
    (folder / "site_configs" / "duke.yaml").write_text(SITE.format(address=address))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server with the center's certificate; it speaks TLS and says nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def loop() -> None:
            while not stop.is_set():
                with suppress(OSError), listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True):
                    pass

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield f"localhost:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Runs the command there; whatever happens, no traceback and nothing in the state folder but the report."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(output):
        patch.chdir(folder)
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        try:
            status = main([*arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
    return looked_at(folder, status, output.getvalue())


def run_alone(folder: Path, *arguments: str) -> tuple[int, str]:
    """The same in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-m", "client", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return looked_at(folder, done.returncode, done.stdout + done.stderr)


def looked_at(folder: Path, status: int, text: str) -> tuple[int, str]:
    assert "Traceback" not in text
    written = {path.name for path in (folder / "site_configs" / "state").glob("duke/*")}
    assert written <= {"readiness.html", "state_version"}
    return status, text


def test_help_teaches(tmp_path: Path) -> None:
    status, text = run_alone(tmp_path, "--help")
    assert status == ExitCode.OK
    for words in (
        "what it reads",
        "what leaves",
        "python -m client init",
        "readiness.html",
        "excluded.csv",
        "examples",
        "exit codes",
    ):
        assert words in text


def test_every_exit_code_is_in_the_help(tmp_path: Path) -> None:
    _, text = run(tmp_path, "--help")
    table = text[text.index("exit codes") :]
    assert all(f" {int(code)}  " in table for code in ExitCode)


def test_usage(tmp_path: Path) -> None:
    assert run_alone(tmp_path)[0] == ExitCode.USAGE
    assert run(tmp_path, "--site", "duke", "--checks")[0] == ExitCode.USAGE


def test_the_site_may_be_named_before_or_after_the_verb(folder: Path) -> None:
    after, before = run(folder, "approvals", "--site", "duke"), run(folder, "--site", "duke", "approvals")
    assert after == before
    assert "duke: 0 approved" in after[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--site", "duke", "--check"], "--check is a verb now: python -m client check --site NAME"),
        (["--site=duke", "--approve", "a.toml"], "python -m client approve STUDY.toml --site NAME"),
        (["--init", "data", "--site", "duke"], "python -m client init FOLDER --site NAME"),
        (["approvals", "check", "--site", "duke"], "two verbs, approvals and check: give one at a time"),
        (["chek", "--site", "duke"], "unknown verb 'chek': did you mean 'check'?"),
        (["check", "--sit", "duke"], "unknown flag --sit: did you mean '--site'?"),
        (["--site", "duke", "--yes"], "unexpected argument '--yes' (--yes goes after approve)"),
        (["check"], "which site? add --site NAME"),
        (["init", "data", "--site", "duke", "--data-root", "x"], "init takes the data's FOLDER, and no --data-root"),
    ],
)
def test_a_command_line_that_is_wrong_is_told_the_right_one(folder: Path, words: list[str], complaint: str) -> None:
    status, text = run(folder, *words)
    assert (status, text.splitlines()[-1].endswith(complaint)) == (ExitCode.USAGE, True), text


def test_every_old_flag_names_a_verb_that_exists(tmp_path: Path) -> None:
    for flag, verb in OLD_FLAGS.items():
        _, text = run(tmp_path, "--site", "duke", flag)
        assert f"{flag} is a verb now: python -m client {verb}" in text
        assert run(tmp_path, verb.split()[0], "--help")[0] == ExitCode.OK


def test_misspelt_site_gets_the_nearest(folder: Path) -> None:
    status, text = run(folder, "check", "--site", "duek")
    assert status == ExitCode.SITE_CONFIG
    assert "did you mean 'duke'?" in text


def test_site_outside_its_folder_is_told_where_to_start(tmp_path: Path) -> None:
    status, text = run(tmp_path, "check", "--site", "duke")
    assert status == ExitCode.SITE_CONFIG
    assert "run this in the folder that holds site_configs/" in text
    assert run(tmp_path, "--site", "x/duke.yaml")[0] == ExitCode.SITE_CONFIG


def test_check_passes_with_ticks_a_fingerprint_and_counts(folder: Path) -> None:
    with server(folder) as address:
        configure(folder, address)
        status, text = run_alone(folder, "check", "--site", "duke")
    assert (status, text.count("✓")) == (ExitCode.OK, 6), text
    assert "SHA256:" in text
    assert "40 patients" in text
    page = folder / "site_configs" / "state" / "duke" / "readiness.html"
    assert f"report  {page}" in text
    assert "Readiness of duke" in page.read_text()


def test_check_goes_on_after_a_failure_and_exits_with_the_first(folder: Path) -> None:
    (folder / "site_configs" / "duke").chmod(0o644)
    status, text = run(folder, "check", "--site", "duke")
    assert status == ExitCode.CREDENTIALS
    assert "chmod 600" in text
    assert "refuses the connection" in text
    assert "40 patients" in text
    assert describe() in text


def test_server_that_is_down(folder: Path) -> None:
    status, text = run(folder, "--site", "duke")
    assert status == ExitCode.SERVER_UNREACHABLE
    assert "refuses the connection" in text
    assert not list((folder / "site_configs" / "state").glob("duke/*.html"))  # the report is for `check`


def test_center_may_be_missing_in_a_check_only(folder: Path) -> None:
    file = folder / "site_configs" / "duke.yaml"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("center")))
    assert run(folder, "check", "--site", "duke")[0] == ExitCode.OK
    assert run(folder, "--site", "duke")[0] == ExitCode.SITE_CONFIG


def test_data_that_are_missing(folder: Path, tmp_path: Path) -> None:
    with server(folder) as address:
        configure(folder, address)
        status, text = run(folder, "check", "--site", "duke", "--data-root", "elsewhere")
    assert status == ExitCode.DATA, text


def test_a_report_that_cannot_be_written_is_said_and_the_rest_stands(folder: Path) -> None:
    (folder / "site_configs" / "state").write_text("a file where the folder should be")
    status, text = run(folder, "check", "--site", "duke")
    assert "✗ report  a file of the site's own cannot be written" in text
    assert "40 patients" in text
    assert status == ExitCode.SERVER_UNREACHABLE  # what failed first


def test_study_that_cannot_be_used(folder: Path) -> None:
    study = folder / "study.toml"
    assert run(folder, "check", "--site", "duke", "--study", "none.toml")[0] == ExitCode.STUDY
    study.write_text("rounds = ")
    assert run(folder, "check", "--site", "duke", "--study", "study.toml")[0] == ExitCode.STUDY
    study.write_text("round = 3")
    status, text = run(folder, "check", "--site", "duke", "--study", "study.toml")
    assert status == ExitCode.STUDY
    assert "did you mean 'rounds'?" in text


def test_the_unexpected_leaves_a_log_and_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from client.checks import run as checks

    def broken(*_: object) -> None:
        msg = "patient 17"
        raise RuntimeError(msg)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(checks, "run_checks", broken)
    assert main(["check", "--site", "duke"]) == 1
    text = capsys.readouterr().err
    assert "patient 17" not in text
    log = Path(text.strip().rpartition(" in ")[2])
    assert log.parent == folder / "site_configs" / "state" / "duke" / "logs"
    assert "RuntimeError: patient 17" in log.read_text()
