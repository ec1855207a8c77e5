"""A site's state folder of this release, of another, and of none."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.config.state_folder import FILE
from client.errors import SiteError


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_is_of_this_release_and_continues(hospital) -> None:
    state = hospital.site().state_dir
    (state / "audit.jsonl").write_text("")
    assert [path.name for path in sorted(state.iterdir())] == ["audit.jsonl", FILE]
    hospital.site()


@pytest.mark.parametrize(
    "written", [{"splits/elm.csv": "patient,part,seed\na,test,0\n"}, {FILE: "1\n"}, {FILE: "3\n", "audit.jsonl": ""}]
)
def test_one_of_another_release_is_refused_and_nothing_in_it_changes(hospital, written: dict[str, str]) -> None:
    state = hospital.site().state_dir
    (state / FILE).unlink()
    for name, text in written.items():
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).write_text(text)
    before = contents(state)
    with pytest.raises(SiteError, match="another release wrote this site's state folder") as error:
        hospital.site()
    assert "another `state_dir`" in error.value.fix
    assert str(state) not in error.value.public
    assert contents(state) == before


def test_a_draft_that_a_killed_process_left_is_no_release(hospital) -> None:
    state = hospital.site().state_dir
    (state / FILE).rename(state / ".draft-1")
    assert hospital.site()
    assert (state / FILE).exists()
