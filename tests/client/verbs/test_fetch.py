"""Images from a DICOMweb server into the site's folder."""

import csv
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from io import BytesIO
from wsgiref.simple_server import WSGIRequestHandler, make_server

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.uid import generate_uid

from client.__main__ import main
from client.errors import ExitCode
from tests.client.connection.test_reachability import signed

TOKEN = "a-t0ken"


class Server:
    """A DICOMweb server over real DICOM files: QIDO-RS with filters and pages, WADO-RS of instances (PS3.18)."""

    def __init__(self, images):
        self.images, self.asked, self.status, self.page = images, [], {}, 3

    def __call__(self, environ, start):
        path, query = environ["PATH_INFO"], dict(part.split("=") for part in environ["QUERY_STRING"].split("&") if part)
        self.asked.append((path, query))
        uids = re.fullmatch(r"/web/studies(?:/([\d.]+))?(?:/series(?:/([\d.]+))?)?(?:/instances(?:/([\d.]+))?)?", path)
        if environ.get("HTTP_AUTHORIZATION") != f"Bearer {TOKEN}" or uids is None:
            return self.answer(start, "401 Unauthorized" if uids else "404 Not Found")
        study, series, image = uids.groups()
        fitting = [
            one
            for one in self.images
            if study in (None, one.StudyInstanceUID) and series in (None, one.SeriesInstanceUID)
            if query.get("PatientID") in (None, one.PatientID) and query.get("Modality") in (None, one.Modality)
        ]
        if image:
            if status := self.status.get(image):
                return self.answer(start, status)
            return self.send(start, next(one for one in fitting if one.SOPInstanceUID == image))
        kind = path.rpartition("/")[2]
        key = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}[kind]
        tags = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription")
        datasets = list({one[key].value: {tag: one[tag] for tag in tags} for one in fitting}.values())
        start_at = int(query.get("offset", 0))
        page = datasets[start_at : start_at + min(self.page, int(query.get("limit", 99)))]
        body = json.dumps([{f"{e.tag:08X}": {"vr": e.VR, "Value": [e.value]} for e in one.values()} for one in page])
        return self.answer(start, "200 OK", "application/dicom+json", body.encode())

    def send(self, start, image):
        file = BytesIO()
        image.save_as(file, enforce_file_format=True)
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + file.getvalue() + b"\r\n--B--"
        return self.answer(start, "200 OK", 'multipart/related; type="application/dicom"; boundary=B', body)

    @staticmethod
    def answer(start, status, kind="text/plain", body=b""):
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def images(tmp_path, slice_file):
    """Two patients' exams of 4 slices, one slice of a localizer, and one of a patient whom the site does not have."""
    made, path = [], tmp_path / "made.dcm"
    for patient, series, count in (("P1", "dyn", 4), ("P1", "localizer", 1), ("P2", "dyn", 4), ("X9", "dyn", 1)):
        uid, study = generate_uid(), generate_uid(entropy_srcs=[patient])
        for place in range(count):
            uids = {"SOPInstanceUID": generate_uid(), "StudyInstanceUID": study, "SeriesInstanceUID": uid}
            tags = {"PatientID": patient, "SeriesDescription": series, "Modality": "MR"}
            slice_file(path, np.full((8, 10), place), (0, 0, 3 * place), **uids, **tags)
            image = pydicom.dcmread(path)
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            made.append(image)
    path.unlink()
    return made


@pytest.fixture
def server(images, tmp_path):
    certificate, key = signed(tmp_path, "localhost")
    with make_server("127.0.0.1", 0, Server(images), handler_class=Quiet) as http:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield http
        http.shutdown()
        thread.join()


@pytest.fixture
def site(server, tmp_path):
    """Writes the site's YAML with a `dicomweb` section."""

    def write(**keys):
        (tmp_path / "clinical.csv").write_text("ID,Relapse,Pacs\nP1,0,P1\nP2,1,P2\nP3,0,P3\n")
        token = tmp_path / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        web = {"url": f"https://localhost:{server.server_port}/web", "ca_certificate": "ca.crt", "token_file": "token"}
        settings = {
            **{"site": "s", "data_root": "data", "state_dir": "state", "workers": 1},
            "dicomweb": {**web, "series": "^dyn", "requests_per_s": 100, **keys},
            "tables": {"clinical": {"file": "clinical.csv", "patient_id": "ID"}},
            "modalities": {"mri": {"reader": "dicom", "folder": "dicom/{patient}"}},
            "targets": {"relapse": {"label": {"column": "Relapse", "codes": {0: 0, 1: 1}}}},
        }
        (tmp_path / "data").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "clinical.csv", tmp_path / "data")
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings))
        return str(tmp_path / "s.yaml")

    return write


def files(folder):
    return sorted((folder / "data/dicom").rglob("*.dcm"))


