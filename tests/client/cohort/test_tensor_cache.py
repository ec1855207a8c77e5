import json
import os
import time

import numpy as np
import pytest

from client.cohort.tensor_cache import Entry, cached
from shared_models.features import Feature
from shared_models.task import Table, Task


@pytest.fixture
def parse():
    """Counts how often it is called."""

    def parse(folder):
        parse.calls += 1
        preview_kind = np.lib.format.open_memmap(folder / "big.npy", "w+", np.float16, (3, 2))
        preview_kind[:] = parse.calls
        return Entry({"patients": ["a", "b", "c"]}, {"big": preview_kind, "small": np.arange(3)})

    parse.calls = 0
    return parse


def folders(site):
    return sorted(path for path in (site.state_dir / "cache").iterdir())


def test_an_entry_is_parsed_once_and_mapped_read_only(hospital, task, parse):
    site = hospital.site()
    first, second = cached(site, task, parse), cached(site, task, parse)
    assert parse.calls == 1
    assert first.facts == second.facts == {"patients": ["a", "b", "c"]}
    assert isinstance(second.arrays["big"], np.memmap)
    assert not second.arrays["big"].flags.writeable
    np.testing.assert_array_equal(second.arrays["small"], [0, 1, 2])


def test_a_changed_file_or_setting_or_feature_is_parsed_anew(hospital, task, parse, rows):
    cached(hospital.site(), task, parse)
    hospital.write(rows(41))
    cached(hospital.site(), task, parse)
    assert parse.calls == 2
    os.utime(hospital.data / "clinical.csv", ns=(1, 1))
    cached(hospital.site(), task, parse)
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
    def fail(folder):
        (folder / "half.npy").write_text("half")
        raise RuntimeError("no")

    site = hospital.site()
    with pytest.raises(RuntimeError):
        cached(site, task, fail)
    assert folders(site) == []


@pytest.mark.parametrize("file", ["facts.json", "big.npy", "small.npy"])
def test_an_entry_that_was_cut_short_is_parsed_anew(hospital, task, parse, file):
    site = hospital.site()
    cached(site, task, parse)
    path = folders(site)[0] / file
    path.write_bytes(path.read_bytes()[:-3])
    np.testing.assert_array_equal(cached(site, task, parse).arrays["big"], np.full((3, 2), 2))


def test_arrays_of_objects_are_refused(hospital, task, parse):
    site = hospital.site()
    cached(site, task, parse)
    np.save(folders(site)[0] / "small.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert cached(site, task, parse).arrays["small"].dtype == int
    assert parse.calls == 2


def test_whoever_comes_second_takes_the_firsts_entry(hospital, task, parse):
    site = hospital.site()

    def slow(folder):
        cached(site, task, parse)
        return parse(folder)

    assert cached(site, task, slow).arrays["big"][0, 0] == 1
    assert len(folders(site)) == 1


def test_old_entries_and_abandoned_drafts_are_dropped(hospital, task, parse):
    site = hospital.site()
    old = site.state_dir / "cache" / ".draft-old"
    old.mkdir(parents=True)
    os.utime(old, (1, 1))
    (site.state_dir / "cache" / ".draft-new").mkdir()
    kept = site.state_dir / "kept" / "recipe"
    kept.mkdir(parents=True)
    for name in ("old", "new"):
        (kept / f"{name}.npy").write_bytes(bytes(1024))
    os.utime(kept / "old.npy", (1, 1))
    for index in range(6):
        os.utime(hospital.data / "clinical.csv", ns=(index, index))
        cached(site, task, parse)
        time.sleep(0.01)
    assert len(folders(site)) == 7
    assert ".draft-old" not in [path.name for path in folders(site)]
    entry = 3 * 4096  # a block for each file of an entry
    hospital.settings["cache_gib"] = 3 * entry / 2**30
    os.utime(hospital.data / "clinical.csv", ns=(7, 7))
    cached(hospital.site(), task, parse)
    assert len(folders(site)) == 4
    assert ".draft-new" in [path.name for path in folders(site)]
    assert not (kept / "old.npy").exists()
    assert parse.calls == 7
    cached(hospital.site(), task, parse)
    assert parse.calls == 7


def test_facts_are_plain_json(hospital, task, parse):
    site = hospital.site()
    cached(site, task, parse)
    facts = json.loads((folders(site)[0] / "facts.json").read_text())
    assert facts["arrays"] == ["big", "small"]
