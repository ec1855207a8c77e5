"""Training that diverges: said with its round and rate, and no weights of it change the study's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.study.exchange import StudyError
from server.study.weights.checkpoint import load_checkpoint
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process import run_in_process


@pytest.mark.parametrize("secure", ["on", "off"])
def test_a_study_that_diverges_says_so_and_the_weights_of_the_round_before_stay(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], secure: str
) -> None:
    sites = hospitals({"a": 30, "b": 30, "c": 30})
    study = {**small_study, "secure-aggregation": secure, "min-sites": 3, "rounds": 1}
    run_in_process(sites, parse_study_settings(study))
    last = Path(study["results-dir"]) / study["study"] / "last.safetensors"
    before = last.read_bytes()
    wild = {**study, "rounds": 2, "resume": True, "learning-rate": 1e9}
    with pytest.raises(StudyError, match="learning-rate differ from the checkpoint's"):
        run_in_process(sites, parse_study_settings(wild))
    with pytest.raises(StudyError, match=r"diverged in round 1.* at learning-rate 1e\+09"):
        run_in_process(sites, parse_study_settings({**wild, "resume": False, "study": "wild"}))
    if secure == "off":  # each site says so itself: the round is not tried again
        assert len(load_checkpoint(Path(study["results-dir"]) / "wild" / "last.safetensors").history) == 1
    assert last.read_bytes() == before
    assert load_checkpoint(last).round == 1