def test_a_patients_images_are_copied_once_and_as_they_are(server, site, images, tmp_path, capsys):
    assert main(["fetch", "--site", site()]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "2 of 3 patients have images there: 8 images, of which 8 are new here" in output
    wanted = {one.SOPInstanceUID: one for one in images if one.SeriesDescription == "dyn" and one.PatientID != "X9"}
    copied = {path.stem: pydicom.dcmread(path) for path in files(tmp_path)}
    assert copied == wanted
    assert {path.relative_to(tmp_path / "data/dicom").parts[:2] for path in files(tmp_path)} == {
        ("P1", "MR"), ("P2", "MR"),
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(tmp_path))
    server.get_app().asked.clear()
    assert main(["fetch", "--site", site()]) == 0
    assert "8 images, of which 0 are new here" in " ".join(capsys.readouterr().out.split())
    assert not any(re.search(r"/instances/", path) for path, _ in server.get_app().asked)


def test_a_copy_continues_and_an_image_that_fails_costs_no_other(server, site, images, tmp_path, capsys):
    lost = images[2].SOPInstanceUID
    server.get_app().status[lost] = "404 Not Found"
    assert main(["fetch", "--site", site()]) == ExitCode.DATA
    error = capsys.readouterr().err
    assert "1 of 3 patients, listed with the reason in" in error
    assert "P1" not in error
    assert len(files(tmp_path)) == 7
    with (tmp_path / "state/s/fetched.csv").open() as file:
        rows = {row["patient"]: row for row in csv.DictReader(file)}
    assert (rows["P1"]["images"], rows["P1"]["new"], rows["P1"]["problem"]) == ("4", "3", "status 404")
    server.get_app().status.clear()
    assert main(["fetch", "--site", site()]) == 0
    assert len(files(tmp_path)) == 8


def test_another_patients_image_is_never_written(server, site, images, tmp_path, monkeypatch):
    images[1].PatientID = "P2"  # the server's index says P1's study holds it
    server.get_app().page = 99
    original = Server.send
    monkeypatch.setattr(Server, "send", lambda self, start, image: original(self, start, images[6]))
    assert main(["fetch", "--site", site()]) == ExitCode.DATA
    assert {path.stem for path in files(tmp_path)} <= {images[6].SOPInstanceUID}


@pytest.mark.parametrize(
    ("keys", "code", "message"),
    [
        ({"token_file": "other"}, ExitCode.SITE_CONFIG, "no file"),
        ({"ca_certificate": None}, ExitCode.SERVER_UNREACHABLE, "CERTIFICATE_VERIFY_FAILED"),
        ({"url": "http://pacs.example.org/dicom-web"}, ExitCode.SITE_CONFIG, "expected https://"),
        ({"url": "https://oak:s3cret@pacs.example.org"}, ExitCode.SITE_CONFIG, "leave users, passwords and tokens out"),
        ({"token_file": None}, ExitCode.SERVER_UNREACHABLE, "status 401"),
        ({"folder": "../elsewhere"}, ExitCode.SITE_CONFIG, "expected a folder below data_root"),
        ({"user": "oak"}, ExitCode.SITE_CONFIG, "`user` with `password_file`"),
    ],
)
def test_what_stands_in_the_way_is_said_without_a_secret_or_a_patient(keys, code, message, site, capsys):
    assert main(["fetch", "--site", site(**keys)]) == code
    error = capsys.readouterr().err
    assert message in error
    for hidden in (TOKEN, "P1", "PatientID"):
        assert hidden not in error
    assert "s3cret" not in error


def test_the_server_is_asked_no_more_often_than_the_site_allows(server, site):
    begin = time.monotonic()
    assert main(["fetch", "--site", site(requests_per_s=50)]) == 0
    assert time.monotonic() - begin > (len(server.get_app().asked) - 1) / 50


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("Orthanc") is None, reason="Orthanc is not installed: apt install orthanc-dicomweb")
def test_orthanc_gives_what_was_stored(images, site, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        **{"HttpPort": port, "DicomServerEnabled": False, "AuthenticationEnabled": True},
        **{"RegisteredUsers": {"oak": TOKEN}, "StorageDirectory": str(tmp_path / "db")},
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with subprocess.Popen(["Orthanc", str(tmp_path / "orthanc.json")], stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            store(url, images)
            yaml_file = site(url=f"{url}/dicom-web", user="oak", password_file="token", token_file=None)
            assert main(["fetch", "--site", yaml_file]) == 0
        finally:
            process.terminate()
    wanted = {one.SOPInstanceUID: one for one in images if one.SeriesDescription == "dyn" and one.PatientID != "X9"}
    copied = {path.stem: pydicom.dcmread(path) for path in files(tmp_path)}
    assert copied.keys() == wanted.keys()
    for uid, image in copied.items():
        np.testing.assert_array_equal(image.pixel_array, wanted[uid].pixel_array)


def store(url, images):
    manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    manager.add_password(None, url, "oak", TOKEN)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    for _ in range(100):
        try:
            opener.open(f"{url}/system", timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    for image in images:
        file = BytesIO()
        image.save_as(file, enforce_file_format=True)
        opener.open(urllib.request.Request(f"{url}/instances", file.getvalue()), timeout=5).close()
