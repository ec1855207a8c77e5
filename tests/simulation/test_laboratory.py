from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import simulation
from shared_models.settings import SettingsError

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_of_studies_from_python_runs_as_written(
    hospitals: Callable[..., dict[str, Path]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = hospitals({"oak": 400, "elm": 400})
    monkeypatch.chdir(sites["oak"].parents[1])
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert capsys.readouterr().out
    results, second = names["results"], names["second"]
    assert isinstance(results, simulation.Results)
    assert isinstance(second, simulation.Results)
    assert (second.content.strategy, second.content.config["rounds"]) == ("fednova", 3)
    assert list(results.sites.columns) == ["site", "role", "train", "validation", "test"]
    (row,) = results.metrics.query("metric == 'c_index' and of == 'internal'").itertuples()
    assert row.value == results.content.targets["recurrence"].internal["c_index"]
    rates = names["rates"]
    assert isinstance(rates, pd.DataFrame)
    assert list(rates["learning-rate"]) == [0.001, 0.01]
    assert rates["value"].notna().all()
    with pytest.raises(SettingsError, match="did you mean 'rounds'"):
        simulation.run({"study": "third"}, list(sites.values()), round=3)
    with pytest.raises(SettingsError, match="canary: it trains one round of a deployment"):
        simulation.run({"study": "third"}, list(sites.values()), canary=True)
