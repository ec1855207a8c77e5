"""The page of the papers' tables, from lines of a run."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
GENES, FULL = "genes", "cross-attention"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    return [importlib.import_module(name) for name in ("paper_lines", "paper_page", "paper_rows")]


def line_of(lines, row: str, seed: int, value: float):
    return lines.Line(
        "B synthetic",
        row,
        seed,
        "basal_or_her2",
        "auc",
        value,
        round(value - 0.05, 4),
        round(value + 0.04, 4),
        500,
        1.5,
    )


def test_lines_come_back_from_the_csv_as_they_were(modules, tmp_path):
    lines, _, _ = modules
    written = [line_of(lines, GENES, 0, 0.9), line_of(lines, FULL, 0, 0.91)]
    for line in written:
        lines.append(tmp_path / "papers.csv", [line])
    assert lines.read(tmp_path / "papers.csv") == written


@pytest.mark.parametrize(("with_image", "word"), [(0.9, "nothing is gained from the image"), (0.95, "the image adds")])
def test_the_page_says_what_the_image_adds_over_the_best_row_without_it(modules, with_image, word):
    lines, pages, rows = modules
    runs = [line_of(lines, name, seed, auc) for seed in (0, 1) for name, auc in ((GENES, 0.9), (FULL, with_image))]
    page = pages.page(rows.TABLES, runs)
    section = page[page.index("## B synthetic") : page.index("## B tcga_multiomics")]
    assert "| genes | 0.900 (0.85-0.94) | - | 1.5 |" in section
    assert f"basal_or_her2: {word}" in section
    assert "| late | - | - | not run |" in section
    assert "## C synthetic\n\nNot run." in page


def test_the_page_of_the_project_is_that_of_its_csv(modules):
    lines, pages, rows = modules
    written = (PROJECT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert written == pages.page(rows.TABLES, lines.read(PROJECT / "docs" / "papers.csv"))
