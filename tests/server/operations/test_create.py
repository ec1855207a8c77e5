from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from server.__main__ import main
from server.errors import CenterError, ExitCode
from server.operations.center import Center, open_center, parse_address
from server.operations.create import create_center
from server.operations.proxy import find_nginx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_center(Center(tmp_path / "center", "center.example.org:443"))
    return tmp_path / "center"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_enters_the_folder_and_reads_secrets(folder: Path) -> None:
    assert mode(folder) == 0o700
    assert {mode(folder / name) for name in ("ca.key", "server.key", "superexec.secret")} == {0o600}
    assert len((folder / "superexec.secret").read_bytes()) >= 32


def test_twice_writes_nothing(folder: Path) -> None:
    before = contents(folder)
    assert create_center(open_center(folder)) == []
    assert contents(folder) == before


def test_missing_part_is_made_again_and_the_rest_left(folder: Path) -> None:
    before = contents(folder)
    (folder / "nginx.conf").unlink()
    assert create_center(open_center(folder)) == [folder / "nginx.conf"]
    assert contents(folder) == before


def test_command_twice_then_renew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "center"
    words = ["init", "--directory", str(folder)]
    assert main([*words, "--address", "center.example.org"]) == ExitCode.OK
    first, before = capsys.readouterr().out, contents(folder)
    assert str(folder / "ca.crt") in first
    assert "python -m server register" in first
    assert "python -m client --site" in first
    assert main(words) == ExitCode.OK
    assert "nothing was written" in capsys.readouterr().out
    assert contents(folder) == before
    assert main([*words, "--renew"]) == ExitCode.OK
    changed = {name for name, content in contents(folder).items() if content != before[name]}
    assert changed == {"server.crt"}


def test_another_address_is_refused_without_renew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["init", "--directory", str(folder), "--address", "moved.example.org:8443"]
    assert main(words) == ExitCode.CONFIGURATION
    assert "--renew" in capsys.readouterr().err
    assert main([*words, "--renew"]) == ExitCode.OK
    assert open_center(folder).address == "moved.example.org:8443"


def test_missing_nginx_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("server.operations.proxy.find_nginx", lambda: None)
    assert main(["init", "--address", "c.example.org", "--directory", str(tmp_path / "c")]) == ExitCode.OK
    assert "apt install nginx" in capsys.readouterr().out


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_nginx_accepts_the_configuration(folder: Path) -> None:
    nginx = str(find_nginx())
    command = [nginx, "-t", "-p", f"{folder}/", "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "warn" not in answer.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(folder: Path) -> None:
    units = [str(path) for path in (folder / "systemd").glob("*.service")]
    answer = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_units_are_hardened_and_only_the_proxy_may_bind_low_ports(folder: Path) -> None:
    units = {path.stem: path.read_text() for path in (folder / "systemd").glob("*.service")}
    assert len(units) == 4
    for name, unit in units.items():
        assert "NoNewPrivileges=yes" in unit
        assert "ProtectSystem=strict" in unit
        assert ("CAP_NET_BIND_SERVICE" in unit) == name.endswith("proxy")


@pytest.mark.parametrize(
    ("text", "address"),
    [("center.example.org", "center.example.org:443"), ("192.0.2.7:8443", "192.0.2.7:8443"), ("c:1", "c:1")],
)
def test_address(text: str, address: str) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "https://c.example.org", "c.example.org/x", "c:0", "c:70000", "c:x", "c d", "-c", "999.1.1.1", "[::1]:3"],
)
def test_unusable_address(text: str) -> None:
    with pytest.raises(CenterError, match="cannot use this address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["address = 3", "port = [", 'address = "a:1"\nport = "x"\nproxy-port = 1', ""])
def test_broken_settings_are_explained(folder: Path, text: str) -> None:
    (folder / "center.toml").write_text(text)
    with pytest.raises(CenterError, match="cannot use the center's settings"):
        open_center(folder)


def test_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(CenterError, match="not a center's"):
        open_center(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a folder to another user")
def test_a_folder_of_another_user_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "center"
    folder.mkdir(mode=0o755)
    os.chown(folder, 10001, 10001)
    with pytest.raises(CenterError, match="belongs to another user"):
        create_center(Center(folder, "center.example.org:443"))
    assert (list(folder.iterdir()), folder.stat().st_mode & 0o777) == ([], 0o755)
