"""DICOM files as files: with a preamble or without, whole, and not deflated."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from client.imaging.files import bad_file

ELEMENT_HEADER = 8  # bytes of tag, VR and length before the pixels, at least
PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # the tag 7FE0,0010 in both orders of bytes
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # of a file without a preamble: the meta information, or the image itself


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM; some archives write it without the 128 bytes and `DICM` that should come first."""
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return True
    if start[:2] not in _FIRST_GROUPS or len(start) < 132:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") <= 2**10  # a length


def modality(path: Path) -> str:
    """What kind of DICOM file it is, as MR, SEG or RTSTRUCT; empty where its header cannot be read."""
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"], force=True)
        return str(header.get("Modality", ""))
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, EOFError):
        return ""


def refuse_deflated(path: Path) -> None:
    """Refuses a DICOM file that is packed as a whole, of which a small one could fill all memory.

    Raises:
        SiteError: If so.
    """
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    except InvalidDicomError:  # without a preamble, and so without a packed part
        return
    if syntax is not None and syntax.is_deflated:
        raise bad_file(path, "a DICOM file is deflated as a whole", "Deflated Explicit VR", "another transfer syntax")


def check_room(path: Path, header: Any, room: int) -> None:
    """Refuses pixels that are not all there: GDCM would take what lies in memory behind them.

    Args:
        path: The file.
        header: What precedes the pixels.
        room: Bytes of the file from the pixels on.

    Raises:
        SiteError: If so.
    """
    syntax = header.file_meta.get("TransferSyntaxUID")
    frames = int(header.get("NumberOfFrames") or 1)
    needed = int(header.Rows) * int(header.Columns) * frames * header.BitsAllocated // 8
    if room < needed and not (syntax and syntax.is_compressed):
        raise bad_file(path, "a DICOM file is cut short", f"{room} bytes of pixels", f"{needed}, as its header says")


def digest_of_end(path: Path, size: int) -> bytes:
    """A hash of a file's last bytes: its pixels, which two exports of one image have in common."""
    with path.open("rb") as file:
        file.seek(-size, 2)
        return hashlib.file_digest(file, "sha256").digest()
