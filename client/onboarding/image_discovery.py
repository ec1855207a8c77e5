"""Image discovery for `init`: the images in a folder, and the patterns by which a YAML names them."""

from __future__ import annotations

import functools
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from client.imaging.dicom.dicom_files import modality
from client.imaging.dicom.structure_set import region_names

MAX_FILES = 200_000
IMAGES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
TILES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MASK_KINDS = ("SEG", "RTSTRUCT")
TUMOUR = re.compile(r"(?i)gtv|tumou?r|lesion|mass|cancer|index")
_UID = re.compile(r"\d[\d.]{9,}")
MASK = re.compile(r"(?i)mask|seg|roi|tumou?r|label")

Guesses = dict[str, tuple[dict[str, Any], str]]


def find_images(
    folder: Path, patients: frozenset[str], instances: Mapping[str, frozenset[str]]
) -> tuple[Guesses, list[str]]:
    """The image modalities of a folder by a proposed name: an entry of the YAML each, and what to check of it.

    Args:
        folder: The data_root to be.
        patients: The patients in the tables; a file belongs to who is named in its path.
        instances: By patient the names of lesions or views, which their files may have.

    Returns:
        The entries, and patterns of files that no reader was found for.
    """
    patterns: dict[str, set[str]] = defaultdict(set)
    for path in _files(folder):
        if (matched := _pattern(path, patients)) is not None:
            pattern, patient = matched
            patterns[_with_instance(pattern, instances.get(patient, frozenset()))].add(patient)
    images = {p: who for p, who in patterns.items() if p.lower().endswith(IMAGES)}
    guesses: Guesses = {}
    guesses |= _phases(images)
    guesses |= _dicom(folder, patterns)
    guesses |= _tiles(patterns)
    used = {text for entry, _ in guesses.values() for text in _texts(entry)}
    rest = sorted(pattern for pattern in images if pattern not in used)
    return guesses, rest[:20]


def _files(folder: Path) -> Iterator[PurePosixPath]:
    count = 0
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            count += 1
            if count > MAX_FILES:
                return
            if not name.startswith("."):
                yield PurePosixPath(Path(place, name).relative_to(folder).as_posix())


def _pattern(path: PurePosixPath, patients: frozenset[str]) -> tuple[str, str] | None:
    """The path with {patient} where a patient is named, and who; None where none is."""
    parts = list(path.parts)
    for index, part in enumerate(parts):
        if part in patients:
            return "/".join("{patient}" if other == part else other for other in parts), part
        # a file's name may begin with the patient's: `A17_phase0.nii.gz`
        pieces = re.split(r"[._ ]", part)
        start = next((part[:n] for n in _ends(pieces) if part[:n] in patients), "")
        if start:
            parts[index] = "{patient}" + part[len(start) :]
            return "/".join(parts), start
    return None


def _with_instance(pattern: str, names: frozenset[str]) -> str:
    """The pattern with {instance} where a part of it is, or begins with, the name of one of the patient's lesions."""
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        name = next((part[:n] for n in _ends(re.split(r"[._ ]", part)) if part[:n] in names), "")
        if name:
            parts[index] = "{instance}" + part[len(name) :]
    return "/".join(parts)


def _ends(pieces: Sequence[str]) -> Iterator[int]:
    """Where a name may end: after each piece, the longest first."""
    lengths = [len(" ".join(pieces[:count])) for count in range(len(pieces), 0, -1)]
    yield from lengths


def _phases(images: Mapping[str, set[str]]) -> Guesses:
    """Files of each phase: those with the most patients, pre-contrast first, beside a mask by its name."""
    masks = {p: who for p, who in images.items() if MASK.search(PurePosixPath(p).name.replace("{patient}", ""))}
    phases = {p: who for p, who in images.items() if p not in masks}
    if not phases:
        return {}
    if named := {p for p in phases if "{instance}" in p}:
        return _of_lesions(max(named, key=lambda p: len(phases[p])), masks)
    most = max(map(len, phases.values()))
    chosen = sorted((p for p, who in phases.items() if len(who) >= most / 2), key=_in_time)
    entry: dict[str, Any] = {"reader": "image_files", "phases": chosen}
    if not masks:
        return {"mri": (entry, "that the phases are in the order of time")}
    entry["mask"] = max(masks, key=lambda p: len(masks[p]))
    why = "the order of the phases, and that the mask is the tumour's"
    return {"mri": (entry, why), "dce_mri": (dict(entry), why)}


