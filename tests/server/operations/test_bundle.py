from __future__ import annotations

import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.utils import validate_project_name

from server.operations.bundle import app_name, pack, write_bundle
from server.operations.center import Center
from shared_models.study_settings import StudySettings, parse_study_settings


@pytest.fixture
def here(tmp_path: Path) -> Center:
    return Center(tmp_path / "center", "center.example.org:443")


def test_what_travels_holds_settings_and_no_code(here: Center) -> None:
    folder = write_bundle(here, StudySettings(study="pilot"))
    (folder / "client.py").write_text("a module that someone left here")
    archive = zipfile.ZipFile(io.BytesIO(pack(folder)))
    assert sorted(archive.namelist()) == [".info/CONTENT", "pyproject.toml"]


def test_settings_survive_the_journey(here: Center) -> None:
    config = parse_study_settings({"study": "pilot", "rounds": 7, "learning-rate": 0.01, "sites": "duke, ucsf"})
    archive = zipfile.ZipFile(io.BytesIO(pack(write_bundle(here, config))))
    app = tomllib.loads(archive.read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    assert app["components"] == {"serverapp": "server.app:app", "clientapp": "client.app:app"}
    arrived = parse_study_settings(app["config"])
    assert arrived == config.model_copy(update={"results_dir": str(here.results)})


def test_flower_finds_the_apps_in_the_installed_packages(here: Center) -> None:
    from flwr.cli.config_utils import load_and_validate

    pytest.importorskip("client.app")
    _, warnings = load_and_validate(write_bundle(here, StudySettings(study="pilot")) / "pyproject.toml")
    assert warnings == []


def test_two_runs_of_a_study_have_folders_of_their_own(here: Center) -> None:
    assert write_bundle(here, StudySettings(study="pilot")) != write_bundle(here, StudySettings(study="pilot"))


@pytest.mark.parametrize("study", ["pilot", "3_sites.v2", "a" * 64, "Z-1"])
def test_flower_takes_the_name_of_every_study(study: str) -> None:
    validate_project_name(app_name(StudySettings(study=study).study), "the app")
