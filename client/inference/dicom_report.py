"""Predictions as DICOM structured reports: one for each patient with MRI or mammograms in DICOM, in their study.

A report refers to the images that the network read, takes the patient from their headers, and is a measurement report
(TID 1500) with a measurement for each number. It says "research only", is preliminary and is not verified.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from client.imaging.dicom.exam_folder import DicomFiles
from client.imaging.mammography.exam_files import MammogramFiles
from client.imaging.mammography.view_headers import is_dicom
from client.private_files import write_private, writing
from client.readers.dicom import DicomReader
from client.readers.extracted import ExtractedReader
from client.readers.mammogram import MammogramReader
from shared_models.trained_model import RESEARCH_ONLY, TrainedModel

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR
    from pydicom import Dataset

MANUFACTURER = "breast-federation"
PROCEDURES = {"MR": ("113091000", "Magnetic resonance imaging"), "MG": ("71651007", "Mammography")}
IMAGING = ("363679005", "Imaging")
"""SNOMED CT's code and name of the procedure by the images' modality, and of any other."""
Exam = DicomFiles | MammogramFiles
SCHEME = "99BREASTFED"
"""Of codes that no published scheme has: they are this program's own."""
_COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


def require_dicom(site: SiteConfig, model: TrainedModel, folder: Path) -> None:
    """Refuses a site of which the network reads no DICOM, and a folder of other DICOM files, before anything is scored.

    Raises:
        SiteError: If it is one.
    """
    if not _exams(site, model):
        raise SiteError(
            what="there are no DICOM exams to report in",
            where=f"site {site.site}, modalities",
            found="no patient's MRI or mammogram in DICOM that this network reads",
            expected="a structured report belongs to an exam's DICOM study; tiles of slides are pictures without one",
            fix="leave --dicom-sr out, or map DICOM files with `reader: dicom` or `reader: mammogram`",
            exit_code=ExitCode.USAGE,
        )
    if others := [file.name for file in _dicom_in(folder) if not _is_report(file)]:
        raise SiteError(
            what="the structured reports cannot be written there",
            where=f"--dicom-sr {folder}",
            found=f"{len(others)} DICOM files that are no reports of this program, as {others[0]}",
            expected="a new folder, or one of earlier reports",
            fix="choose another folder: --overwrite replaces earlier reports only",
            exit_code=ExitCode.USAGE,
        )


def write_reports(
    site: SiteConfig, model: TrainedModel, columns: Mapping[str, Sequence[str]], folder: Path
) -> tuple[int, list[str]]:
    """Writes `ROW.dcm` for each patient with a prediction and a DICOM exam, and deletes earlier reports.

    Args:
        site: Where the exams are.
        model: The network.
        columns: Of the CSV, each with P texts; ROW is that of the CSV, from 1.
        folder: Where to.

    Returns:
        How many were written, and a sentence on each patient whose exam's headers make no report.

    Raises:
        SiteError: If the site's exams cannot be listed, or a report cannot be written.
    """
    exams, earlier = _exams(site, model), _dicom_in(folder)
    written: set[Path] = set()
    problems = []
    for row, patient in enumerate(columns["patient"]):
        prediction = {name: texts[row] for name, texts in columns.items() if name not in ("patient", "use")}
        if patient not in exams or not any(text for name, text in prediction.items() if name != "warnings"):
            continue
        file = folder / f"{row + 1}.dcm"
        try:
            images = [image for files in exams[patient] for image in _images_of(files)]
            content = _file_of(make_report(_headers(list(dict.fromkeys(images))), model, prediction))
        except (SiteError, AttributeError, KeyError, TypeError, ValueError) as error:  # the last four: odd headers
            reason = error.what if isinstance(error, SiteError) else f"odd headers, {type(error).__name__}"
            problems.append(f"row {row + 1} has no DICOM structured report: {reason}")
            continue
        write_private(file, content)
        written.add(file)
    with writing(folder):
        for file in {*earlier} - written:
            file.unlink()
    return len(written), problems


