"""Predictions as DICOM structured reports: one for each patient whose exam is DICOM, in the exam's own study.

A report refers to the images that the network read, takes the patient from their headers, and is a measurement report
(TID 1500) with a measurement for each number. It says "research only", is preliminary and is not verified.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.config.site import SiteConfig
from client.contract.paths import Instance
from client.errors import ExitCode, SiteError
from client.imaging.dicom.exam_folder import DicomFiles
from client.private_files import write_private
from client.readers.dicom import DicomReader
from shared_models.trained_model import RESEARCH_ONLY, TrainedModel

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR
    from pydicom import Dataset

SCHEME = "99BREASTFED"
"""Of codes that no published scheme has: they are this program's own."""
_COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


def require_dicom(site: SiteConfig) -> None:
    """Refuses a site none of whose exams are read from DICOM, before anything is scored.

    Raises:
        SiteError: If it is one.
    """
    if not any(isinstance(files, DicomFiles) for _, files in _exams(site)):
        raise SiteError(
            what="there are no DICOM exams to report in",
            where=f"site {site.site}, modalities",
            found="no patient's exam that `reader: dicom` reads",
            expected="a structured report belongs to the DICOM study of an exam",
            fix="leave --dicom-sr out, or map the exams with `reader: dicom`",
            exit_code=ExitCode.USAGE,
        )


def write_reports(site: SiteConfig, model: TrainedModel, columns: Mapping[str, Sequence[str]], folder: Path) -> int:
    """Writes `ROW.dcm` for each patient with a prediction and a DICOM exam; ROW is that of the CSV, from 1.

    Args:
        site: Where the exams are.
        model: The network.
        columns: Of the CSV, each with P texts.
        folder: Where to.

    Returns:
        How many were written.

    Raises:
        SiteError: If an exam's files cannot be read, or a report cannot be written.
    """
    exams: dict[str, DicomFiles] = {}
    for key, files in _exams(site):
        if isinstance(files, DicomFiles):
            exams.setdefault(key.patient, files)
    written = 0
    for row, patient in enumerate(columns["patient"]):
        prediction = {name: texts[row] for name, texts in columns.items() if name not in ("patient", "use")}
        if patient in exams and any(text for name, text in prediction.items() if name != "warnings"):
            report = make_report(_headers(exams[patient].images_in_use()), model, prediction)
            write_private(folder / f"{row + 1}.dcm", _file_of(report))
            written += 1
    return written


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

    content = _measurement_report(model, prediction)
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
        manufacturer="breast-federation",
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


def _measurement_report(model: TrainedModel, prediction: Mapping[str, str]) -> Any:
    """TID 1500: who measured, and a group with the numbers and the words."""
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        FindingSite,
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

    device = DeviceObserverIdentifyingAttributes(uid=generate_uid(), name="breast-federation")
    given = {name: text for name, text in prediction.items() if text and name != "warnings"}
    numbers = {name: float(text) for name, text in given.items() if _is_number(text)}
    words = {name: text for name, text in given.items() if name not in numbers}
    group = MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(uid=generate_uid(), identifier="prediction"),
        algorithm_id=AlgorithmIdentification(model.config.study, f"round {model.round}, SHA-256 {model.sha256[:16]}"),
        finding_type=CodedConcept("225338004", "SCT", "Risk assessment"),
        finding_sites=[FindingSite(CodedConcept("76752008", "SCT", "Breast structure"))],
        measurements=[Measurement(_code(name), value, codes.UCUM.NoUnits) for name, value in numbers.items()],
        qualitative_evaluations=[QualitativeEvaluation(_code(name), _code(text)) for name, text in words.items()],
    )
    return MeasurementReport(
        ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device)),
        procedure_reported=CodedConcept("241615005", "SCT", "MRI of breast"),
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


def _exams(site: SiteConfig) -> Iterator[tuple[Instance, object]]:
    """The exams of readers of DICOM, by patient or lesion."""
    for reader in site.modalities.values():
        if isinstance(reader, DicomReader):
            yield from reader.exams(site).items()


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
