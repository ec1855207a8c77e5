from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.study.exchange import StudyError
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process import run_in_process
from simulation.engines.ray import run_on_ray

Hospitals = Callable[..., dict[str, Path]]


def test_without_ray_it_is_said_how_to_get_it(
    hospitals: Hospitals, small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyError, match=r"pip install 'breast-federation\[ray\]'"):
        run_on_ray(hospitals({"a": 20, "b": 20}), parse_study_settings(small_study))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")
def test_ray_gives_the_results_of_one_process(hospitals: Hospitals, small_study: dict[str, Any]) -> None:
    sites = hospitals({"oak": 80, "elm": 60, "ash": 50, "outside": 40}, evaluate_only=("outside",))
    study = {**small_study, "join-timeout-s": 60.0, "sites": "oak,elm,ash,outside"}
    here = run_in_process(sites, parse_study_settings({**study, "results-dir": f"{small_study['results-dir']}-here"}))
    ray = run_on_ray(sites, parse_study_settings(study))
    assert ray["problems"] == here["problems"] == {}
    assert ray["best_round"] == here["best_round"]
    for (_, one), (_, other) in zip(ray["validation"], here["validation"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    pooled = [results["targets"]["recurrence"]["pooled"] for results in (ray, here)]
    assert pooled[0] == pytest.approx(pooled[1], abs=1e-6)
    for one, other in zip(ray["sites"], here["sites"], strict=True):
        assert one["targets"]["recurrence"] == pytest.approx(other["targets"]["recurrence"], abs=1e-6)
        assert {**one, "targets": {}} == {**other, "targets": {}}
