"""Follows the tutorials and README's block for a hospital to the letter: every file, change, command and output."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.operations.proxy import find_nginx

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (?P<path>[\w/.]+)(?:, under `(?P<key>\w+)`)?\n(?P<text>.*)", re.DOTALL)
PROGRAM = re.compile(r"python -m (client|server|simulation)\b[^|<>;&$]*")
NEEDS_NGINX = pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light")


@dataclass(frozen=True)
class Block:
    """A fenced block: a file, lines below a `key` of one, changes to one, commands (`sh`), what they print (`text`)."""

    kind: str
    text: str
    path: str = ""
    key: str = ""


def blocks_of(page: str) -> Iterator[Block]:
    for match in BLOCK.finditer(page):
        file = FILE.match(match["text"]) if match["kind"] not in ("sh", "text") else None
        yield Block(match["kind"], **file.groupdict("")) if file else Block(match["kind"], match["text"])


def follow(page: str) -> None:
    """Does what a page says, in the current folder."""
    printed = ""
    for block in blocks_of(page):
        if block.kind == "sh":
            printed = "".join(map(run, commands(block.text)))
        elif block.kind == "text":
            assert re.search(pattern(block.text), printed, re.DOTALL), f"{block.text}\nis not in\n{printed}"
        elif block.kind == "diff":
            change(Path(block.path), block.text)
        elif block.key:
            replace(Path(block.path), f"\n{block.key}:\n", f"\n{block.key}:\n{block.text}")
        else:
            Path(block.path).parent.mkdir(parents=True, exist_ok=True)
            Path(block.path).write_text(block.text, encoding="utf-8")


def commands(text: str) -> list[str]:
    """The commands of a block, a continued line joined to the next."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def run(command: str) -> str:
    """What a command prints; one of ours runs in this process, others in a shell, and `!` is before one that fails."""
    fails, command = command.startswith("! "), command.removeprefix("! ")
    if PROGRAM.fullmatch(command):
        code, printed = run_here(shlex.split(command, comments=True)[2:])
    else:
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False, timeout=600)
        code, printed = done.returncode, done.stdout + done.stderr
    assert (code != 0) == fails, f"{command} ended with {code}:\n{printed}"
    return printed


def run_here(words: list[str]) -> tuple[int, str]:
    module, *arguments = words
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = importlib.import_module(f"{module}.__main__").main(arguments)
    return code, printed.getvalue()


def pattern(text: str) -> str:
    """Of output in which `...` stands for anything."""
    return ".*".join(map(re.escape, text.strip().split("...")))


def change(path: Path, diff: str) -> None:
    """Replaces each `-` line by the `+` line after it."""
    lines = diff.splitlines()
    for before, after in zip(lines[::2], lines[1::2], strict=True):
        assert (before[0], after[0]) == ("-", "+")
        replace(path, before[1:], after[1:])


def replace(path: Path, before: str, after: str) -> None:
    """Replaces what must be in a file once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path} has {text.count(before)} times: {before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a newcomer has it: studies and site configurations beside the packages, which stay where they are."""
    folder = tmp_path / "checkout"
    for name in ("studies", "site_configs"):
        shutil.copytree(ROOT / name, folder / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "160")
    return folder


def tutorial(name: str) -> str:
    return (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.report
def test_a_data_manager_follows_the_tutorial(checkout: Path) -> None:
    follow(tutorial("data_manager"))
    assert (checkout / "runs/oak_first/report.html").exists()


@pytest.mark.slow
def test_a_researcher_follows_the_tutorial_in_a_copy_of_the_program(checkout: Path) -> None:
    for name in ("client", "server", "shared_models", "simulation"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    page = checkout / "tutorial.md"
    page.write_text(tutorial("researcher"), encoding="utf-8")
    words = [sys.executable, "-c", f"from test_tutorials import follow; follow(open({str(page)!r}).read())"]
    path = os.pathsep.join([str(checkout), str(Path(__file__).parent)])
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout / "runs/nodes-compared/report.html").exists()


@pytest.mark.slow
@pytest.mark.e2e
@NEEDS_NGINX
def test_a_study_lead_follows_the_tutorial(checkout: Path) -> None:
    follow(tutorial("study_lead"))
    assert (checkout / "runs/lead-rehearsed").exists()


def hospital_block() -> list[str]:
    """The commands of README's block for a hospital."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n### At a hospital\n")[1]
    (block,) = list(blocks_of(section.split("\n### ")[0]))
    return commands(block.text)


@pytest.mark.slow
@pytest.mark.e2e
@NEEDS_NGINX
def test_a_hospital_follows_readme(checkout: Path, center: Any) -> None:
    """Names of places are the only change: /data/oak, and the center's address."""
    example = next(block for block in blocks_of(tutorial("data_manager")) if block.path == "example.py")
    (checkout / "example.py").write_text(example.text.replace('"G4?"', '"G3"'), encoding="utf-8")
    subprocess.run([sys.executable, "example.py"], check=True)
    places = {"/data/oak": "export", "center.example.org:8443": center.address}
    init, key, add_center, check, approve, join = (
        re.sub("|".join(map(re.escape, places)), lambda match: places[match[0]], line) for line in hospital_block()
    )
    assert "site_configs/oak.yaml" in run(f"{init.partition('#')[0]} --study study.toml")
    run(key)
    shutil.copy(center.ca, "site_configs/ca.crt")
    run(add_center)
    center.register("oak", Path("site_configs/oak.key.pub"))
    assert "✓ data" in run(check)
    run(f"{approve.partition('#')[0]} --yes")
    unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1"}
    words = shlex.split(join, comments=True)
    started = subprocess.Popen(words, env=unbuffered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with started as site:
        try:
            assert site.stdout is not None
            deadline = time.monotonic() + 120
            while "joined the center" not in (line := site.stdout.readline()):
                assert line, "it ended without joining"
                assert time.monotonic() < deadline
            site.send_signal(signal.SIGTERM)
            assert site.wait(60) == 0
        finally:
            site.kill()