def make_report(images: Sequence[Dataset], model: TrainedModel, prediction: Mapping[str, str]) -> ComprehensiveSR:
    """The structured report of one patient's prediction.

    Args:
        images: Headers of the images that the network read, of one study.
        model: The network.
        prediction: The patient's row of the CSV by column: numbers, words, and `warnings`.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import ComprehensiveSR, TextContentItem
    from highdicom.sr.enum import RelationshipTypeValues
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    content = _measurement_report(model, prediction, PROCEDURES.get(str(images[0].get("Modality")), IMAGING))
    remarks = [RESEARCH_ONLY, *filter(None, [prediction.get("warnings", "")])]
    contains = RelationshipTypeValues.CONTAINS
    for text in remarks:
        content[0].ContentSequence.append(TextContentItem(codes.DCM.Comment, text, relationship_type=contains))
    return ComprehensiveSR(
        evidence=images,
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=9001,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=model.task.name,
        software_versions=model.package_version,
        device_serial_number=model.sha256[:16],
        content_qualification="RESEARCH",
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name="breast-federation, private")],
        series_description=f"RESEARCH ONLY: prediction of {model.config.study}"[:64],
        is_complete=True,
        is_final=False,
        is_verified=False,
    )


def _measurement_report(model: TrainedModel, prediction: Mapping[str, str], procedure: tuple[str, str]) -> Any:
    """TID 1500: who measured, and a group with the numbers and the words."""
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        Measurement,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        QualitativeEvaluation,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    device = DeviceObserverIdentifyingAttributes(uid=generate_uid(), name=MANUFACTURER)
    given = {name: text for name, text in prediction.items() if text and name != "warnings"}
    numbers = {name: float(text) for name, text in given.items() if _is_number(text)}
    words = {name: text for name, text in given.items() if name not in numbers}
    group = MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(uid=generate_uid(), identifier="prediction"),
        algorithm_id=AlgorithmIdentification(model.config.study, f"round {model.round}, SHA-256 {model.sha256[:16]}"),
        finding_type=CodedConcept("225338004", "SCT", "Risk assessment"),
        measurements=[Measurement(_code(name), value, codes.UCUM.NoUnits) for name, value in numbers.items()],
        qualitative_evaluations=[QualitativeEvaluation(_code(name), _code(text)) for name, text in words.items()],
    )
    return MeasurementReport(
        ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device)),
        procedure_reported=CodedConcept(procedure[0], "SCT", procedure[1]),  # of whatever part
        imaging_measurements=[group],
    )


def _code(text: str) -> Any:
    """A code of this program's own: the same for the same words."""
    from highdicom.sr import CodedConcept

    return CodedConcept(hashlib.sha256(text.encode()).hexdigest()[:16], SCHEME, text.replace("_", " ")[:64])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _exams(site: SiteConfig, model: TrainedModel) -> dict[str, list[Exam]]:
    """Each patient's exams in DICOM that the network reads, itself or by features extracted from them."""
    readers = [reader for name, reader in site.modalities.items() if name in model.task.modalities]
    sources = [site.modalities[one.images] if isinstance(one, ExtractedReader) else one for one in readers]
    exams: dict[str, list[Exam]] = {}
    for reader in dict.fromkeys(source for source in sources if isinstance(source, DicomReader | MammogramReader)):
        for key, files in reader.exams(site).items():
            if isinstance(files, DicomFiles) or (isinstance(files, MammogramFiles) and is_dicom(files.image)):
                exams.setdefault(key.patient, []).append(files)
    return exams


def _images_of(files: Exam) -> Sequence[Path]:
    return files.images_in_use() if isinstance(files, DicomFiles) else [files.image]


def _dicom_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def _is_report(file: Path) -> bool:
    """Whether this program wrote a DICOM file."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return bool(dcmread(file, specific_tags=["Manufacturer"]).get("Manufacturer") == MANUFACTURER)
    except (InvalidDicomError, OSError, AttributeError, KeyError, TypeError, ValueError):
        return False


def _headers(files: Sequence[Path]) -> list[Dataset]:
    """Headers without images; what a report copies is there, if only empty."""
    from pydicom import dcmread

    headers = []
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        for keyword in _COPIED:
            if keyword not in header:
                setattr(header, keyword, None)
        headers.append(header)
    return headers


def _file_of(report: ComprehensiveSR) -> bytes:
    written = io.BytesIO()
    report.save_as(written, enforce_file_format=True)
    return written.getvalue()
