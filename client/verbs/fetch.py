"""Copies of patients' images from the hospital's DICOMweb server into the site's own folder."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.cohort.rows import open_rows
from client.connection.pacs import Pacs, WebImage, open_pacs
from client.contract.paths import inside_data_root
from client.errors import ExitCode, SiteError
from client.private_files import write_private
from client.progress import progress
from client.tables.read import read_table
from client.tables.source import extracted
from shared_models.task import Task

if TYPE_CHECKING:
    from rich.console import Console

    from client.config.site import SiteConfig

FILE = "fetched.csv"
_HEAD = ("patient", "studies", "series", "images", "new", "problem")


@dataclass
class Copied:
    """What the server has of a patient, and what of it is new here."""

    patient: str
    images: tuple[WebImage, ...] = ()
    new: int = 0
    problem: str = ""

    @property
    def line(self) -> tuple[object, ...]:
        """A line of the site's list."""
        studies, series = ({getattr(one, part) for one in self.images} for part in ("study", "series"))
        return self.patient, len(studies), len(series), len(self.images), self.new, self.problem


def fetch(site: SiteConfig, console: Console) -> None:
    """Copies what is not there yet, and prints how much that was; the site's list names the patients.

    An image that is there is not asked for again, so that an interrupted copy continues.

    Raises:
        SiteError: If the server cannot be reached or refuses, or some images could not be copied.
    """
    if site.dicomweb is None:
        raise SiteError(
            what="the site has no DICOMweb server",
            where="dicomweb",
            found="no section `dicomweb` in the site's YAML",
            fix="add one with its `url`: docs/hospital.md, Images from a PACS",
            exit_code=ExitCode.SITE_CONFIG,
        )
    patients = _patients(site)
    pacs = open_pacs(site.dicomweb)
    copied: list[Copied] = []
    try:
        for patient, known_as in progress(patients.items(), "copying images", len(patients)):
            copied.append(Copied(patient))
            _copy(site, pacs, known_as, copied[-1])
    finally:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([_HEAD, *(one.line for one in copied)])
        write_private(site.state_dir / FILE, text.getvalue())
        _say(site, console, len(patients), copied)
    if failed := [one for one in copied if one.problem]:
        raise SiteError(
            what="some images could not be copied",
            where=site.dicomweb.url,
            found=f"{len(failed)} of {len(patients)} patients, listed with the reason in {site.state_dir / FILE}",
            fix="run it again: what is there is not copied again",
        )


def _patients(site: SiteConfig) -> dict[str, str]:
    """The cohort's patients, each with the identifier that the server knows."""
    cohort = open_rows(site, Task({}, {}, build_model=None)).patients  # type: ignore[arg-type]
    column = site.dicomweb.patient_id if site.dicomweb else None
    if column is None:
        return {patient: patient for patient in cohort}
    table = read_table(site, column.table or site.patients_table, [column.column])
    places = table.positions()
    texts = table.cells[column.column]
    return {one: extracted(texts[places[one]], column.extract) if one in places else "" for one in cohort}


def _copy(site: SiteConfig, pacs: Pacs, known_as: str, copied: Copied) -> None:
    if not known_as:
        copied.problem = "no identifier for the server"
        return
    if Path(copied.patient).name != copied.patient or copied.patient in {".", ".."}:
        copied.problem = "an identifier that cannot name a folder"
        return
    try:
        copied.images = tuple(pacs.images(known_as))
    except SiteError as error:
        _note(error, copied)
    for image in copied.images:
        path = _path(site, pacs.settings.folder, copied.patient, image)
        if path.exists():
            continue
        try:
            content = pacs.retrieve(image, known_as)
        except SiteError as error:
            _note(error, copied)
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, content)
        copied.new += 1


def _note(error: SiteError, copied: Copied) -> None:
    """Remembers what is wrong with one patient or image; what would stop all the others, too, is raised again."""
    if error.exit_code != ExitCode.DATA:
        raise error
    copied.problem = error.found


def _path(site: SiteConfig, folder: str, patient: str, image: WebImage) -> Path:
    """Where an image goes; what the server says leads nowhere else."""
    parts = [part.replace("/", "_") for part in (image.modality, image.series, f"{image.image}.dcm")]
    return inside_data_root(site, Path(folder, patient, *parts), "dicomweb.folder")


def _say(site: SiteConfig, console: Console, patients: int, copied: list[Copied]) -> None:
    having = [one for one in copied if one.images]
    new, there = sum(one.new for one in copied), sum(len(one.images) for one in copied)
    folder = site.dicomweb.folder if site.dicomweb else ""
    for line in (
        f"{len(having)} of {patients} patients have images there: {there} images, of which {new} are new here",
        f"by patient: {site.state_dir / FILE}, which stays at the site",
        f'read them with  reader: dicom, folder: "{folder}/{{patient}}"  and run  python -m client check',
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
