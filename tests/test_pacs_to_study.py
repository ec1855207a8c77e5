"""docs/pacs_to_study.md, unchanged: from a DICOMweb server to a finished study at a real SuperLink."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import make_server

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from server.operations.proxy import find_nginx
from shared_models.installation import child_environment
from simulation.engines.rehearsal import free_ports
from tests.client.conftest import write_slice
from tests.client.connection.test_reachability import signed
from tests.client.verbs.test_fetch import TOKEN, Quiet, Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light"),
]
PAGE = Path(__file__).parents[1] / "docs" / "pacs_to_study.md"
PATIENTS, SECONDS, SLICES = 30, (0, 90, 180, 270), 6
LEFT_RUNNING = "# leave it running"
WITHIN_S = 240


def exams(folder: Path) -> list[pydicom.Dataset]:
    """Four phases of each patient's breast, whose tumour takes up contrast, and a localizer of two images."""
    images = []
    for patient in range(PATIENTS):
        draw, study, dynamic = np.random.default_rng(patient), generate_uid(), generate_uid()
        z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (SLICES, 24, 24)), indexing="ij")
        inside = x**2 + y**2 < 0.9
        tumour = (x - 0.3) ** 2 + y**2 + z**2 < 0.15
        before = inside * draw.normal(200, 15, x.shape) + draw.uniform(2, 10, x.shape)
        for phase, second in enumerate(SECONDS):
            uptake = np.where(tumour, 2.0 if phase else 1.0, 1.1 if phase else 1.0)
            for place, image in enumerate(np.abs(before * uptake + draw.normal(0, 2, x.shape))):
                tags = {"SeriesDescription": "t1 dyn", "SeriesInstanceUID": dynamic, "StudyDate": "20200102"}
                tags |= {
                    "TemporalPositionIdentifier": phase + 1,
                    "AcquisitionTime": f"10{second // 60:02d}{second % 60:02d}",
                }
                images.append(_slice(folder, image, patient, study, (0.0, 0.0, 12.0 * place), tags))
        localizer = {"SeriesDescription": "localizer", "SeriesInstanceUID": generate_uid()}
        images += [_slice(folder, before[0], patient, study, (0.0, 0.0, 12.0 * place), localizer) for place in range(2)]
    return images


def _slice(folder: Path, image: np.ndarray, patient: int, study: str, place: tuple, tags: dict) -> pydicom.Dataset:
    path = folder / "one.dcm"
    uids = {"SOPInstanceUID": generate_uid(), "StudyInstanceUID": study, "PatientID": f"OAK{patient:03d}"}
    write_slice(path, image, place, **{"PixelSpacing": [6.0, 6.0], "Modality": "MR", **uids, **tags})
    made = pydicom.dcmread(path)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.PixelData  # noqa: B018 - read before the file is written again
    return made


def table() -> str:
    draw, lines = (
        np.random.default_rng(0),
        ["PatientID,Age,Tumor size (mm),ER,Relapse,Days to relapse,Days to last contact"],
    )
    for patient in range(PATIENTS):
        relapsed, last = patient % 3 == 0, int(draw.integers(2000, 4000))
        day = int(draw.integers(200, 1800)) if relapsed else ""
        er, event = draw.choice(["negative", "positive"]), "yes" if relapsed else "no"
        lines.append(f"OAK{patient:03d},{draw.integers(35, 80)},{draw.integers(8, 45)},{er},{event},{day},{last}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[int]:
    """The port of a DICOMweb server; its certificate is in `tmp_path`."""
    server = Server(exams(tmp_path))
    server.page = 500
    certificate, key = signed(tmp_path, "localhost")
    with make_server("127.0.0.1", 0, server, handler_class=Quiet) as http:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


def steps(page: str) -> list[tuple[str, str]]:
    """`(place, text)` of each block that the page marks, in its order."""
    return re.findall(r"<!-- (?:at )?the (\w+) -->\n```\w+\n(.*?)```", page, re.DOTALL)


class Shell:
    """Runs a page's commands at their places, and those that are left running until the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, list[subprocess.Popen[bytes]]()
        self.environment = {**os.environ, **child_environment(), "OMP_NUM_THREADS": "1"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(self, place: str, text: str) -> str:
        output = ""
        for part in re.split(rf"^(.*{LEFT_RUNNING})$", text, flags=re.MULTILINE):
            if LEFT_RUNNING in part:
                with (self.folder / f"{place}.log").open("wb") as log:
                    where = {"cwd": self.folder / place, "env": self.environment, "stdout": log, "stderr": log}
                    self.running.append(subprocess.Popen(["bash", "-c", f"exec {part}"], **where))
            elif part.strip():
                done = subprocess.run(
                    ["bash", "-e", "-c", part],
                    **{"cwd": self.folder / place, "env": self.environment, "timeout": 2 * WITHIN_S},
                    **{"capture_output": True, "text": True, "check": False},
                )
                assert done.returncode == 0, f"{part}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
                output += done.stdout
        return output

    def wait(self, log: str, text: str) -> None:
        path, deadline = self.folder / log, time.monotonic() + WITHIN_S
        while text not in path.read_text(errors="replace"):
            assert time.monotonic() < deadline, path.read_text(errors="replace")[-3000:]
            time.sleep(0.5)

    def stop(self) -> None:
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            process.wait(60)


def test_the_page_leads_from_a_pacs_to_a_finished_study(pacs: int, tmp_path: Path) -> None:
    port, proxy_port = free_ports(2)
    page = PAGE.read_text(encoding="utf-8").replace("pacs.example.org/dicom-web", f"localhost:{pacs}/web")
    page = page.replace("--address center.example.org:8443", f"--address 127.0.0.1:{proxy_port} --port {port}")
    page = page.replace("center.example.org:8443", f"127.0.0.1:{proxy_port}")
    hospital, center, shell = tmp_path / "hospital", tmp_path / "center", Shell(tmp_path)
    for folder in (hospital / "data", hospital / "site_configs", center):
        folder.mkdir(parents=True)
    (hospital / "data" / "clinical.csv").write_text(table())
    shutil.copy(tmp_path / "ca.crt", hospital / "site_configs" / "pacs.crt")
    token = hospital / "site_configs" / "pacs.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    output = ""
    try:
        for place, text in steps(page):
            if place == "study":
                for folder in (hospital, center):
                    (folder / "first.toml").write_text(text)
                continue
            output += shell.run(place, text)
            if "start.sh" in text:
                wait_for_certificate(center / "center" / "ca.crt", hospital / "site_configs" / "ca.crt")
            if "ssh-keygen" in text:
                shutil.copy(hospital / "site_configs" / "oak.key.pub", center)
            if "approve" in text:
                shell.wait("hospital.log", "joined the center")
    finally:
        shell.stop()
    assert f"{PATIENTS} of {PATIENTS} patients have images there" in " ".join(output.split())
    results = json.loads((center / "center" / "results" / "first" / "results.json").read_text())
    assert results["rounds_completed"] == 2
    assert [site["site"] for site in results["sites"]] == ["oak"]
    assert (hospital / "state" / "oak" / "studies" / "first" / "result.html").is_file()


def wait_for_certificate(source: Path, target: Path) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not source.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    shutil.copy(source, target)
