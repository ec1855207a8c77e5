"""Docstrings: examples run, and the first line of a module names what it holds."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "server", "shared_models", "simulation", "benchmarks")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
WITH_EXAMPLES = [path for path in MODULES if ">>>" in path.read_text(encoding="utf-8")]
QUESTION = re.compile(r"(What|Who|Whom|Whose|Where|Which|How|Whether|Everything|Keeps|Makes|Reaches|Judges)\b")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_the_examples_of_a_module_run(path: Path) -> None:
    module = importlib.import_module(name_of(path).replace("/", "."))
    failed, ran = doctest.testmod(module)
    assert (failed, ran > 0) == (0, True)


def test_a_modules_first_line_is_a_noun_phrase_that_a_search_finds() -> None:
    texts = {name_of(path): ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in MODULES}
    first = {name: text.partition("\n")[0] for name, text in texts.items()}
    assert {name: line for name, line in first.items() if not line or QUESTION.match(line)} == {}
