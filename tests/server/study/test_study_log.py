from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from server.study.study_log import LOG, study_log
from shared_models.log_files import FORMAT_VARIABLE


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_of_a_study_grows_in_the_form_that_the_center_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv(FORMAT_VARIABLE, form)
    for number in (1, 2):
        with study_log(tmp_path, aloud=False):
            logging.getLogger("server").info("round %d\nof 2", number)
    path = tmp_path / LOG
    text = path.read_text()
    if form == "json":
        assert [json.loads(line)["message"] for line in text.splitlines()] == ["round 1\nof 2", "round 2\nof 2"]
    else:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO    round 1\n", text)
    assert path.stat().st_mode & 0o777 == 0o600
