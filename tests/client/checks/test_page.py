"""The page of a site's readiness: complete, harmless, readable in a browser, and seen by nobody else."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from client.checks.counts import readiness
from client.checks.page import render, show, write_page
from client.checks.pictures import pictures
from client.checks.readiness import FeatureCounts
from client.imaging.planes import planes
from shared_models.features import Feature
from shared_models.targets import Binary
from shared_models.task import Task, Volume

EVIL = "<script>alert(1)</script>"


class Seen(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, *names):
        return [(tag, attributes) for tag, attributes in self.tags if tag in names]


@pytest.fixture
def imaged(hospital, rows, volume_file):
    """Five patients with images and masks, one of them broken; an age that is none; a feature with an evil name."""
    table = rows(40)
    table[1][1] = 900
    hospital.write(table)
    hospital.phases(range(5), count=2, shape=(24, 24, 24))
    hospital.settings["modalities"]["mri"]["mask"] = "mri/{patient}/mask.nii.gz"
    ball = sum((axis - 12.0) ** 2 for axis in np.indices((24, 24, 24))) < 36
    for index in range(5):
        volume_file(hospital.data / f"mri/secret-{index:03d}/mask.nii.gz", ball)
    (hospital.data / "mri/secret-003/phase1.nii.gz").write_bytes(b"no image")
    hospital.settings["modalities"]["clinical"]["features"][EVIL] = "Days"
    return hospital.site()


def test_a_name_that_is_a_script_is_shown_and_does_not_run(imaged):
    seen = Seen(render(readiness(imaged, None, None), study=EVIL))
    assert not seen.all("script")
    assert seen.text.count(EVIL) >= 2
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]


def test_the_page_loads_nothing_and_forbids_it(imaged):
    page = render(readiness(imaged, None, None))
    seen = Seen(page)
    policies = [a["content"] for _, a in seen.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    sources = [value for _, attributes in seen.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|url\(|@import", page)


def test_the_page_says_everything_and_that_it_stays(imaged):
    result = readiness(imaged, None, None)
    text = Seen(render(result)).text
    for part in (
        "This page stays at the hospital",
        "Ready, with",
        "mri: 1 patient is excluded",
        "age_years: 1 value is out of range",
        "expected 15 to 110",
        "To do:",
    ):
        assert part in text
    of_warnings, _, after = text.partition("Exams that deserve a look")
    of_exams, _, after = after.partition("Pictures")
    assert "Patient: secret-000" in of_warnings
    assert "secret-003" in of_warnings
    assert "secret-000, secret-001, secret-002, secret-004" in of_exams
    assert [one for one in re.findall(r"secret-\d+", after) if one != "secret-003"] == [
        "secret-000", "secret-001", "secret-002", "secret-004",
    ]  # fmt: skip
    assert not re.search(r"secret-0(?!0[0-4])", text)  # nobody whom no warning concerns


def test_the_page_can_be_heard(imaged):
    seen = Seen(render(readiness(imaged, None, None)))
    assert dict(seen.all("html"))["html"]["lang"] == "en"
    assert len(seen.all("title")) == 1
    levels = [int(tag[1]) for tag, _ in seen.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attributes.get("alt") for _, attributes in seen.all("img"))
    assert all(attributes.get("aria-label") for _, attributes in seen.all("svg"))
    assert all(attributes.get("scope") in {"row", "col"} for _, attributes in seen.all("th"))


def test_only_its_owner_may_read_the_page(imaged):
    path = write_page(readiness(imaged, None, None), imaged.state_dir)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [other.name for other in path.parent.glob(".draft-*")] == []


def test_a_site_whose_tables_cannot_be_read_has_a_page_too(hospital):
    hospital.write([["PatientID"], ["a"]])
    text = Seen(render(readiness(hospital.site(), None, None))).text
    assert "Not ready" in text
    assert "a column is missing" in text


def test_a_study_of_tiles_has_a_page_where_the_site_has_none_and_no_outcome_is_known(hospital, config, rows):
    hospital.write(rows(12))
    tiles = Volume(shape=(3, 8, 32, 32), spacing_mm=(1.0, 1.0, 1.0), tiles=True)
    task = Task({"tiles": tiles}, {"pam50": Binary()}, build_model=None)
    result = readiness(hospital.site(), config, task)
    assert "modality tiles is not in the site's YAML" in Seen(render(result)).text


def test_pictures_are_of_those_who_have_the_modality(imaged, config):
    kind = Volume((2, 16, 16, 16), (1.0, 1.0, 2.0), tumour=True)
    task = Task({"mri": kind}, mapped_targets(imaged), build_model=None)
    for settings, asked in ((config, task), (None, None)):
        shown = pictures(readiness(imaged, settings, asked))["mri"]
        assert len(shown) == 4
        assert all([one.plane for one in patient.planes] == ["axial", "coronal", "sagittal"] for patient in shown)
        assert all(one.outlined for patient in shown for one in patient.planes)


def mapped_targets(site):
    return readiness(site, None, None).task.targets


def test_planes_have_the_bodys_proportions_and_the_outline_its_size():
    array = np.zeros((2, 20, 30, 40), dtype=np.float32)
    array[0] = np.random.default_rng(0).uniform(50, 100, array.shape[1:])
    grid = np.indices(array.shape[1:]).T * (2.0, 1.0, 1.0)
    array[1] = (8.0 - np.linalg.norm(grid - (20.0, 15.0, 20.0), axis=-1)).T
    axial, coronal, sagittal = planes(array, Volume(array.shape, (2.0, 1.0, 1.0), tumour=True))
    assert (axial.width, axial.height) == (240, 180)
    assert coronal.width == coronal.height == 240  # 40 mm by 20 slices of 2 mm
    assert (sagittal.width, sagittal.height) == (180, 240)
    red = outline(pixels(axial))
    assert np.ptp(red[1]) == pytest.approx(16 * 240 / 40, abs=6)  # a ball of 16 mm at 6 pixels a mm


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.source.partition(",")[2]))))


def outline(shown):
    return np.nonzero((shown[..., 0] > 220) & (shown[..., 1] < 110) & (shown[..., 2] < 60))


def test_a_histogram_marks_what_lies_outside():
    counts = FeatureCounts("clinical", "age_years", True, 1, 1)
    values = np.array([40.0, 50.0, 55.0, 60.0, 900.0, np.nan])
    shown = show(Feature("age_years"), counts, values, (15, 110))
    assert (shown.known, shown.outside, shown.expected) == (5, 1, "15 to 110")
    assert [bar.outside for bar in shown.bars] == [False, True]
    assert show(Feature("age_years"), counts, values, None).expected == "15 to 110 (plausible)"
    assert show(Feature("other"), counts, values, None).expected == ""
    (one,) = show(Feature("age_years"), counts, np.array([50.0, 50.0]), (15, 110)).bars
    assert not one.outside
    assert show(Feature("age_years"), counts, np.array([np.nan]), None).bars == ()


def test_a_browser_shows_the_pictures_says_no_error_and_asks_nobody(imaged, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed: the page was not looked at in a browser")
    path, shot = write_page(readiness(imaged, None, None), tmp_path), tmp_path / "shot.png"
    log = tmp_path / "net.json"
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    switches += " --disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr --v=0"
    done = subprocess.run(
        [
            chromium,
            *switches.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--log-net-log={log}",
            f"--screenshot={shot}",
            "--window-size=1200,3200",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    shown = np.asarray(Image.open(shot).convert("RGB"))
    assert shown.shape == (3200, 1200, 3)
    assert len(outline(shown)[0]) > 500  # four patients' masks in three planes
    assert path.name in log.read_text()
    asked = set(re.findall(r'"url":"(https?://[^"]*)', log.read_text()))
    assert not {url for url in asked if "google" not in url}  # the browser's own
