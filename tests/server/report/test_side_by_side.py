"""Two studies on one page: what differs, the difference of what they reach, and studies that do not fit together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from server.report.side_by_side.page import compare_reports
from server.report.side_by_side.pair import difference
from server.study.exchange import StudyError
from server.study.results.results_file import RESULTS, write_results
from server.study.results.schema import Results
from shared_models.targets import Binary, Regression
from tests.server.report.made_study import make
from tests.server.report.test_page import words


@pytest.fixture
def one() -> Results:
    return make({"er": Binary()}, rounds=2)


def folder(tmp_path: Path, name: str, results: Results) -> Path:
    (tmp_path / name).mkdir()
    return write_results(results, tmp_path / name)


def test_a_page_holds_both_and_their_difference(one: Results, tmp_path: Path) -> None:
    other = make({"er": Binary()}, rounds=3, strength=0.1, study="weaker", local_epochs=7)
    page = compare_reports(folder(tmp_path, "one", one), folder(tmp_path, "other", other))
    text, own, others = words(page.read_text()), one.targets["er"].external, other.targets["er"].external
    name = "auc_within_sites"
    expected = difference((own, name), (others, name))
    assert expected is not None
    assert expected[1] > 0
    assert f"{expected[0]:+.3f} ({expected[1]:.3f} to {expected[2]:.3f}): a difference is shown" in text
    assert "local-epochs" in text
    assert text.count("weaker") > 3
    assert list((page.parent / "figures").glob("compared_*.csv"))


def test_the_difference_of_two_equal_samples_has_the_bounds_of_independent_ones() -> None:
    metrics: dict[str, Any] = {"auc": 0.7, "auc_low": 0.64, "auc_high": 0.76}
    gap = difference((metrics, "auc"), (metrics, "auc"))
    assert gap == pytest.approx((0.0, -0.06 * math.sqrt(2), 0.06 * math.sqrt(2)))
    assert difference((metrics, "auc"), ({"auc": 0.7}, "auc")) is None


def test_studies_that_have_no_target_in_common_say_so(one: Results, tmp_path: Path) -> None:
    other = make({"ki67_percent": Regression()}, rounds=2, study="other")
    failed = other.model_copy(update={"failure": "too few sites answered", "targets": {}})
    text = words(compare_reports(folder(tmp_path, "one", one), folder(tmp_path, "other", failed)).read_text())
    assert "The studies have no target in common" in text
    assert "too few sites answered" in text


def test_results_that_are_not_there_are_a_sentence(one: Results, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there are no results"):
        compare_reports(folder(tmp_path, "one", one), tmp_path / "nowhere" / RESULTS)
