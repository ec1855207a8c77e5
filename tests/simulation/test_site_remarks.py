"""What a simulation says of its sites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared_models.study_settings import parse_study_settings
from simulation.site_remarks import site_remarks


def test_a_site_whose_patients_are_all_of_one_class_is_told(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 60, "b": 60})
    table = sites["b"].parent / "clinical.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",yes,", ",no,"), encoding="utf-8")
    config = parse_study_settings(small_study | {"outcome": "binary"})
    (remark,) = site_remarks(sites, config)
    assert remark.startswith("b: recurrence: every training patient is 0")
    assert list(site_remarks({"a": sites["a"]}, config)) == []
