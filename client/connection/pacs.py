"""Images of a hospital's own DICOMweb server: found by QIDO-RS, retrieved by WADO-RS."""

from __future__ import annotations

import io
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from client.errors import ExitCode, SiteError
from client.private_files import secret_problem

if TYPE_CHECKING:
    from client.config.dicomweb import DicomWeb

STUDY, SERIES, IMAGE = "0020000D", "0020000E", "00080018"
PATIENT, MODALITY, STUDY_DESCRIPTION, SERIES_DESCRIPTION = "00100020", "00080060", "00081030", "0008103E"
PAGE = 500  # results of one question
RETRIES = 3  # of a request, the waits doubling from 1 s on, or as long as the server says
_BUSY = (429, 502, 503, 504)
_OF_ONE = (400, 404, 406, 410, 422)  # of one image, and not of all
_WILDCARDS = frozenset("*?\\")


@dataclass(frozen=True)
class WebImage:
    """An image on the server, by the identifiers of its study, series and itself."""

    modality: str
    study: str
    series: str
    image: str


@dataclass
class Pacs:
    """A DICOMweb server.

    Attributes:
        settings: The site's.
        client: Of dicomweb-client.
    """

    settings: DicomWeb
    client: Any
    _next: float = field(default=0.0, repr=False)

    def images(self, patient: str) -> list[WebImage]:
        """The images of a patient in the series that the settings select.

        Raises:
            SiteError: If the server cannot be asked, or the identifier has signs that stand for any others.
        """
        if not patient or _WILDCARDS & set(patient):
            identifier = "no identifier" if not patient else "an identifier with *, ? or a backslash, which means any"
            expected, fix = "one patient's identifier", "correct `dicomweb.patient_id`"
            raise _refused(self.settings.url, identifier, expected, fix, ExitCode.DATA)
        wanted = self.settings
        images: list[WebImage] = []
        for study in self._all("studies", STUDY, search_filters={"PatientID": patient}, fields=["StudyDescription"]):
            if _value(study, PATIENT) not in ("", patient) or not _fits(wanted.study, study, STUDY_DESCRIPTION):
                continue  # some servers ignore a filter
            for modality in wanted.modalities:
                images += self._of_study(_value(study, STUDY), modality)
        return images

    def _of_study(self, study: str, modality: str) -> list[WebImage]:
        series = [
            _value(one, SERIES)
            for one in self._all(
                "series", SERIES, study, search_filters={"Modality": modality}, fields=["SeriesDescription"]
            )
            if _value(one, MODALITY) == modality and _fits(self.settings.series, one, SERIES_DESCRIPTION)
        ]
        return [
            WebImage(modality, study, uid, _value(image, IMAGE))
            for uid in series
            for image in self._all("instances", IMAGE, study, uid)
        ]

    def retrieve(self, image: WebImage, patient: str) -> bytes:
        """An image as a DICOM file, in the transfer syntax in which the server stores it.

        Raises:
            SiteError: If the server cannot be asked, or sends another image or another patient's.
        """
        self._wait()
        with _answers(self.settings.url):
            data = self.client.retrieve_instance(image.study, image.series, image.image)
            if data.get("SOPInstanceUID") != image.image or str(data.get("PatientID", "")).strip() != patient:
                found = "an image of another patient, or another image"
                expected, fix = "the image that was asked for", "tell the PACS's operator"
                raise _refused(self.settings.url, found, expected, fix, ExitCode.DATA)
            file = io.BytesIO()
            data.save_as(file, enforce_file_format=True)
            return file.getvalue()

    def _all(self, kind: str, key: str, *place: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """All results of a question, page by page; a server that repeats itself is asked no more."""
        search = getattr(self.client, f"search_for_{kind}")
        seen: set[str] = set()
        while True:
            self._wait()
            with _answers(self.settings.url):
                page = search(*place, limit=PAGE, offset=len(seen), **filters)
            new = [one for one in page if _value(one, key) and _value(one, key) not in seen]
            yield from new
            seen |= {_value(one, key) for one in new}
            if not new:
                return

    def _wait(self) -> None:
        pause_s = self._next - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        self._next = time.monotonic() + 1 / self.settings.requests_per_s


def open_pacs(settings: DicomWeb) -> Pacs:
    """The server, which is not asked anything yet.

    Raises:
        SiteError: If dicomweb-client is not installed, or a secret or certificate cannot be read.
    """
    try:
        import requests
        from dicomweb_client import DICOMwebClient
        from urllib3.util import Retry
    except ImportError:
        raise SiteError(
            what="the package for DICOMweb is missing",
            where="dicomweb",
            found="no dicomweb-client",
            fix="pip install 'breast-federation[dicomweb]'",
            exit_code=ExitCode.SITE_CONFIG,
        ) from None
    if settings.ca_certificate and not settings.ca_certificate.is_file():
        missing = f"no file {settings.ca_certificate}"
        raise _secret(missing, "ca_certificate")
    session = requests.Session()
    session.trust_env = False  # neither a proxy nor a password of ~/.netrc: the server is the hospital's own
    session.verify = str(settings.ca_certificate) if settings.ca_certificate else True
    for name in ("password_file", "token_file"):
        path = getattr(settings, name)
        if path is None:
            continue
        if problem := secret_problem(path):
            raise _secret(problem, name)
        secret = path.read_text(encoding="utf-8").strip()
        if name == "password_file":
            session.auth = (settings.user, secret)
        else:
            session.headers["Authorization"] = f"Bearer {secret}"
    # its own retries would also repeat what never passes, as a certificate of another authority
    retries = Retry(total=RETRIES, other=0, status_forcelist=_BUSY, backoff_factor=1.0, raise_on_status=False)
    session.mount("https://", requests.adapters.HTTPAdapter(max_retries=retries))
    client = DICOMwebClient(settings.url, session=session, timeout=settings.timeout_s, permissive_uid=True)
    client.set_http_retry_params(retry=False)
    return Pacs(settings, client)


def _secret(found: str, name: str) -> SiteError:
    return SiteError(
        "a file of `dicomweb` cannot be read",
        where=f"dicomweb.{name}",
        found=found,
        expected="a file that is yours alone" if name != "ca_certificate" else "a certificate",
        fix="write the file, and `chmod 600` a secret",
        exit_code=ExitCode.SITE_CONFIG,
    )


def _value(item: dict[str, Any], tag: str) -> str:
    """The first value of a tag in DICOM JSON (PS3.18 F.2), or nothing."""
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0] or "").strip()