def _of_lesions(pattern: str, masks: Mapping[str, set[str]]) -> Guesses:
    """An image of each lesion, as the task of brain metastases takes it, with the lesion's mask."""
    likely = max((p for p in masks if "{instance}" in p), key=lambda p: len(masks[p]), default="")
    entry = {"reader": "image_files", "phases": [pattern], **({"mask": likely} if likely else {})}
    return {"brain_mri": (entry, "that the lesions are in the brain, and that the mask is the lesion's")}


def _in_time(pattern: str) -> tuple[bool, list[tuple[int, str]]]:
    name = PurePosixPath(pattern).name.lower()
    pieces = re.split(r"(\d+)", name)
    return "pre" not in name, [(int(p), "") if p.isdigit() else (-1, p) for p in pieces]


def _dicom(folder: Path, patterns: Mapping[str, set[str]]) -> Guesses:
    """Folders of DICOM files below a patient's own, and masks by their modality, or by the name of their folder."""
    folders: dict[str, set[str]] = defaultdict(set)
    masks: dict[str, set[str]] = defaultdict(set)
    firsts: dict[str, Path] = {}
    for pattern, who in patterns.items():
        example = folder / pattern.replace("{patient}", min(who))
        if pattern.lower().endswith((*IMAGES, *TILES)) or not _is_dicom(example):
            continue
        above, _, below = pattern.partition("{patient}")
        place = _place(PurePosixPath(pattern))
        first = firsts.setdefault(place, example)
        if _kind(first) in MASK_KINDS:
            masks[place] |= who
        elif below.startswith("/"):
            folders[f"{above}{{patient}}"] |= who
            if MASK.search(str(PurePosixPath(below).parent)):
                masks[place] |= who
    if not folders:
        return {}
    entry: dict[str, Any] = {"reader": "dicom", "folder": max(folders, key=lambda one: len(folders[one]))}
    why = "which series is the dynamic one: see `series` in example.yaml"
    if masks:
        best = max(masks, key=lambda one: len(masks[one]))
        entry["mask"], region_note = _mask(best, firsts[best])
        why += f"; that the mask is the tumour's, and not the breast's{region_note}"
    return {"dce_mri": (entry, why)}


def _place(pattern: PurePosixPath) -> str:
    """The pattern of a file and of those beside it; a folder that is named by a UID may have any."""
    name = pattern.name if "{patient}" in pattern.name else "*.dcm"
    return "/".join(["*" if _UID.fullmatch(part) else part for part in pattern.parent.parts] + [name])


@functools.cache
def _kind(path: Path) -> str:
    return modality(path)


def _mask(pattern: str, example: Path) -> tuple[Any, str]:
    """The entry of a mask, and what to check of its region where a structure set has several."""
    regions = region_names(example) if _kind(example) == "RTSTRUCT" else []
    if len(regions) < 2:
        return pattern, ""
    likely = [name for name in regions if TUMOUR.search(name)]
    region_note = f"; `segment` is one of {', '.join(regions[:8])}"
    return ({"file": pattern, "segment": likely[0]} if len(likely) == 1 else pattern), region_note


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _tiles(patterns: Mapping[str, set[str]]) -> Guesses:
    patients: dict[str, int] = defaultdict(int)
    for pattern, who in patterns.items():
        path = PurePosixPath(pattern)
        if path.suffix.lower() in TILES and "{patient}" in path.parent.parts and not MASK.search(path.name):
            patients[f"{path.parent}/*{path.suffix}"] += len(who)
    if not patients:
        return {}
    entry = {"reader": "tiles", "tiles": max(patients, key=lambda one: patients[one])}
    return {"tiles": (entry, "for features of tiles name it tile_features, and add `weights`: see example.yaml")}


def _texts(entry: Mapping[str, Any]) -> Iterator[str]:
    for value in entry.values():
        yield from [value] if isinstance(value, str) else value if isinstance(value, list) else []
