"""A hospital whose sizes and days are a tenth of the others': told before anything is trained, and in its results."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.report.page import draw_page
from server.study.results.schema import Results
from server.study.results.table import print_table
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process import run_in_process


@pytest.mark.parametrize("secure", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_a_hospital_with_sizes_and_days_of_another_unit_is_told_of(
    hospitals: Callable[..., dict[str, Path]],
    small_study: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    secure: str,
) -> None:
    sites = hospitals({"a": 90, "b": 90, "c": 90})
    text = sites["b"].read_text(encoding="utf-8").replace("size_mm: size", "size_mm: {column: size, scale: 0.1}")
    sites["b"].write_text(text.replace("[days]", "[{column: days, scale: 0.1}]"), encoding="utf-8")
    study = {**small_study, "rounds": 1, "secure-aggregation": secure, "min-sites": 3}
    with caplog.at_level(logging.INFO):
        results = Results.model_validate(run_in_process(sites, parse_study_settings(study)))
    messages = [
        record.getMessage() for record in caplog.records if "is unlike the other hospitals" in record.getMessage()
    ]
    assert [text for text in messages if "clinical: size_mm is 2.4" in text]
    assert [text for text in messages if "outcome recurrence: the event comes in" in text]
    if secure == "on":
        return  # the center cannot see whose sums differ
    assert messages[0].startswith("b is unlike the other hospitals: clinical: size_mm is 2.4")
    assert "size_mm" in results.sites[1].differences[0]
    assert not results.sites[0].differences
    print_table(results)
    assert "b is unlike the other sites" in " ".join(capsys.readouterr().out.split())
    assert "b is unlike the other hospitals" in draw_page(results)[0]
