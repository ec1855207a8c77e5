"""Duke's annotated tumours in the grid of system A, on the boxes as published."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from shared_models.study_settings import StudySettings
from shared_models.task import load_task

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_default_grid_shows_the_tumours_that_the_middle_of_the_exam_misses(monkeypatch):
    data = Path(os.environ.get("FEDERATION_TEST_DATA", PROJECT.parent / "shared/data")) / "duke"
    if not data.is_dir():
        pytest.skip("no real data: set FEDERATION_TEST_DATA")
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    duke_boxes = importlib.import_module("duke_boxes")
    kind = load_task(StudySettings(task="recurrence_mri")).modalities["mri"]
    shown = [duke_boxes.measured(exam, kind) for exam in duke_boxes.exams(data, sample=40)]
    assert sum(one["before"].centre for one in shown) <= 1
    for view in ("tumour", "breast", "whole"):
        assert all(one[view].centre for one in shown)
    assert sum(one["tumour"].share >= 0.95 for one in shown) > 0.7 * len(shown)
    agree = [one["breast"].side_agrees for one in shown if one["breast"].side_agrees is not None]
    assert sum(agree) > 0.9 * len(agree)
