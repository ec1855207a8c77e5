"""Hospitals that define an outcome differently: said before round 1, and again in the results."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.study.endpoints import differing
from server.study.results.schema import Results
from server.study.results.table import print_table
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process import run_in_process


def test_definitions_are_compared_without_regard_to_capitals_and_who_is_silent_is_named() -> None:
    assert not [*differing({"a": {"relapse": "RFI"}, "b": {"relapse": "rfi "}})]
    assert not [*differing({"a": {"relapse": ""}, "b": {"relapse": ""}, "c": {}})]
    (sentence,) = differing({"a": {"relapse": "RFI"}, "b": {"relapse": ""}})
    assert sentence.startswith("relapse may differ between hospitals: RFI (a), not defined (b);")


def test_hospitals_with_other_endpoints_are_named_before_anything_is_trained(
    hospitals: Callable[..., dict[str, Path]],
    small_study: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sites = hospitals({"a": 60, "b": 60})
    for name, lines in {"a": "endpoint: RFI\n    deaths: censored", "b": "endpoint: RFS\n    deaths: events"}.items():
        text = sites[name].read_text(encoding="utf-8")
        sites[name].write_text(text.replace("recurrence:\n", f"recurrence:\n    {lines}\n"), encoding="utf-8")
    with caplog.at_level(logging.INFO, "server"):
        results = Results.model_validate(run_in_process(sites, parse_study_settings({**small_study, "rounds": 1})))
    messages = [record.getMessage() for record in caplog.records]
    differs = (
        "recurrence differs between hospitals: RFI, deaths without it censored (a), RFS, deaths without it are events"
    )
    first = next(index for index, text in enumerate(messages) if text.startswith(differs))
    assert first < next(index for index, text in enumerate(messages) if text.startswith("round 1/1"))
    assert results.sites[1].endpoints == {"recurrence": "RFS, deaths without it are events"}
    print_table(results)
    assert "differs between hospitals" in " ".join(capsys.readouterr().out.split())
