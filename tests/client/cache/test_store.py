"""Artefacts are made once, whole, in worker processes; a file that cannot be used costs its own patient only."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from client.cache import store
from client.cache.store import Job, make_artefacts
from client.errors import SiteError


def file(hospital, number):
    path = hospital.data / f"{number}.txt"
    path.write_text(str(number))
    return path


def doubled(files):
    return np.asarray(2.0 * float(files[0].read_text()))


def refused(files):
    raise ValueError(f"no number {files[0].stem}")


def crash_at_two(files):
    if files[0].stem == "2":
        os.abort()
    return doubled(files)


def counted(counter, stored, slow=None):
    """What two recipes share: notes that it was called, and gives what the step `slow` stores."""
    with counter.open("a") as lines:
        lines.write(f"load {os.getpid() != int(counter.stem)}\n")
    return stored("slow", partial(slow_step, counter, slow))


def slow_step(counter, files):
    with counter.open("a") as lines:
        lines.write("slow\n")
    return np.arange(3.0)


def shifted(array, by):
    return array + by


def values(site, jobs):
    """Numbers, or errors, by job and recipe."""
    return {
        number: {
            recipe: made if isinstance(made, SiteError) else np.load(made).tolist()
            for recipe, made in artefacts.items()
        }
        for number, artefacts in make_artefacts(site, jobs, "")
    }


@pytest.fixture(params=[1, 2])
def site(hospital, request):
    hospital.settings["workers"] = request.param
    return hospital.site()


def test_artefacts_come_in_order_and_are_made_once(site, hospital):
    jobs = {number: Job((file(hospital, number),), {"a": doubled}) for number in (3, 1, 2)}
    assert values(site, jobs) == {3: {"a": 6}, 1: {"a": 2}, 2: {"a": 4}}
    others = {number: Job(job.files, {"a": refused}) for number, job in jobs.items()}
    assert list(values(site, others).items()) == [(3, {"a": 6}), (1, {"a": 2}), (2, {"a": 4})]
    errors = [
        artefact["b"] for artefact in values(site, {n: Job(j.files, {"b": refused}) for n, j in jobs.items()}).values()
    ]
    assert all(isinstance(error, SiteError) and "no number 3" not in error.public for error in errors)
    assert "ValueError: no number 3" in str(errors[0])


def test_what_recipes_share_is_made_once_and_only_for_what_is_missing(site, hospital, tmp_path):
    counter = tmp_path / f"{os.getpid()}.txt"
    recipes = {f"plus {by}": partial(shifted, by=by) for by in (1, 2)}
    jobs = {n: Job((file(hospital, n),), dict(recipes), partial(counted, counter)) for n in range(3)}
    expected = {"plus 1": [1, 2, 3], "plus 2": [2, 3, 4]}
    assert values(site, jobs) == dict.fromkeys(range(3), expected)
    away = site.workers != 1
    assert sorted(counter.read_text().split("\n")[:-1]) == [f"load {away}"] * 3 + ["slow"] * 3
    assert values(site, jobs) == dict.fromkeys(range(3), expected)
    assert counter.read_text().count("load") == 3
    more = {n: Job(job.files, recipes | {"plus 3": partial(shifted, by=3)}, job.load) for n, job in jobs.items()}
    assert values(site, more)[2] == expected | {"plus 3": [3, 4, 5]}
    assert counter.read_text().count("load") == 6
    assert counter.read_text().count("slow") == 3, "the slow step is stored"


def test_a_recipe_that_fails_leaves_the_others(site, hospital):
    made = values(site, {0: Job((file(hospital, 0),), {"bad": refused, "good": doubled})})[0]
    assert isinstance(made["bad"], SiteError)
    assert made["good"] == 0


def test_files_that_cannot_be_loaded_are_loaded_once(site, hospital, tmp_path):
    counter = tmp_path / f"{os.getpid()}.txt"
    job = Job((file(hospital, 0),), {"a": doubled, "b": doubled}, partial(bad_load, counter))
    made = values(site, {0: job})[0]
    assert all("ValueError: unreadable" in str(made[recipe]) for recipe in "ab")
    assert counter.read_text() == "x"


def bad_load(counter, stored):
    with counter.open("a") as lines:
        lines.write("x")
    raise ValueError("unreadable")


def test_a_file_that_makes_a_library_crash_costs_its_own_patient_only(hospital):
    hospital.settings["workers"] = 2
    jobs = {number: Job((file(hospital, number),), {"a": crash_at_two}) for number in range(5)}
    artefacts = values(hospital.site(), jobs)
    assert "ended" in str(artefacts.pop(2)["a"])
    assert artefacts == {number: {"a": 2 * number} for number in (0, 1, 3, 4)}


def test_a_recipe_that_crashes_costs_its_own_artefact_only(hospital):
    hospital.settings["workers"] = 2
    jobs = {number: Job((file(hospital, number),), {"bad": crash_at_two, "good": doubled}) for number in (1, 2)}
    artefacts = values(hospital.site(), jobs)
    assert artefacts[1] == {"bad": 2, "good": 2}
    assert "ended" in str(artefacts[2]["bad"])
    assert artefacts[2]["good"] == 4


def test_a_result_that_was_cut_short_is_made_anew(site, hospital):
    jobs = {0: Job((file(hospital, 7),), {"a": doubled})}
    path = dict(make_artefacts(site, jobs, ""))[0]["a"]
    path.write_bytes(path.read_bytes()[:-3])
    assert values(site, jobs) == {0: {"a": 14}}


def test_a_changed_file_recipe_or_cell_of_a_table_is_another_artefact(site, hospital):
    path = file(hospital, 1)
    jobs = [Job((path,), {"a": doubled}), Job((path,), {"b": doubled}), Job((path,), {"a": doubled}, None, "box")]
    made = [
        artefact["a" if "a" in artefact else "b"] for _, artefact in make_artefacts(site, dict(enumerate(jobs)), "")
    ]
    path.write_text("5")
    made += [artefact["a"] for _, artefact in make_artefacts(site, {0: jobs[0]}, "")]
    assert len(set(made)) == 4
    assert np.load(made[-1]) == 10


def test_a_full_disk_is_no_fault_of_a_patient(hospital, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "atomic_path", full)
    with pytest.raises(SiteError, match="cannot be written"):
        list(make_artefacts(hospital.site(), {0: Job((file(hospital, 1),), {"a": doubled})}, ""))


def test_nothing_but_whole_artefacts_is_left(site, hospital):
    made = dict(make_artefacts(site, {n: Job((file(hospital, n),), {"a": doubled}) for n in range(3)}, ""))
    files = [path for path in (Path(site.state_dir) / "cache").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(artefact["a"] for artefact in made.values())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
