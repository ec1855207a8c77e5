"""What the documents say is true: settings, commands, targets of make, files and links."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from shared_models.messages.tables import BLOCKS, MARK, documents, generated
from shared_models.study_settings import StudySettings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TABLE = re.compile(r"(?<=-->\n).*?(?=<!-- end -->)", re.DOTALL)
LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
CODE = re.compile(r"^```\w*\n(?P<block>.*?)^```$|`(?P<inline>[^`\n]+)`", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"python (?:-P )?-m (?P<module>client|server|simulation)\b(?P<words>[^\n|#(]*)")
MAKE = re.compile(r"(?:^|`)make (?P<target>[a-z-]+)(?=$|`|\s+#)", re.MULTILINE)
FILE = re.compile(
    r"`(?P<path>(?:client|server|shared_models|simulation|studies|tests|benchmarks|docs)/[\w/]+\.\w+)`"
    r"|python (?P<script>\w[\w/]*\.py)"
)


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def run_config_table() -> str:
    lines = ["| key | type | default | what it is |", "|---|---|---|---|"]
    for name, field in StudySettings.model_fields.items():
        default = (
            '""' if field.default == "" else str(field.default).lower() if field.annotation is bool else field.default
        )
        lines.append(
            f"| `{name.replace('_', '-')}` | {kind_of(field)} | `{default}` | {cell(field.description or '')} |"
        )
    return "\n".join(lines) + "\n"


def kind_of(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(field.annotation))
    kinds: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, key):g}"
        for limit in field.metadata
        for key, sign in signs.items()
        if hasattr(limit, key)
    ]
    return ", ".join([kinds[field.annotation], *limits])


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def test_every_key_of_the_run_config_is_described() -> None:
    assert [name for name, field in StudySettings.model_fields.items() if not field.description] == []


def test_the_table_of_run_config_keys_is_in_step() -> None:
    path = ROOT / "docs" / "run_config.md"
    text = path.read_text(encoding="utf-8")
    now = TABLE.sub(lambda _: run_config_table(), text, count=1)
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(now, encoding="utf-8")
    else:
        assert text == now, "run: UPDATE_DOCS=1 .venv/bin/python -m pytest tests/test_docs.py"


def test_what_travels_and_what_leaves_is_said_as_the_messages_say_it(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert text == generated(text), "run: make generate"


def test_every_generated_block_is_in_a_document() -> None:
    found = [match["name"] for path in documents(ROOT) for match in MARK.finditer(path.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(BLOCKS)


def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.finditer(document.read_text(encoding="utf-8")):
        file, _, anchor = link["to"].partition("#")
        if not file.startswith(("https://", "http://", "mailto:")):
            target = (document.parent / file) if file else document
            assert target.exists(), f"{document.name}: {link['to']}"
            assert not anchor or anchor in anchors(target), f"{document.name}: {link['to']}"


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    titles = [found["title"].lower() for found in HEADING.finditer(path.read_text(encoding="utf-8"))]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def code(document: Path) -> Iterator[str]:
    """Blocks and inline code, a block's continued lines joined."""
    for found in CODE.finditer(document.read_text(encoding="utf-8")):
        yield (found["block"] or found["inline"]).replace("\\\n", " ")


def test_commands_exist_with_their_options(document: Path) -> None:
    for command in (found for text in code(document) for found in PYTHON.finditer(text)):
        words = re.split(r"\s{2,}", command["words"].strip())[0].split()  # two blanks start a remark
        module = command["module"]
        subcommand = words[:1] if module == "server" and words and not words[0].startswith("-") else []
        known = help_of(module, *subcommand)
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", known), f"{document.name}: python -m {module} {command['words']}"


def help_of(module: str, *subcommand: str) -> str:
    main = importlib.import_module(f"{module}.__main__").main
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit) as end:
        main([*subcommand, "--help"])
    assert end.value.code == 0, (module, *subcommand)
    return said.getvalue()


def test_targets_of_make_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wanted = {found["target"] for found in MAKE.finditer(document.read_text(encoding="utf-8"))}
    assert wanted <= targets


def test_named_files_exist(document: Path) -> None:
    for found in FILE.finditer(document.read_text(encoding="utf-8")):
        path = found["path"] or found["script"]
        assert (ROOT / path).exists(), f"{document.name}: {path}"


def test_readme_stays_a_first_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    assert "make demo" in text
    assert "make test" in text


def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", document.read_text(encoding="utf-8")))
    defined = {
        name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert named <= defined
