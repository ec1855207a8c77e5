"""Spoils one file of a small site by chance, and looks how the site ends. `test_fuzz.py` runs it as a program.

    python tests/client/fuzzing.py FOLDER COUNT [KIND ...]

Each spoilt file is read in a process of its own, with a limit on time and memory: `readiness` and `load_cohort` may
end in a cohort, with the file's patient excluded or not, or, for a table, in a `SiteError` that names nobody. A line a
kind is printed, as JSON: how often which, and every other end with its seed.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from conftest import FEATURES, Hospital, cohort_rows, patient
from fuzz_seeds import KINDS, PATIENTS, SHAPE, TABLES, VICTIM

LIMIT_S, LIMIT_BYTES = 10, 4 * 2**30
EXTREMES = (b"\0\0", b"\xff\xff", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\xc0\x7f", b"\0\0\0\x80")
CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
DIGITS = (b"-1", b"0", b"99999999999999999999", b"nan", b"1e400", b"65536 ")


def spoilt(content: bytes, seed: int) -> bytes:
    """One to four changes: bits turned, bytes cut, put in or exchanged, numbers made extreme."""
    dice, made = random.Random(seed), bytearray(content)
    for _ in range(dice.randint(1, 4)):
        size = max(1, len(made))
        at = dice.randrange(min(size, 400) if dice.random() < 0.6 else size)  # headers stand first
        end = min(size, at + dice.randint(1, 40))
        change = dice.randrange(8)
        if change == 0:
            made[at : at + 1] = bytes([made[at] ^ (1 << dice.randrange(8))]) if made else b"x"
        elif change == 1:
            del made[dice.randrange(size) :]
        elif change == 2:
            del made[at:end]
        elif change == 3:
            made[at:at] = dice.randbytes(dice.randint(1, 40))
        elif change == 4:
            made[at:end] = made[size - (end - at) :]
        elif change == 5:
            digits = [i for i in range(at, size - 1) if made[i : i + 1].isdigit()][:20]
            place = dice.choice(digits) if digits else at
            made[place : place + 1] = dice.choice(DIGITS)
        else:
            number = dice.choice(EXTREMES)
            made[at : at + len(number)] = number
    return bytes(made)


def look(site: Hospital, file: Path, tabular: bool) -> str:
    """How the site ends with the file as it is: `usable`, `excluded` or `site error`.

    Raises:
        AssertionError: If it says who, takes the others along or lets numbers through that are none.
    """
    from client.checks.counts import readiness
    from client.cohort.load import load_cohort
    from client.errors import SiteError
    from shared_models.study_settings import StudySettings
    from shared_models.targets import TimeToEvent
    from shared_models.task import Table, Task, Volume

    here, config = site.site(), StudySettings(study="elm")
    volume = Volume((1 if "mammogram" in str(site.settings) else 2, *SHAPE), (1.0, 1.0, 1.0))
    if "seg/" in str(site.settings):
        volume = Volume((3, *SHAPE), (1.0, 1.0, 1.0), tumour=True)
    kinds = {"clinical": Table(FEATURES)} | ({} if tabular else {"mri": volume})
    task = Task(kinds, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)  # type: ignore[arg-type, return-value]
    try:
        cohort = load_cohort(here, task, config, store_split=False)
    except SiteError as error:
        named = [part for part in ("secret", file.name, str(site.folder)) if part in error.public]
        if named or not tabular:  # one patient's image stops no site
            raise
        assert readiness(here, config, task).exit_code
        return "site error"
    assert not np.isinf(cohort.inputs["clinical"]).any()
    if not tabular:
        assert np.isfinite(cohort.inputs["mri"]).all()
        assert all(cohort.present[index, list(kinds).index("mri")] for index in PATIENTS if index != VICTIM)
    assert {exclusion.patient for exclusion in cohort.excluded} <= {patient(VICTIM)}
    assert readiness(here, config, task).excluded == cohort.excluded
    return "excluded" if cohort.excluded else "usable"


def alone(site: Hospital, file: Path, tabular: bool) -> str:
    """`look` in a process with limits; what kills it, by the signal's name, or what it raised."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            outcome = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return outcome if status == 0 else signal.Signals(-status).name if status < 0 else f"exit code {status}"
    os.close(reading)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
    signal.alarm(6 * LIMIT_S)  # a machine has other work, too
    strays: list[str] = []
    sys.addaudithook(lambda event, arguments: strays.append(str(arguments[0])) if event == "open" else None)
    try:
        outcome = look(site, file, tabular)
        inside = tuple(str(site.folder / name) for name in ("data/", "state/", "oak.yaml"))
        astray = [path for path in strays if path.startswith(str(site.folder)) and not path.startswith(inside)]
        outcome = f"outside data_root: {astray}" if astray else outcome
    except BaseException:
        outcome = traceback.format_exc(limit=-4)
    os.write(writing, outcome.encode("utf-8", "backslashreplace")[:4000])
    os._exit(0)


def run(folder: Path, kind: str, count: int, first: int) -> dict[str, object]:
    site = Hospital(folder / kind.replace(" ", "_"))
    site.data.mkdir(parents=True)
    site.settings["state_dir"] = "state"
    site.write(cohort_rows(12))
    file = KINDS[kind](site)
    whole, tabular = file.read_bytes(), kind in TABLES
    assert alone(site, file, tabular) == "usable", (kind, alone(site, file, tabular))
    ends: Counter[str] = Counter()
    wrong: dict[int, str] = {}
    for seed in range(first, first + count):
        file.write_bytes(spoilt(whole, seed))
        shutil.rmtree(site.folder / "state/oak/cache/cohorts", ignore_errors=True)  # the others' artefacts stay
        end = alone(site, file, tabular)
        if end not in ("usable", "excluded", "site error"):
            wrong[seed], end = end, "crash" if end in CRASHES else "wrong"
        ends[end] += 1
    return {"kind": kind, "tabular": tabular, "ends": ends, "wrong": wrong}


if __name__ == "__main__":
    # all that a site may need is imported once, here, and no library has started a thread yet
    import openpyxl
    import pandas  # noqa: F401
    import pyarrow.parquet
    import pydicom
    import SimpleITK
    import sqlalchemy
    import torch
    from PIL import Image

    import client.checks.counts
    import client.cohort.load

    del openpyxl, pyarrow, pydicom, SimpleITK, sqlalchemy, torch, Image, client
    place, number, *names = sys.argv[1:]
    for one in names or KINDS:
        print(json.dumps(run(Path(place), one, int(number), 100_000 * list(KINDS).index(one))), flush=True)
