"""An approval is answered of the same data: of all folds of a study, and until a person approves it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from client.config.site import load_site
from client.errors import SiteError
from client.governance.approval import approve
from client.governance.same_data import require_same_data
from shared_models.folds import each_fold
from shared_models.study_settings import parse_study_settings


def test_folds_of_a_study_are_of_the_same_patients(hospitals: Callable[..., dict[str, Path]]) -> None:
    """Two repeats' folds add up to all patients each: their difference would be who came in between."""
    site = load_site(hospitals({"a": 20})["a"])
    study = parse_study_settings({"study": "small", "folds": 2, "repeats": 2, "test-fraction": 0.0})
    other = parse_study_settings({"study": "other", "folds": 2, "test-fraction": 0.0})
    folds = each_fold(study)
    approve(site, study)
    for number, fold in enumerate(folds):
        require_same_data(site, fold, f"split {number}", "patients")
    for fold, split, patients in ((folds[0], "split 1", "patients"), (folds[3], "split 3", "one more")):
        with pytest.raises(SiteError, match="not those of the study's first question"):
            require_same_data(site, fold, split, patients)
    require_same_data(site, each_fold(other)[0], "split", "one more")
    approve(site, study)
    require_same_data(site, folds[3], "split 3", "one more")


def test_so_are_the_folds_without_each_hospital_in_turn(hospitals: Callable[..., dict[str, Path]]) -> None:
    site = load_site(hospitals({"a": 20})["a"])
    named = {"leave-out": "each", "sites": "a,b,c,d,elm,oak", "evaluation-only-sites": "elm,oak", "min-sites": 2}
    study = parse_study_settings({"study": "small", **named})
    first, second, *_ = each_fold(study)
    approve(site, study)
    require_same_data(site, first, "split", "patients")
    with pytest.raises(SiteError, match="not those of the study's first question"):
        require_same_data(site, second, "split", "one more")
    approve(site, study)
    require_same_data(site, second, "split", "one more")
