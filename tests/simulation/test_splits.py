from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from client.cohort.rows import open_rows
from client.config.site import load_site
from client.errors import SiteError
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.task import load_task
from simulation.splits import divide, find_sites

TASK = load_task(StudySettings(features="clinical: age_years, size_mm, er{negative|positive}"))


def patients(sites: dict[str, Path]) -> dict[str, set[str]]:
    return {name: set(open_rows(load_site(file), TASK).patients) for name, file in sites.items()}


@pytest.fixture
def oak(hospitals: Callable[..., dict[str, Path]]) -> Path:
    return hospitals({"oak": 50})["oak"]


def test_shares_are_equal_disjoint_and_whole(oak: Path, tmp_path: Path) -> None:
    shares = patients(divide(oak, tmp_path / "sites", into=3))
    assert list(shares) == ["oak-1", "oak-2", "oak-3"]
    assert sorted(len(share) for share in shares.values()) == [16, 17, 17]
    assert set.union(*shares.values()) == patients({"oak": oak})["oak"]
    assert patients(divide(oak, tmp_path / "again", into=3)) == shares


def test_a_column_gives_a_site_for_each_value(oak: Path, tmp_path: Path) -> None:
    shares = patients(divide(oak, tmp_path / "sites", by="er"))
    assert len(shares) == 2
    assert set.union(*shares.values()) == patients({"oak": oak})["oak"]
    assert not set.intersection(*shares.values())
    assert patients(divide(oak, tmp_path / "named", by="clinical:er")) == shares


def test_values_can_be_grouped_by_name(oak: Path, tmp_path: Path) -> None:
    shares = patients(divide(oak, tmp_path / "sites", by="event", groups={"well": ["no"], "ill": ["yes"]}))
    assert set(shares) == {"oak-well", "oak-ill"}


def test_a_patient_with_several_lesions_is_at_one_site(oak: Path, tmp_path: Path) -> None:
    table = oak.parent / "clinical.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *rows, *rows, *rows]) + "\n")
    settings = yaml.safe_load(oak.read_text())
    oak.write_text(yaml.safe_dump(settings | {"instances": {"table": next(iter(settings["tables"]))}}))
    shares = patients(divide(oak, tmp_path / "sites", into=4))
    assert sorted(len(share) for share in shares.values()) == [12, 12, 13, 13]
    assert len(set.union(*shares.values())) == 50


def set_er(oak: Path, *texts: str) -> None:
    """Rewrites the patients' `er`, taking turns."""
    table = oak.parent / "clinical.csv"
    header, *lines = table.read_text().splitlines()
    for index, line in enumerate(lines):
        cells = line.split(",")
        cells[3] = texts[index % len(texts)]
        lines[index] = ",".join(cells)
    table.write_text("\n".join([header, *lines]) + "\n")


def test_values_whose_names_become_one_are_still_sites_of_their_own(oak: Path, tmp_path: Path) -> None:
    set_er(oak, "GE 1.5T", "GE/1.5T", "GE-1.5T")
    shares = patients(divide(oak, tmp_path / "sites", by="er"))
    assert len(shares) == 3
    assert sum(len(share) for share in shares.values()) == 50


def test_spellings_of_one_code_are_one_site(oak: Path, tmp_path: Path) -> None:
    set_er(oak, "1", "1.0", "01", "2")
    shares = patients(divide(oak, tmp_path / "sites", by="er"))
    assert len(shares) == 2
    assert not set.intersection(*shares.values())
    assert sum(len(share) for share in shares.values()) == 50


def test_a_site_that_takes_some_of_its_rows_is_not_divided_into_all_of_them(oak: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(oak.read_text()) | {"include": {"column": "er", "values": ["+"]}}
    oak.write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match="`include`"):
        divide(oak, tmp_path / "sites", into=2)


def test_what_a_division_needs_is_said(oak: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs --by COLUMN or --into N"):
        divide(oak, tmp_path)
    with pytest.raises(SettingsError, match="needs --by COLUMN or --into N"):
        divide(oak, tmp_path, by="er", into=2)
    with pytest.raises(SettingsError, match="no table 'wards'; the site has clinical"):
        divide(oak, tmp_path, by="wards:er")
    with pytest.raises(SettingsError, match="1 site would result"):
        divide(oak, tmp_path, by="event", groups={"all": ["no", "yes"]})
    with pytest.raises(SiteError, match="50 patients, 51 sites"):
        divide(oak, tmp_path, into=51)
    with pytest.raises(SiteError, match="2 sites or more"):
        divide(oak, tmp_path, into=1)
    with pytest.raises(SiteError, match="ward"):
        divide(oak, tmp_path, by="ward")


def test_a_divided_site_keeps_its_settings_but_not_its_state(oak: Path, tmp_path: Path) -> None:
    sites = divide(oak, tmp_path / "sites", into=2)
    whole, half = load_site(oak), load_site(sites["oak-1"])
    assert half.modalities == whole.modalities
    assert half.targets == whole.targets
    assert half.tables == whole.tables
    assert half.data_root == whole.data_root
    assert half.state_dir == tmp_path / "sites" / "state" / "oak-1"


def test_sites_are_known_by_the_names_in_their_files(hospitals: Callable[..., dict[str, Path]], tmp_path: Path) -> None:
    files = hospitals({"a": 10, "b": 10})
    assert find_sites(list(files.values())) == files
    copy = tmp_path / "copy.yaml"
    copy.write_text(files["a"].read_text())
    with pytest.raises(SettingsError, match="both describe the site 'a'"):
        find_sites([files["a"], copy])
    with pytest.raises(SiteError, match="cannot read the site's settings"):
        find_sites([tmp_path / "none.yaml"])
    moved = find_sites([files["a"]], data_root=files["b"].parent, folder=tmp_path / "sites")
    assert load_site(moved["a"]).data_root == files["b"].parent
