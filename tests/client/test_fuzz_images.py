"""Images that are made to mislead: none escapes data_root, none holds the site up, and nobody is named."""

from __future__ import annotations

import ctypes
import gzip
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from client.cache.store import Job
from client.cohort.load import load_cohort
from client.contract.paths import Instance
from client.errors import SiteError
from client.readers.modality_data import make_rows
from shared_models.targets import TimeToEvent
from shared_models.task import Task, Volume

MRI = Volume((2, 6, 8, 10), (1.0, 1.0, 1.0))
IN_OPEN, IN_NONBLOCK = 0x20, 0o4000


@pytest.fixture
def clinic(hospital):
    """Two phases of patients 0 to 2, and a folder outside data_root, of which every file that is opened is noted."""
    hospital.phases([0, 1, 2], count=2)
    outside = hospital.folder / "outside"
    outside.mkdir()
    (outside / "voxels.raw").write_bytes(np.full(480, 7, np.float32).tobytes())
    shutil.copy(victim(hospital), outside / "phase.nii.gz")
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(IN_NONBLOCK)
    assert libc.inotify_add_watch(handle, os.fsencode(outside), IN_OPEN) > 0
    yield hospital
    with pytest.raises(BlockingIOError):  # nothing to be read: nothing was opened
        os.read(handle, 4096)
    os.close(handle)


def victim(hospital, name="phase1.nii.gz"):
    return hospital.data / "mri/secret-001" / name


def cohort_of(hospital, config, volume=MRI):
    task = Task({"mri": volume}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)
    started = time.process_time()
    cohort = load_cohort(hospital.site(), task, config)
    assert time.process_time() - started < 10
    return cohort


def other_format(hospital, suffix, text):
    """Patient 1's second phase as a header that ends with `text`, and all others rewritten in that format."""
    import SimpleITK as sitk

    for path in sorted(hospital.data.glob("mri/*/*.nii.gz")):
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", suffix))
        path.unlink()
    reader = hospital.settings["modalities"]["mri"]
    reader["phases"] = [pattern.replace(".nii.gz", suffix) for pattern in reader["phases"]]
    victim(hospital, f"phase1{suffix}").write_text(text)


NRRD = "NRRD0004\ntype: float\ndimension: 3\nsizes: 10 8 6\nendian: little\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 10 8 6\nElementType = MET_FLOAT\n"
VOXELS = "../../../outside/voxels.raw"


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".nrrd", f"{NRRD}data file: {VOXELS}\n\n"),
        (".nrrd", f"{NRRD}DataFile: {VOXELS}\n\n"),
        (".nrrd", f"{NRRD}data file: LIST\n{VOXELS}\n\n"),
        (".nrrd", f"{NRRD.replace(chr(10), chr(13) + chr(10))}data file: {VOXELS}\r\n\r\n"),
        (".mha", f"{META}ElementDataFile = {VOXELS}\n"),
        (".mha", f"{META}ElementDataFile: {VOXELS}\n"),
        (".mha", f"{META}ElementDataFile = LIST\n{VOXELS}\n"),
        (".mha", f"Comment = ElementDataFile = LOCAL\n{META}ElementDataFile = {VOXELS}\n"),
    ],
)
def test_a_header_that_leads_to_another_file_is_not_followed(clinic, config, suffix, text):
    other_format(clinic, suffix, text)
    cohort = cohort_of(clinic, config)
    assert cohort.present[:3, 0].tolist() == [True, False, True]
    (aside,) = cohort.excluded
    assert "voxels are in another file" in aside.why


def test_other_formats_that_itk_knows_are_not_tried(clinic, config):
    other_format(clinic, ".vtk", "# vtk DataFile Version 3.0\n")
    with pytest.raises(SiteError, match=r"another format\n.*\n.*vtk"):
        cohort_of(clinic, config)


def test_a_link_that_leads_out_stops_the_site(clinic, config):
    victim(clinic).unlink()
    victim(clinic).symlink_to(clinic.folder / "outside/phase.nii.gz")
    with pytest.raises(SiteError, match="escapes data_root") as caught:
        cohort_of(clinic, config)
    assert "secret" not in caught.value.public


def test_a_folder_that_is_a_link_out_stops_the_site(clinic, config):
    shutil.move(victim(clinic).parent, clinic.folder / "outside/images")
    victim(clinic).parent.symlink_to(clinic.folder / "outside/images")
    with pytest.raises(SiteError, match="escapes data_root") as caught:
        cohort_of(clinic, config)
    assert "secret" not in caught.value.public


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        made.bind(path.name)
        os.chdir(here)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to(path), "wrong number of phases"),
        (lambda path: path.symlink_to("nothing"), "wrong number of phases"),
        (os.mkfifo, "no regular file"),
        (a_socket, "no regular file"),
        (Path.mkdir, "no regular file"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(gzip.compress(bytes(10))), "cannot be read"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(1000)), "cannot be read"),
    ],
    ids=["link to itself", "link to nothing", "pipe", "socket", "folder", "empty", "short", "no gzip"],
)
def test_what_is_no_image_sets_its_patient_aside(clinic, config, make, message):
    victim(clinic).unlink()
    make(victim(clinic))
    cohort = cohort_of(clinic, config)
    assert cohort.present[:3, 0].tolist() == [True, False, True]
    (aside,) = cohort.excluded
    assert message in aside.why
    assert aside.patient == "secret-001"


