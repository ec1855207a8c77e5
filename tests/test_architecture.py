"""Structure of the sources: no circle of files, over all imports, lazy and type-only ones too; bounded sizes."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "server", "shared_models", "simulation")
ONE_DECLARATION_A_KEY = {"shared_models/study_settings.py"}


def imports(exclude_type_checking: bool = False) -> dict[str, set[str]]:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=exclude_type_checking, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_file_imports_itself_round_a_corner():
    files = imports()
    assert len(files) > 200
    list(TopologicalSorter(files).static_order())


def test_the_count_sees_lazy_and_type_only_imports():
    files = imports()
    assert "client.connection.credentials" in files["client.checks.run"]  # inside a function
    assert "client.contract.protocols" in files["client.imaging.exams"]  # under TYPE_CHECKING
    assert "client.contract.protocols" not in imports(exclude_type_checking=True)["client.imaging.exams"]


def test_a_circle_would_be_found():
    files = imports()
    files["client.errors"] = {*files["client.errors"], "client.app"}
    with pytest.raises(CycleError):
        list(TopologicalSorter(files).static_order())


def lines_of(function):
    """How many lines a function has, without its docstring."""
    length = function.end_lineno - function.lineno + 1
    docstring = function.body[0] if ast.get_docstring(function) else None
    return length - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


def test_files_and_functions_fit_on_a_few_screens():
    files = {path.relative_to(ROOT).as_posix(): path for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    assert {name for name, text in texts.items() if len(text.splitlines()) > 300} == ONE_DECLARATION_A_KEY
    long = [
        f"{name}: {node.name}"
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > 50
    ]
    assert long == []
