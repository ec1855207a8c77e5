from __future__ import annotations

import importlib
import io
import logging
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.cli.build import build_fab_from_files
from flwr.cli.install import install_from_fab
from flwr.supercore.task_identity import TaskIdentity

from client.config.site import load_site
from client.connection.bundle_guard import DISK, RefusedBundleError, guard_installation, guarded, judge
from client.governance.approval import approve
from client.governance.audit import audit_of
from client.governance.chained_log import read
from shared_models.study_settings import parse_study_settings

OTHER_ROUNDS = "the site has approved this study with other settings (rounds); it takes part once it has approved these"
SETTINGS = """
[project]
name = "study"
version = "1.0.0"
[tool.flwr.app]
publisher = "breast-federation"
[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"
"""
HARM = b"raise SystemExit('code of the center was run')"


def bundle(tmp_path: Path, others: dict[str, str] | None = None) -> bytes:
    """A bundle as Flower builds it, checksums and all."""
    files = {"pyproject.toml": SETTINGS, **(others or {})}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return bytes(build_fab_from_files({name: tmp_path / name for name in files})[0])


def with_entry(content: bytes, name: str, data: bytes = HARM) -> bytes:
    """The bundle with one more entry that its checksums do not list."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def test_settings_pass_and_are_installed(tmp_path: Path) -> None:
    folder = guarded(install_from_fab, lambda settings: None)(
        bundle(tmp_path), install_dir=tmp_path / "flwr", skip_prompt=True
    )
    assert [file.name for file in folder.iterdir()] == ["pyproject.toml"]


@pytest.mark.parametrize(
    "name",
    [
        "client/app.py",
        "client/__init__.py",
        "sitecustomize.py",
        "usercustomize.py",
        "torch.py",
        "numpy/__init__.py",
        "x.pth",
        "../outside.py",
        "/tmp/outside.py",
        "..\\outside.py",
        "pyproject.toml/x.py",
        "PYPROJECT.toml",
        "./pyproject.toml",
        ".info/x.py",
        "client/",
    ],
)
def test_any_other_file_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    content = with_entry(bundle(tmp_path), name)
    with pytest.raises(RefusedBundleError, match="other files"):
        guarded(install_from_fab, lambda settings: None)(content, install_dir=tmp_path / "flwr", skip_prompt=True)
    assert not (tmp_path / "flwr").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_second_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedBundleError, match="other files"):
        judge(with_entry(bundle(tmp_path), "pyproject.toml", SETTINGS.encode()))


def test_what_is_too_large_is_not_even_unpacked(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(SETTINGS + f"note = '{'x' * 2_000_000}'")
    content = build_fab_from_files({"pyproject.toml": tmp_path / "pyproject.toml"})[0]
    with pytest.raises(RefusedBundleError, match="too large"):
        judge(content)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"PK\3\4" + bytes(100)])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedBundleError, match="cannot be read"):
        judge(content)


def test_another_client_app_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(SETTINGS.replace("client.app:app", "antigravity:app"))
    content = build_fab_from_files({"pyproject.toml": tmp_path / "pyproject.toml"})[0]
    with pytest.raises(RefusedBundleError, match=r"does not name client\.app:app"):
        judge(content)


def test_a_folder_that_was_planted_earlier_is_refused(tmp_path: Path) -> None:
    install = guarded(install_from_fab, lambda settings: None)
    folder = install(bundle(tmp_path), install_dir=tmp_path / "flwr", skip_prompt=True)
    (folder / "torch.py").write_bytes(HARM)
    with pytest.raises(RefusedBundleError, match="its folder holds other files"):
        install(bundle(tmp_path), install_dir=tmp_path / "flwr", skip_prompt=True)


def test_the_center_reads_a_sentence_and_the_site_the_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "client"), pytest.raises(RefusedBundleError) as refused:
        judge(bundle(tmp_path, {"client/app.py": "x"}))
    assert "client/app.py" in caplog.text
    assert str(refused.value) == (
        "the site refused the study: it holds other files than its settings; "
        "sites run the code that they installed themselves"
    )


ANSWER = """
import sys
from types import SimpleNamespace
from pathlib import Path
import client.connection.clientapp, client.connection.bundle_guard
from flwr.supernode.runtime import run_clientapp
module = sys.modules["flwr.supernode.runtime.run_clientapp"]
own = client.app.__file__
install = lambda: module.install_from_fab(Path(sys.argv[1]).read_bytes(), skip_prompt=True)
client.connection.clientapp.flwr_clientapp = install
try:
    client.connection.clientapp.main()