@pytest.mark.parametrize("reader", ["mammogram", "dicom", "tiles"])
def test_a_pipe_holds_up_no_reader(hospital, config, reader):
    from PIL import Image

    for index in range(2):
        folder = hospital.data / f"mri/secret-{index:03d}"
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(index).integers(0, 255, (20, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels if reader == "tiles" else pixels[..., 0]).save(folder / "0.png")
        os.mkfifo(folder / "1.png")
    files = "mri/{patient}/*.png"
    hospital.settings["modalities"]["mri"] = {
        "mammogram": {"reader": "mammogram", "images": files, "spacing_mm": [0.1, 0.1], "view": "CC"},
        "dicom": {"reader": "dicom", "folder": "mri/{patient}"},
        "tiles": {"reader": "tiles", "tiles": files},
    }[reader]
    with pytest.raises(SiteError):
        cohort_of(hospital, config, Volume((3, 2, 8, 8), (1.0, 1.0, 1.0)))


def test_a_file_that_goes_between_listing_and_reading(clinic):
    site = clinic.site()
    exams = site.modalities["mri"].exams(site)
    victim(clinic).unlink()
    jobs = {row: Job(exams[Instance(f"secret-{row:03d}")].files, {"a": lambda _: np.ones(1)}) for row in range(3)}
    read = make_rows(site, jobs, (3, 1), "")
    assert read.present.tolist() == [True, False, True]
    assert "phase1.nii.gz is missing" in str(read.excluded[1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(clinic, config):
    victim(clinic).chmod(0)
    (aside,) = cohort_of(clinic, config).excluded
    assert "PermissionError" in aside.why


def test_names_of_any_bytes_are_said_without_harm(hospital, config):
    import SimpleITK as sitk

    hospital.phases([0, 1], count=1)
    folder = victim(hospital).parent
    for name in (b"phase0\xff.nii.gz", b"phase0\n\x1b[2J'\".nii.gz", b"phase0" + b"x" * 242 + b".nii.gz"):
        shutil.copy(folder / "phase0.nii.gz", os.fsencode(folder) + b"/" + name)
    hospital.settings["modalities"]["mri"]["phases"] = ["mri/{patient}/phase0*.nii.gz"]
    hospital.settings["modalities"]["mri"]["mask"] = "mri/{patient}/phase0*.nii.gz"
    assert sitk.ReadImage(str(folder / "phase0.nii.gz"))
    with pytest.raises(SiteError) as caught:
        cohort_of(hospital, config)
    str(caught.value).encode()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("kind", ["a phase is cut", "the table has a strange code"])
def test_what_leaves_a_spoilt_site_names_nobody(clinic, kind):
    from flwr.app import Message

    from client.app import app
    from shared_models.messages import PrepareReply, PrepareRequest, StudyStatistics, TrainRequest
    from shared_models.study_settings import parse_study_settings
    from shared_models.task import load_task
    from simulation.engines.in_process_grid import InProcessGrid

    clinic.phases([0, 1, 2])
    victim(clinic).write_bytes(victim(clinic).read_bytes()[:60])
    if kind != "a phase is cut":
        table = clinic.data / "clinical.csv"
        table.write_text(table.read_text().replace("G2", "secret-code", 1))
    clinic.site()
    study = {
        "study": "small",
        "task": "recurrence_mri",
        "features": "clinical: age_years, grade{1|2|3}, er{negative|positive}",
        "modalities": "mri, clinical",
        "grids": "mri: 6x8x10 at 1x1x1 mm",
        "batch-size": 8,
    }
    grid = InProcessGrid(app, {"oak": clinic.folder / "oak.yaml"}, parse_study_settings(study).to_flat())
    (reply,) = grid.send_and_receive([Message(PrepareRequest().pack(), 1, PrepareRequest.KIND)])
    sent = [repr(reply.error) if reply.has_error() else repr(dict(reply.content))]
    if kind == "a phase is cut":
        counted = PrepareReply.unpack(reply.content)
        assert counted.excluded == 1
        task = load_task(parse_study_settings(study))
        network = task.build_model(task, parse_study_settings(study))
        model = {name: value.numpy() for name, value in network.state_dict().items()}
        train = TrainRequest(round=1, model=model, statistics=StudyStatistics(counted.features).pack())
        (reply,) = grid.send_and_receive([Message(train.pack(), 1, TrainRequest.KIND)])
        sent.append(repr(reply.error) if reply.has_error() else repr(dict(reply.content)))
    else:
        assert "a column of the site's tables" in reply.error.reason
    for secret in ("secret", "phase1", ".nii", str(clinic.folder), "clinical.csv"):
        assert secret not in "".join(sent)
