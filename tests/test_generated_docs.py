"""Tables of the documents that are generated from the code, and lists that are held against it.

`UPDATE_DOCS=1 .venv/bin/python -m pytest tests/test_generated_docs.py` writes the tables.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from client.config.site import SiteConfig
from client.errors import ExitCode as SiteExitCode
from server.errors import ExitCode as CenterExitCode
from shared_models.study_settings import StudySettings

ROOT = Path(__file__).parents[1]
COMMAND = "UPDATE_DOCS=1 .venv/bin/python -m pytest tests/test_generated_docs.py"
BEGIN, END = f"<!-- generated: {COMMAND} -->\n", "<!-- end -->"
KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
UNEXPECTED, CTRL_C = 1, 130
SECTIONS = {  # of the YAML, from the whole to its parts
    "A site": "SiteConfig",
    "center": "Center",
    "policy": "Policy",
    "tables": "TableSource",
    "genes": "Genes",
    "A column": "Column",
    "instances": "Instances",
    "include": "Selection",
    "split": "PublishedSplit",
    "targets": "Outcome",
    "reader: table": "TableReader",
    "reader: image_files": "ImageFilesReader",
    "reader: dicom": "DicomReader",
    "reader: mammogram": "MammogramReader",
    "reader: tiles": "TilesReader",
    "reader: extracted": "ExtractedReader",
    "mask": "Mask",
    "box": "Box",
    "preprocessing": "Preprocessing",
}
HEADINGS = {model: heading for heading, model in SECTIONS.items()}


def study_settings() -> str:
    """A table of every key of a study's settings."""
    return table_of(StudySettings.model_json_schema(), name_of=lambda name: name.replace("_", "-"))


def site_yaml() -> str:
    """A table for each section of a site's YAML."""
    schema = SiteConfig.model_json_schema()
    models = {"SiteConfig": schema, **schema["$defs"]}
    parts = [f"## {heading}\n\n{table_of(models[model])}" for heading, model in SECTIONS.items()]
    return "\n" + "\n".join(parts) + "\n"


def table_of(schema: dict[str, Any], name_of: Callable[[str], str] = str) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else shown(field.get("default"))
        cells = (f"`{name_of(name)}`", kind_of(field), default, field.get("description", ""))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def shown(default: Any) -> str:
    if default is None or isinstance(default, dict):
        return "none"
    return f"`{default if isinstance(default, str) and default else json.dumps(default)}`"


def kind_of(field: dict[str, Any]) -> str:
    """The type of a key in a few words, from its JSON schema."""
    if "$ref" in field or "allOf" in field:
        return linked(field.get("$ref") or field["allOf"][0]["$ref"])
    if choices := field.get("enum", [field["const"]] if "const" in field else None):
        return " or ".join(f"`{choice}`" for choice in choices)
    if kinds := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(kind_of(kind) for kind in kinds if kind.get("type") != "null"))
    if field.get("format") in ("path", "file-path"):
        return "path"
    if field["type"] == "array":
        return f"list of {kind_of(field['items'])}" if "items" in field else f"{field['maxItems']} values"
    if field["type"] == "object":
        return f"name: {kind_of(field['additionalProperties'])}"
    limits = [f"{sign} {field[key]:g}" for key, sign in SIGNS.items() if key in field]
    return ", ".join([KINDS[field["type"]], *limits])


def linked(reference: str) -> str:
    heading = HEADINGS[reference.rpartition("/")[2]]
    return f"[{heading}](#{re.sub(r'[^a-z_ -]', '', heading.lower()).replace(' ', '-')})"


@pytest.mark.parametrize("table", [study_settings, site_yaml], ids=lambda table: table.__name__)
def test_a_generated_table_is_in_step_with_the_code(table: Callable[[], str]) -> None:
    path = ROOT / "docs" / f"{table.__name__}.md"
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    now = f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(now, encoding="utf-8")
    else:
        assert text == now, f"write it again: {COMMAND}"


def test_every_key_has_a_meaning() -> None:
    schema = SiteConfig.model_json_schema()
    models = {"StudySettings": StudySettings.model_json_schema(), "SiteConfig": schema, **schema["$defs"]}
    assert [
        f"{model}.{key}"
        for model, found in models.items()
        for key, field in found.get("properties", {}).items()
        if not field.get("description")
    ] == []


def test_the_example_of_a_site_explains_every_key() -> None:
    text = (ROOT / "site_configs" / "example.yaml").read_text(encoding="utf-8")
    schema = SiteConfig.model_json_schema()
    keys = {key for found in (schema, *schema["$defs"].values()) for key in found.get("properties", {})}
    assert {key for key in keys if not re.search(rf"\b{key}\b", text)} == set()


@pytest.mark.parametrize(
    ("document", "heading", "codes"),
    [
        ("hospital.md", "Exit codes", {*SiteExitCode, UNEXPECTED, CTRL_C}),
        ("deployment.md", "Exit codes", {*CenterExitCode, CTRL_C}),
    ],
)
def test_the_documents_list_every_exit_code(document: str, heading: str, codes: set[int]) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == {int(code) for code in codes}


@pytest.mark.parametrize(
    ("program", "codes"),
    [
        ("client", {*SiteExitCode, UNEXPECTED, CTRL_C}),
        ("server", {*CenterExitCode, CTRL_C}),
        ("simulation", {0, 2, 3, 4, 7, CTRL_C}),
    ],
)
def test_the_help_lists_every_exit_code(program: str, codes: set[int]) -> None:
    import importlib

    with redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit):
        importlib.import_module(f"{program}.__main__").main(["--help"])
    listed = said.getvalue().lower().partition("exit codes")[2]
    assert {int(code) for code in re.findall(r"\b(\d+)  ?(?=[a-z])", listed)} == {int(code) for code in codes}
