"""Tables and settings that are made to mislead: one message, and nothing of it public."""

from __future__ import annotations

import os
import re
import time
import zipfile
from pathlib import Path

import pytest

from client.cohort.load import load_cohort
from client.config.site import load_site
from client.errors import SiteError


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(80 * 2**20))


def laughs(path):
    import openpyxl

    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    openpyxl.Workbook().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
    sheet = members["xl/worksheets/sheet1.xml"]
    head, body = sheet.split("<worksheet", 1) if sheet.startswith("<?xml") else ("", sheet.removeprefix("<worksheet"))
    cell = '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>&a11;</t></is></c></row></sheetData>'
    body = re.sub(r"<sheetData\s*/>|<sheetData>.*</sheetData>", cell, body)
    members["xl/worksheets/sheet1.xml"] = f"{head}<!DOCTYPE x [{entities}]><worksheet{body}"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.xlsx", bomb),
        ("a.xlsx", laughs),
        ("a.xlsx", os.mkfifo),
        ("a.csv", os.mkfifo),
        ("a.csv", Path.mkdir),
        ("a.csv", lambda path: path.symlink_to("/etc/passwd")),
        ("a.csv", lambda path: path.symlink_to(path)),
        ("a.csv", lambda path: path.write_bytes("PatientID,Age\nsecret-001,Jos\u00e9".encode("cp1252"))),
        ("a.csv", lambda path: path.write_bytes(b"PatientID;Age\nsecret-001;1,5\n")),
        ("a.csv", lambda path: path.write_bytes(b"PatientID,Age,Grade,ER,Event,Days\nsecret-001,1e300,G1,no,no,1\n")),
        ("a.parquet", lambda path: path.write_bytes(b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1")),
    ],
)
def test_a_table_that_cannot_be_read_is_one_message(hospital, task, config, name, make):
    hospital.settings["tables"]["clinical"]["file"] = name
    make(hospital.data / name)
    started = time.process_time()
    with pytest.raises(SiteError) as caught:
        load_cohort(hospital.site(), task, config)
    assert time.process_time() - started < 10
    for secret in ("secret", name, "1e300", str(hospital.folder), "passwd"):
        assert secret not in caught.value.public


@pytest.mark.parametrize(
    "text",
    [
        "site: " + "[" * 10_000,
        "site: 1" + "0" * 5000,
        'data_root: "a\\0b"',
        "data_root: ~nobody-here/x",
        "data_root: " + "x" * 5000,
        "state_dir: clinical.csv/x",
        "x: &a [&b [&c [&d [&e [&f [&g [1,1,1,1,1,1,1,1,1],*g,*g,*g,*g,*g,*g,*g,*g],*f,*f,*f,*f,*f,*f,*f,*f],*e,*e,*e,"
        "*e,*e,*e,*e],*d,*d,*d,*d,*d,*d,*d],*c,*c,*c,*c,*c,*c,*c],*b,*b,*b,*b,*b,*b,*b]\nsite: *a",
        "site: &a [*a]",
        "workers: .inf",
        "modalities: {mri: {reader: dicom, folder: '/etc/{patient}'}}",
        "tables: !!python/object/apply:os.system ['true']",
    ],
)
def test_settings_that_no_site_can_have_are_one_message(hospital, task, config, text):
    hospital.site()
    path = hospital.folder / "oak.yaml"
    key = text.partition(":")[0]
    content = re.sub(rf"(?m)^{key}:.*\n(?:[ -].*\n)*", "", path.read_text())
    (hospital.folder / "clinical.csv").write_text("")
    path.write_text(content + text)
    with pytest.raises(SiteError) as caught:
        load_cohort(load_site(path), task, config)
    assert len(str(caught.value)) < 20_000
