"""No circle of files: counted over all imports, lazy and type-only ones too."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

PACKAGES = ("client", "server", "shared_models", "simulation")


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
