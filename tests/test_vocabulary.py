"""One vocabulary in documents, help texts and messages: that of docs/glossary.md."""

from __future__ import annotations

import ast
import importlib
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "site_configs" / "example.yaml"])
PACKAGES = ("client", "server", "shared_models", "simulation")
CODE = re.compile(r"^```(python|diff)\n.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
# What is not said any longer: and what is said instead.
BANNED = {
    r"\bset[- ]aside\b": "excluded",
    r"\bsecure sums?\b": "secure aggregation",
    r"\byes[/-](or-)?no (target|outcome)": "binary target",
    r"\bthe cut\b": "decision threshold",
    r"\bown gradients?\b": "per-sample gradient",
    r"\bnoise's deviation\b": "noise multiplier",
    r"\bpresence shows\b": "patient-level differential privacy",
    r"\bevened\b|\bcoils' (un)?even": "bias-field corrected",
    r"\btruths?\b": "label",
    r"\bthe house\b": "the hospital, the code",
    r"\bnobody\b": "no site, no patient, none",
    r"\bstands?\b": "is, are",
    r"\banew\b": "again",
    r"\bkept\b": "cached, stored, retained",
    r"\bvery settings\b": "exact settings",
    r"\b(goes|going|go) on\b": "continues",
    r"\bbroken off\b": "interrupted, cancelled",
    r"\bshuts? (\w+ )?out\b|\blets? (\w+ )?in\b": "revoke a key, register a key",
    r"\bheld against\b": "checked against",
    r"\bbrought to\b": "resampled to, normalised to",
    r"\bdrawn by chance\b": "sampled at random",
    r"\bwithdraw\w* (an |the |its )?approval": "revoke",
    r"\blooks? at (it|everything|all)\b": "review, check",
    r"\btold (why|which)\b": "with the reason, with the name",
    r"\bmeasured (on|by) (the )?(images|modality)\b": "extracted from",
}

# Names that fit anything; `found` is a part of an error: what, where, found, expected, fix.
LOOSE_NAMES = {"found", "said", "told", "kept", "keep", "drawn", "called"}


def dialect(text: str) -> list[str]:
    """Lines of a text, without its inline code, that use a banned word, each with the word to use."""
    return [
        f"{match[0]!r} ({instead}): {line.strip()}"
        for line in CODE.sub("", text).splitlines()
        for pattern, instead in BANNED.items()
        if (match := re.search(pattern, line, re.IGNORECASE))
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_uses_the_terms_of_the_glossary(path: Path) -> None:
    assert dialect(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("client", "client.verbs.arguments"),
        ("server", "server.operations.arguments"),
        ("simulation", "simulation.arguments"),
    ],
)
def test_a_help_text_uses_the_terms_of_the_glossary(program: str, arguments: str) -> None:
    main = importlib.import_module(f"{program}.__main__")
    for verb in ["", *importlib.import_module(arguments)._parser()._verbs()]:
        with redirect_stdout(io.StringIO()) as error, pytest.raises(SystemExit):
            main.main([*([verb] if verb else []), "--help"])
        assert dialect(error.getvalue()) == [], verb


def test_a_message_of_the_programs_uses_the_terms_of_the_glossary() -> None:
    sources = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    by_file = {path.relative_to(ROOT).as_posix(): texts(path) for path in sources}
    banned = {name: [line for text in by_file[name] for line in dialect(text)] for name in by_file}
    assert {name: lines for name, lines in banned.items() if lines} == {}


def texts(path: Path) -> list[str]:
    """The sentences in a module's strings, without docstrings."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in alone]
    return [node.value for node in constants if isinstance(node.value, str) and " " in node.value]


def loose_names(tree: ast.Module) -> list[str]:
    """Names that say nothing of what they hold; fields of messages and results are no part of functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    nodes = {id(node): node for function in functions for node in ast.walk(function)}.values()
    names = {node.id for node in nodes if isinstance(node, ast.Name)} | {function.name for function in functions}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    # what is taken apart: a part of an error, `found`, is only handed on
    apart = [node.value for node in nodes if isinstance(node, ast.Subscript)]
    apart += [node.value for node in nodes if isinstance(node, ast.Attribute) and node.attr != "split"]
    apart += [node.iter for node in nodes if isinstance(node, ast.For | ast.comprehension)]
    names -= {"found"} - {node.id for node in apart if isinstance(node, ast.Name)}
    return sorted({name for name in names if name.strip("_") in LOOSE_NAMES})


def test_a_name_in_the_code_says_what_it_holds() -> None:
    sources = [
        path for package in (*PACKAGES, "benchmarks", "tests") for path in sorted((ROOT / package).rglob("*.py"))
    ]
    names = {path.relative_to(ROOT).as_posix(): loose_names(ast.parse(path.read_text("utf-8"))) for path in sources}
    assert {path: loose for path, loose in names.items() if loose} == {}


def test_a_name_that_says_nothing_is_noticed() -> None:
    error = "def f(found):\n    raise Error(where='', found=found)"
    assert loose_names(ast.parse(error)) == []
    assert loose_names(ast.parse("def told(x):\n    found = x\n    return found[0]")) == ["found", "told"]


def test_every_term_of_the_glossary_is_defined_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = [
        term.strip()
        for row in re.findall(r"^\| (?!term )([^|-][^|]*)\|", text, re.MULTILINE)
        for term in row.split(",")
    ]
    assert len(terms) > 60
    assert sorted({term for term in terms if terms.count(term) > 1}) == []


def test_a_banned_word_is_found() -> None:
    assert len(dialect("A patient is set aside.\nThe truth of nobody stands here.\n`the cut` is code")) == 4