except client.connection.bundle_guard.RefusedBundleError:
    print("refused", sys.modules["client.app"].__file__ == own)
"""


def test_what_runs_for_a_message_is_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    (tmp_path / "study.fab").write_bytes(bundle(tmp_path, {"client/app.py": HARM.decode()}))
    completed = subprocess.run(
        [sys.executable, "-P", "-c", ANSWER, tmp_path / "study.fab"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.endswith("refused True\n")
    assert not (tmp_path / "flwr" / "apps").exists()


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Flower's module behind the guard, after it pulled a message for a site."""

    def pull(site_file: Path) -> Any:
        flower: Any = importlib.import_module("flwr.supernode.runtime.run_clientapp")
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 2, 3
        message = Message(RecordDict(), dst_node_id=2, message_type="train")
        context = Context(1, 2, {"site-config": str(site_file)}, RecordDict(), {"study": "study"})
        monkeypatch.setattr(flower, "pull_task_input", lambda client: (message, context))
        monkeypatch.setattr(flower, "install_from_fab", install_from_fab)
        guard_installation()
        flower.pull_task_input(None)
        return flower

    return pull


def test_a_bundle_whose_settings_are_not_approved_is_refused_and_audited_before_it_is_unpacked(
    tmp_path: Path,
    pulled: Callable[[Path], Any],
    hospitals: Callable[..., dict[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    file = hospitals({"a": 40})["a"]
    reach = "center: {address: center.example.org, ca_certificate: ca.crt, private_key: a}"
    file.write_text(f"{file.read_text()}{reach}\n")
    site, flower, content = load_site(file), pulled(file), bundle(tmp_path)
    with pytest.raises(RefusedBundleError, match=r"^the site has not approved this study$"):
        flower.install_from_fab(content, skip_prompt=True)
    approve(site, parse_study_settings({"rounds": 21}))
    with pytest.raises(RefusedBundleError, match=f"^{re.escape(OTHER_ROUNDS)}$"):
        flower.install_from_fab(content, skip_prompt=True)
    assert not (tmp_path / "flwr").exists()
    assert [(line["event"], line["message"], line["why"]) for line in read(audit_of(site))] == [
        ("refused", "train", "the site has not approved this study"),
        ("refused", "train", OTHER_ROUNDS),
    ]
    approve(site, parse_study_settings({}))
    assert flower.install_from_fab(content, skip_prompt=True).is_dir()
    monkeypatch.setenv("FLWR_HOME", str(file / "flwr"))  # below a file nothing can be written, as on a full disk
    with pytest.raises(RefusedBundleError, match=f"^{re.escape(DISK)}$"):
        flower.install_from_fab(content, skip_prompt=True)
    assert read(audit_of(site))[-1]["why"] == DISK


def test_settings_that_are_not_valid_here_are_refused(
    tmp_path: Path, pulled: Callable[[Path], Any], hospitals: Callable[..., dict[str, Path]]
) -> None:
    flower = pulled(hospitals({"a": 40})["a"])
    (tmp_path / "pyproject.toml").write_text(f"{SETTINGS}[tool.flwr.app.config]\nsimulated-sites = '/'\n")
    content = build_fab_from_files({"pyproject.toml": tmp_path / "pyproject.toml"})[0]
    with pytest.raises(RefusedBundleError, match="not valid at this site"):
        flower.install_from_fab(content, skip_prompt=True)
