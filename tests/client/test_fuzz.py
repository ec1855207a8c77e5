"""Files that are broken by chance: the site goes on without their patients, or says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from client.cohort.load import load_cohort
from shared_models.targets import TimeToEvent
from shared_models.task import Task, Volume

ROOT = Path(__file__).parents[2]


def mutated(folder, count):
    """How often each kind of file ended how, after `count` changes; the ends that may not be stand under `wrong`."""
    command = [sys.executable, str(Path(__file__).with_name("fuzzing.py")), str(folder), str(count)]
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | paths)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("count", [3, pytest.param(75, marks=pytest.mark.slow)])
def test_a_file_that_is_spoilt_by_chance_costs_its_patient_at_most(tmp_path, count):
    kinds = mutated(tmp_path, count)
    print(json.dumps(kinds, indent=1))
    assert sum(sum(kind["ends"].values()) for kind in kinds) == count * len(kinds) > 40
    for kind in kinds:
        # an image may bring down the library that reads it: the process is another one, see below
        codec_crashed = not kind["tabular"] and "wrong" not in kind["ends"]
        assert not kind["wrong"] or codec_crashed, f"{kind['kind']}: {kind['wrong']}"
        assert sum(kind["ends"].get(end, 0) for end in ("excluded", "site error", "crash")) > 0


def test_one_file_that_crashes_its_reader_is_found_among_twenty(hospital, config):
    import SimpleITK as sitk

    (hospital.data / "mri").mkdir()
    for index in range(20):
        path = hospital.data / f"mri/secret-{index:03d}.dcm"
        image = sitk.GetImageFromArray(np.random.default_rng(index).integers(0, 3000, (1, 20, 16)).astype(np.uint16))
        image.SetMetaData("0008|0060", "MG")
        sitk.WriteImage(image, str(path), useCompression=True, compressor="JPEG")
    bad = hospital.data / "mri/secret-007.dcm"
    content = bytearray(bad.read_bytes())
    content[content.index(b"\xff\xc3") + 4] = 234  # bits a sample: GDCM crashes
    bad.write_bytes(content)
    reader = {"reader": "mammogram", "images": "mri/{patient}.dcm", "spacing_mm": [0.1, 0.2]}
    hospital.settings["modalities"]["mri"], hospital.settings["workers"] = reader, 2
    volume = Volume((1, 1, 20, 16), (1.0, 0.1, 0.2))
    task = Task({"mri": volume}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)
    cohort = load_cohort(hospital.site(), task, config)
    assert cohort.present[:20, 0].sum() == 19
    (aside,) = cohort.excluded
    assert aside.patient == "secret-007"
    assert "process" in aside.why


def test_a_warm_start_imports_no_reader_of_files(hospital):
    """A training process with a warm cache needs none of the libraries that decode images and tables."""
    program = """
import sys
from pathlib import Path
from client.cohort.load import load_cohort
from client.config.site import load_site
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task, Volume
task = Task({"mri": Volume((4, 6, 8, 10), (1.0, 1.0, 1.0)), "clinical": Table((Feature("age_years"),))},
            {"recurrence": TimeToEvent()}, build_model=lambda *_: None)
load_cohort(load_site(Path(sys.argv[1])), task, StudySettings(study="elm"))
heavy = {"SimpleITK", "pydicom", "highdicom", "PIL", "pandas", "pyarrow", "openpyxl", "radiomics"} & set(sys.modules)
print(sorted(heavy))
"""
    hospital.phases([0, 1])
    hospital.site()
    command = [sys.executable, "-c", program, str(hospital.folder / "oak.yaml")]
    cold, warm = (subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True) for _ in range(2))
    assert "SimpleITK" in cold.stdout  # what is looked for is found where it is
    assert warm.stdout.strip() == "[]"
