"""Pages generated from the results' schema, the statistics and the aggregation rules.

`make generate` writes them.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from server.study.aggregation.rule import load_rule
from server.study.aggregation.rules import rule_names
from server.study.results.schema import Results
from shared_models.metrics.summary import empty_summary
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

DOCS = Path(__file__).parents[1] / "docs"
UPDATE = "run: make generate"


def hold(path: Path, now: str) -> None:
    """The file is `now`, or is made so."""
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(now, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == now, UPDATE


def hold_block(path: Path, source: str, block: str) -> None:
    """The block of a page that is generated from `source`."""
    text = path.read_text(encoding="utf-8")
    mark = re.compile(rf"(<!-- generated from {re.escape(source)} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert len(mark.findall(text)) == 1, f"{path.name} has no block of {source}"
    hold(path, mark.sub(lambda match: match[1] + block + match[2], text))


def sections(model: type[BaseModel], place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The model, and those inside it, with the place where each stands."""
    yield place, model
    for name, field in model.model_fields.items():
        for suffix, inner in models_inside(field.annotation):
            yield from sections(inner, f"{place}.{name}{suffix}".removeprefix("results.json."))


def models_inside(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models of a field, in whatever dicts, lists and unions, each with how it is reached."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield "", annotation
    suffix = {dict: ".NAME", list: "[]"}.get(get_origin(annotation), "")
    for part in get_args(annotation):
        yield from ((f"{suffix}{further}", inner) for further, inner in models_inside(part))


def kind_of(schema: dict[str, Any]) -> str:
    """A field's JSON type, in words."""
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(one) for one in schema["anyOf"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    if schema["type"] == "array":
        items = schema.get("prefixItems") or [schema["items"]]
        return f"list of {', '.join(kind_of(item) for item in items)}"
    if schema["type"] == "object":
        return f"object of {kind_of(schema['additionalProperties'])}"
    return {"string": "text", "integer": "whole number"}.get(schema["type"], schema["type"])


def results_tables() -> str:
    lines = []
    for place, model in sections(Results, "results.json"):
        schema = model.model_json_schema()["properties"]
        lines += [f"### `{place}`", "", inspect.getdoc(model) or "", "", "| key | type | what it is |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} is not described"
            lines.append(f"| `{name}` | {kind_of(schema[name])} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def metrics_tables() -> str:
    lines = []
    for target in (Binary(), TimeToEvent(), Categorical(("a", "b")), Regression()):
        lines += [f"### `{type(target).__name__}`", "", "| metric | statistic | what it is |", "|---|---|---|"]
        for name, statistic in empty_summary(target).items():
            lines += [f"| `{metric}` | {name} | {what} |" for metric, what in statistic.METRICS.items()]
        lines.append("")
    return "\n".join(lines)


def rules_table() -> str:
    lines = ["| `strategy` | needs | what it does |", "|---|---|---|"]
    for name in rule_names():
        rule = load_rule(StudySettings(strategy=name, secure_aggregation="off"))
        module = importlib.import_module(f"server.study.aggregation.rules.{name.replace('-', '_')}")
        lines.append(f"| `{name}` | {rule.NEEDS} | {(module.__doc__ or '').splitlines()[0].removesuffix('.')} |")
    return "\n".join(lines) + "\n"


def test_the_schema_of_the_results_is_in_step() -> None:
    schema = Results.model_json_schema()
    hold(DOCS / "results.schema.json", json.dumps(schema, indent=1, ensure_ascii=False) + "\n")


def test_the_page_on_the_results_is_in_step() -> None:
    hold_block(DOCS / "results.md", "server/study/results/schema.py", results_tables())
    hold_block(DOCS / "results.md", "shared_models/metrics", metrics_tables())


def test_the_table_of_aggregation_rules_is_in_step() -> None:
    hold_block(DOCS / "study_settings.md", "server/study/aggregation/rules", rules_table())
