"""Settings of a hospital's DICOMweb server, from which `fetch` copies exams."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from client.contract.columns import ColumnOrName
from shared_models.settings import Settings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        msg = "leave users, passwords and tokens out of the URL: set `user` and `password_file`, or `token_file`"
        raise ValueError(msg)
    if not parts.hostname or parts.scheme not in {"http", "https"}:
        msg = f"{url!r}: expected https://HOST/PATH, as https://pacs.example.org/dicom-web"
        raise ValueError(msg)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        msg = f"{url!r}: expected https://, as images and the password would travel in the clear"
        raise ValueError(msg)
    return url.rstrip("/")


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        msg = f"{text!r} is no regular expression: {error}"
        raise ValueError(msg) from None
    return text


def _folder(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or not path.parts:
        msg = f"{text!r}: expected a folder below data_root, as dicom"
        raise ValueError(msg)
    return text


Expression = Annotated[str, AfterValidator(_expression)]


class DicomWeb(Settings):
    """A server that speaks QIDO-RS and WADO-RS (DICOM PS3.18). No web proxy of the environment is used for it."""

    url: Annotated[str, AfterValidator(_url)] = Field(description="https://HOST/PATH below which /studies is")
    ca_certificate: Path | None = Field(
        None, description="certificate of the authority that signed the server's; the system's authorities if left out"
    )
    user: str = Field("", description="with `password_file`")
    password_file: Path | None = Field(None, description="holds the password, and is yours alone")
    token_file: Path | None = Field(None, description="instead: holds a bearer token, and is yours alone")
    folder: Annotated[str, AfterValidator(_folder)] = Field(
        "dicom", description="below data_root: images are written to FOLDER/PATIENT/MODALITY/SERIES/IMAGE.dcm"
    )
    patient_id: ColumnOrName | None = Field(
        None, description="a column of the patients table with the server's PatientID; the identifier if left out"
    )
    modalities: tuple[str, ...] = Field(("MR",), min_length=1, description="of series; with masks [MR, SEG, RTSTRUCT]")
    study: Expression = Field("", description="a regular expression for the study's description; all if left out")
    series: Expression = Field("", description="a regular expression for the series' description; all if left out")
    requests_per_s: float = Field(5.0, gt=0, le=100, description="most requests in a second")
    timeout_s: float = Field(60.0, gt=0, le=600, description="an answer that takes longer is given up")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if bool(self.user) != bool(self.password_file) or (self.user and self.token_file):
            msg = "expected `user` with `password_file`, or `token_file`, or none of them"
            raise ValueError(msg)
        return self
