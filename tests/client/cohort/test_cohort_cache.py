"""A cohort is parsed once, found by what its files are now, and bounded on the disk together with its artefacts."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from client.cache.entry import Entry, read_entry
from client.cache.row_files import RowFiles
from client.cohort import cohort_cache
from client.cohort.cohort_cache import cached
from client.cohort.load import load_cohort
from client.errors import SiteError
from shared_models.features import Feature
from shared_models.task import Table, Task

BLOCK = 4096


@pytest.fixture
def parse(hospital):
    """Counts how often it is called; the tensor has a file of a block a row, and a second row of nothing."""

    def parse():
        parse.calls += 1
        folder = hospital.site().state_dir / "cache/artefacts/recipe"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{parse.calls}.npy"
        np.save(path, np.full(6, parse.calls, dtype=np.float16))
        return Entry({"patients": ["a", "b"]}, {"big": RowFiles([path, None], (6,)), "small": np.arange(3)})

    parse.calls = 0
    return parse


def files(site, folder=""):
    return sorted(path for path in (site.state_dir / "cache" / folder).rglob("*") if path.is_file())


def entries(site):
    return files(site, "cohorts")


def touched(hospital, index):
    """The site after its table was written again."""
    os.utime(hospital.data / "clinical.csv", ns=(index, index))
    return hospital.site()


def test_an_entry_is_parsed_once_and_is_read_only(hospital, task, parse):
    site = hospital.site()
    first, second = cached(site, task, parse), cached(site, task, parse)
    assert parse.calls == 1
    assert first.facts == second.facts == {"patients": ["a", "b"]}
    assert not second.arrays["small"].flags.writeable
    np.testing.assert_array_equal(second.arrays["small"], [0, 1, 2])
    np.testing.assert_array_equal(second.arrays["big"], [[1] * 6, [0] * 6])


def test_a_changed_file_or_setting_or_feature_is_parsed_anew(hospital, task, parse, rows):
    cached(hospital.site(), task, parse)
    hospital.write(rows(41))
    cached(hospital.site(), task, parse)
    assert parse.calls == 2
    cached(touched(hospital, 1), task, parse)
    assert parse.calls == 3
    hospital.settings["tables"]["clinical"]["missing"] = []
    cached(hospital.site(), task, parse)
    assert parse.calls == 4
    cached(hospital.site(), Task({"clinical": Table((Feature("er"),))}, task.targets, task.build_model), parse)
    assert parse.calls == 5
    hospital.settings["role"] = "evaluate"
    cached(hospital.site(), task, parse)
    assert parse.calls == 5


def test_a_new_image_is_noticed(hospital, imaging_task, parse):
    hospital.phases([0])
    cached(hospital.site(), imaging_task, parse)
    hospital.phases([1])
    cached(hospital.site(), imaging_task, parse)
    assert parse.calls == 2


def test_nothing_is_left_of_a_parse_that_fails(hospital, task):
    def fail():
        raise RuntimeError("no")

    site = hospital.site()
    with pytest.raises(RuntimeError):
        cached(site, task, fail)
    assert files(site) == []


@pytest.mark.parametrize("folder", ["cohorts", "artefacts"])
@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(path.read_bytes()[:-3]), lambda path: path.unlink()])
def test_an_entry_of_which_something_is_gone_or_cut_short_is_parsed_anew(hospital, task, parse, folder, spoil):
    site = hospital.site()
    cached(site, task, parse)
    spoil(files(site, folder)[0])
    np.testing.assert_array_equal(cached(site, task, parse).arrays["big"][0], [2] * 6)


def test_bytes_that_are_no_entry_are_parsed_anew(hospital, task, parse):
    site = hospital.site()
    cached(site, task, parse)
    for content in (b"", b"no entry", bytes(200)):
        entries(site)[0].write_bytes(content)
        before = parse.calls
        cached(site, task, parse)
        assert parse.calls == before + 1


def test_whoever_comes_second_takes_the_firsts_entry(hospital, task, parse):
    site = hospital.site()

    def slow():
        cached(site, task, parse)
        return parse()

    assert cached(site, task, slow).arrays["big"][0, 0] == 1
    assert len(entries(site)) == 1


def test_what_was_used_least_lately_goes_first_and_what_a_predecessor_left_goes_too(hospital, task, parse):
    site = hospital.site()
    old = site.state_dir / "kept/recipe/old.npy"
    older = site.state_dir / "cache/0123/facts.json"
    draft = site.state_dir / "cache/artefacts/recipe/.draft-old"
    for path in (old, older, draft):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(BLOCK))
        os.utime(path, (1, 1))
    draft.with_name(".draft-new").touch()
    for index in range(6):
        cached(touched(hospital, index), task, parse)
        time.sleep(0.01)
    assert len(entries(site)) == len(files(site, "artefacts")) - 1 == 6
    assert old.exists()
    assert older.exists()
    assert not draft.exists()
    entry = 2 * BLOCK  # a block for the entry's file and one for its row's
    hospital.settings["cache_gib"] = 3 * entry / 2**30
    cached(touched(hospital, 7), task, parse)
    assert len(entries(site)) == 3
    assert sorted(path.name for path in files(site, "artefacts")) == [".draft-new", "5.npy", "6.npy", "7.npy"]
    assert not old.parent.parent.exists()
    assert not older.parent.exists()
    assert parse.calls == 7
    cached(hospital.site(), task, parse)
    assert parse.calls == 7


def test_a_predecessors_cache_is_never_read(hospital, task, parse, monkeypatch):
    site = hospital.site()
    cached(site, task, parse)
    monkeypatch.setattr(cohort_cache, "VERSION", cohort_cache.VERSION - 1)
    cached(site, task, parse)
    assert parse.calls == 2


def test_files_of_a_cohort_that_is_open_are_not_dropped(hospital, task, parse):
    hospital.settings["cache_gib"] = 1e-9
    open_one = cached(touched(hospital, 1), task, parse)
    cached(touched(hospital, 2), task, parse)
    assert len(entries(hospital.site())) == 2
    np.testing.assert_array_equal(open_one.arrays["big"][0], [1] * 6)
    del open_one
    cached(touched(hospital, 3), task, parse)
    assert [path.name for path in files(hospital.site(), "artefacts")] == ["3.npy"]


HOLDS = """
import sys
from pathlib import Path
from client.cache.entry import read_entry
entry = read_entry(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
print(entry.arrays["big"][0].tolist())
"""


def test_nor_are_those_that_another_process_reads(hospital, task, parse):
    hospital.settings["cache_gib"] = 1e-9
    cached(touched(hospital, 1), task, parse)
    (path,) = entries(hospital.site())
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        cached(touched(hospital, 2), task, parse)
        assert other.communicate()[0] == f"{[1.0] * 6}\n"
    cached(touched(hospital, 3), task, parse)
    assert read_entry(path) is None


def test_files_that_go_as_soon_as_they_are_written_are_one_message(hospital, task, parse):
    site = hospital.site()

    def gone():
        entry = parse()
        for path in files(site, "artefacts"):
            path.unlink()
        return entry

    with pytest.raises(SiteError, match="does not hold what was just written") as caught:
        cached(site, task, gone)
    assert "raise `cache_gib`" in str(caught.value)
    assert parse.calls == 3


@pytest.mark.parametrize("reader", ["dicom", "image_files"])
def test_no_table_is_opened_to_find_an_entry(hospital, imaging_task, parse, monkeypatch, reader):
    """The box of a tumour stands in a workbook: its size and time are looked at, and nothing else."""
    from openpyxl import Workbook

    Workbook().save(hospital.data / "boxes.xlsx")
    hospital.phases([0])
    box = {"table": "boxes", "rows": ["a", "b"], "columns": ["c", "d"], "slices": ["e", "f"]}
    mri = (
        {"reader": "dicom", "folder": "mri/{patient}"} if reader == "dicom" else hospital.settings["modalities"]["mri"]
    )
    hospital.settings["modalities"]["mri"] = mri | {"mask": {"box": box}}
    hospital.settings["tables"]["boxes"] = {"file": "boxes.xlsx", "patient_id": "id"}
    monkeypatch.setattr("client.tables.read.read_table", lambda *_: pytest.fail("a table was read"))
    opened = []
    monkeypatch.setattr("pathlib.Path.open", _noting(opened))
    cached(hospital.site(), imaging_task, parse)
    cached(hospital.site(), imaging_task, parse)
    assert parse.calls == 1
    assert not [path for path in opened if path.is_relative_to(hospital.data)]
    os.utime(hospital.data / "boxes.xlsx", ns=(1, 1))
    cached(hospital.site(), imaging_task, parse)
    assert parse.calls == 2


def _noting(opened):
    really = Path.open
    return lambda path, *form, **more: opened.append(path) or really(path, *form, **more)


def test_the_folders_of_the_cache_are_those_that_the_documents_list(hospital, imaging_task, config):
    hospital.phases([0])
    site = hospital.site()
    load_cohort(site, imaging_task, config)
    text = (Path(__file__).parents[3] / "docs/architecture.md").read_text(encoding="utf-8")
    expected = {re.sub(r"[A-Z]{3,}", "*", name) for name in re.findall(r"`(cache/[^`]+)`", text) if name[-1] != "/"}
    paths = {str(path.relative_to(site.state_dir)) for path in files(site)}
    assert {re.sub(r"[0-9a-f]{16,}", "*", name) for name in paths} == expected