def _fits(expression: str, item: dict[str, Any], tag: str) -> bool:
    return not expression or re.search(expression, _value(item, tag)) is not None


@contextmanager
def _answers(url: str) -> Iterator[None]:
    """What a server or the way to it refuses, as one message that names no patient.

    Raises:
        SiteError: Instead.
    """
    import requests

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about answers that break the standard in ways that can be read
            yield
    except requests.exceptions.SSLError as error:
        fix = "set `dicomweb.ca_certificate` to the certificate that signed the server's, or correct the host's name"
        raise _refused(url, _last(error), "a certificate of a known authority for this host", fix) from None
    except requests.Timeout:
        raise _refused(url, "no answer in time", "an answer", "ask the PACS's operator, or raise `timeout_s`") from None
    except requests.ConnectionError as error:
        raise _refused(url, _last(error), "a server that listens there", "correct `url`, or ask your network") from None
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        fixes: dict[int, Callable[[], str]] = {
            401: lambda: "correct the user, password or token, or renew the token",
            403: lambda: "ask the PACS's operator to let this user search and retrieve",
            404: lambda: "correct `url`: /studies must be below it; or the image was deleted meanwhile",
        }
        fix = fixes.get(status, lambda: "run it again later, or ask the PACS's operator")()
        code = ExitCode.DATA if status in _OF_ONE else ExitCode.SERVER_UNREACHABLE
        raise _refused(url, f"status {status}", "images", fix, code) from None
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError) as error:
        found = f"an answer that is none of DICOMweb: {type(error).__name__}"
        expected = "QIDO-RS and WADO-RS below this address"
        raise _refused(url, found, expected, "correct `url`", ExitCode.DATA) from None


def _last(error: Exception) -> str:
    """The reason that the system gives, without the question, which holds a patient's identifier."""
    text = str(error)
    known = ("CERTIFICATE_VERIFY_FAILED", "Hostname mismatch", "Connection refused", "Name or service not known")
    return next((one for one in known if one in text), type(error).__name__)


def _refused(
    url: str, found: str, expected: str, fix: str, exit_code: ExitCode = ExitCode.SERVER_UNREACHABLE
) -> SiteError:
    """An error of the server, or, with `DATA`, of one patient or image."""
    return SiteError(
        "the DICOMweb server gives no images",
        where=url,
        found=found,
        expected=expected,
        fix=fix,
        public="the site's images cannot be retrieved",
        exit_code=exit_code,
    )
