"""Sums without masks, as a simulation of many sites makes them, against those of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import app as client_app
from client.config.site import load_site
from client.governance.budget import sums_of
from server.app import run_study
from server.study.exchange import StudyError
from server.study.secure_aggregation.secure_exchange import SUMS
from server.study.secure_aggregation.summing import SecureAggregation
from server.study.weights.checkpoint import LAST, load_checkpoint
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines import clear_sums
from simulation.engines.clear_sums import uses_clear_sums
from simulation.engines.in_process import run_in_process
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
SECURE = {"secure-aggregation": "on", "min-sites": 3}
TIMES = {"seconds", "started", "ended", "time"}


def untimed(value: Any) -> Any:
    """Results without what no two runs share."""
    if isinstance(value, dict):
        return {key: untimed(one) for key, one in value.items() if key not in TIMES and "second" not in key}
    return [untimed(one) for one in value] if isinstance(value, list) else value


def test_a_study_without_masks_is_the_protocols_to_the_last_bit(
    hospitals: Hospitals, small_study: Study, tmp_path: Path
) -> None:
    sites = hospitals({"a": 60, "b": 50, "c": 70, "d": 40}, evaluate_only=("d",))
    kinds: dict[str, set[str]] = {"masked": set(), "clear": set()}
    studies = {}
    for form in kinds:
        # another study, as its numbers of sums and secrets are; the seed and the split are the same
        study = {**small_study, **SECURE, "rounds": 2, "study": form, "results-dir": str(tmp_path)}
        config = parse_study_settings(study)
        seen = kinds[form].add
        grid = InProcessGrid(client_app, sites, config.to_flat(), lambda _, kind, __, seen=seen: seen(kind))
        if form == "clear":
            with clear_sums.clear_sums():
                results = run_study(grid, config)
        else:
            results = run_study(grid, config)
        studies[form] = results, load_checkpoint(tmp_path / form / LAST)
    assert {"query.deal", "query.open"} <= kinds["masked"]
    assert not {"query.deal", "query.confirm", "query.open"} & kinds["clear"]
    (one, before), (other, after) = studies["masked"], studies["clear"]
    for name, array in before.model.items():
        np.testing.assert_array_equal(after.model[name], array, err_msg=name)
    for part in ("targets", "validation", "best_round"):
        assert untimed(other[part]) == untimed(one[part]), part
    assert one["privacy"]["only_in_sums_of_three_sites_or_more"]
    assert other["privacy"]["only_in_sums_of_three_sites_or_more"] == []
    assert other["privacy"]["colluders"] is None
    assert "without its masks" in other["privacy"]["said"]
    assert [site["patients"] for site in other["sites"]] == [site["patients"] for site in one["sites"]]
    assert SUMS.get() is SecureAggregation, "the protocol is in its place again"


def test_a_simulation_of_many_sites_does_without_masks_and_one_of_few_does_not(
    hospitals: Hospitals, small_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    config = parse_study_settings({**small_study, **SECURE, "rounds": 1, "results-dir": str(tmp_path)})
    assert not uses_clear_sums(config, sites)
    monkeypatch.setattr(clear_sums, "FEW", 2)
    off = {"secure_aggregation": "off"}
    assert not uses_clear_sums(config.model_copy(update=off), sites)
    assert not uses_clear_sums(config.model_copy(update={"strategy": "scaffold"}), sites), "it needs their records"
    run_in_process(sites, config)
    lines = [(load_site(file).state_dir / "audit.jsonl").read_text() for file in sites.values()]
    assert all('"masked": false' in text for text in lines), "each site's log says so"
    own = [load_site(file).state_dir / "studies" / config.study for file in sites.values()]
    assert all((folder / "metrics.json").exists() and not (folder / "result.html").exists() for folder in own)


def test_a_site_answers_without_masks_for_nothing_that_a_center_sends(
    hospitals: Hospitals, small_study: Study, tmp_path: Path
) -> None:
    """The message that a simulation answers in the clear is refused where nothing was put in the protocol's place."""
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    config: StudySettings = parse_study_settings({**small_study, **SECURE, "rounds": 1, "results-dir": str(tmp_path)})
    token = SUMS.set(clear_sums.ClearSums)  # the center's half alone
    try:
        with pytest.raises(StudyError, match="0 sites can train"):
            run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
    finally:
        SUMS.reset(token)
    assert all(sums_of(load_site(file)).exists() for file in sites.values()), "they enrolled"
