"""Train, validation and test splits by patient: drawn once, stored at the site, never changed afterwards."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError, named_rows
from client.private_files import write_private
from shared_models.study_settings import StudySettings

PARTS = ("train", "validation", "test")
COLUMNS = "patient, split, seed"


def draw_parts(
    strata: Mapping[str, str], fractions: Mapping[str, float], seed: str, known: Mapping[str, str]
) -> dict[str, str]:
    """Draws a part for each patient, so that each stratum is divided by `fractions`.

    A stratum's patients stand in the order of a hash of seed and patient, so the result depends neither on their
    order nor on chance; the first of them fill the test part, then validation, then training.

    Args:
        strata: Each patient's stratum.
        fractions: Each part's share; they sum to 1.
        seed: What makes this draw differ from another.
        known: Parts given earlier, which stay.

    Returns:
        The part of every patient in `strata`.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for patient, stratum in strata.items():
        members[stratum].append(patient)
    parts = {patient: known[patient] for patient in strata if patient in known}
    for patients in members.values():
        wanted = _sizes(len(patients), fractions)
        for patient in patients:
            if patient in parts:
                wanted[parts[patient]] = wanted.get(parts[patient], 0) - 1
        for patient in sorted((p for p in patients if p not in parts), key=lambda p: _rank(seed, p)):
            # One part may hold more than its share from earlier: then the others end one short in turn.
            part = next((part for part in reversed(PARTS) if wanted.get(part, 0) > 0), "train")
            wanted[part] = wanted.get(part, 0) - 1
            parts[patient] = part
    return parts


def split_patients(
    site: SiteConfig,
    config: StudySettings,
    strata: Mapping[str, str],
    published: Mapping[str, str] | None = None,
    *,
    store: bool = True,
) -> dict[str, str]:
    """The part of each patient with a known outcome.

    The split is kept as `splits/STUDY.csv` in the site's state folder and read back ever after; patients who come
    later are added. Another split of the same patients needs another study name.

    Args:
        site: The site; one that only evaluates has everyone in the test part.
        config: The study: its name, seed and fractions.
        strata: Each patient's stratum.
        published: Each patient's part in the split that the site brings; None for a seeded one.
        store: Whether to write the split down.

    Raises:
        SiteError: If the stored split cannot be read or contradicts the study's settings or the published split.
    """
    path = site.state_dir / "splits" / f"{config.study}.csv"
    stored = _read(path, config.split_seed)
    known = {patient: part for patient, part in stored.items() if patient in strata}
    seed = f"{config.study}/{config.split_seed}"
    if site.role == "evaluate" or site.site in config.never_train:
        parts = dict.fromkeys(strata, "test")
    elif published is not None:
        parts = _published(strata, published, config, seed, known)
    else:
        held_out = {"test": config.test_fraction, "validation": config.validation_fraction}
        parts = draw_parts(strata, {"train": 1.0 - sum(held_out.values()), **held_out}, seed, known)
    if moved := [patient for patient, part in known.items() if parts[patient] != part]:
        raise _moved(path, len(moved), known[moved[0]], parts[moved[0]])
    if store and parts.keys() - stored.keys():
        _write(path, stored | parts, config.split_seed)
    return parts


def _published(
    strata: Mapping[str, str], published: Mapping[str, str], config: StudySettings, seed: str, known: Mapping[str, str]
) -> dict[str, str]:
    parts = {patient: published[patient] for patient in strata}
    if "validation" in published.values():
        return parts
    training = {patient: strata[patient] for patient, part in parts.items() if part == "train"}
    kept = {patient: part for patient, part in known.items() if patient in training and part != "test"}
    share = config.validation_fraction
    return parts | draw_parts(training, {"train": 1.0 - share, "validation": share}, seed, kept)


def _sizes(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers nearest to `count * fraction`, which sum to `count` (largest remainders)."""
    sizes = {part: int(count * fraction + 1e-9) for part, fraction in fractions.items()}
    remainders = sorted(fractions, key=lambda part: sizes[part] - count * fractions[part])
    for part in remainders[: count - sum(sizes.values())]:
        sizes[part] += 1
    return sizes


def _rank(seed: str, patient: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{patient}".encode()).digest()


def _read(path: Path, seed: int) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if "part" in (table.fieldnames or ()):
                raise _of_another_release(path)
            rows = [(row["patient"], row["split"], int(row["seed"])) for row in table]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise _stored(path, "the stored split cannot be read", "other columns", COLUMNS) from None
    parts: dict[str, str] = {}
    for number, (patient, part, drawn) in enumerate(rows, start=2):
        if part not in PARTS or parts.setdefault(patient, part) != part:
            found = f"another part than before, or none, in {named_rows([number])}"
            raise _stored(path, "a patient appears in more than one split", found, "one of train, validation, test")
        if drawn != seed:
            fix = "give the study another name, or set split-seed back"
            raise _stored(path, "the study's split was drawn with another seed", f"seed {drawn}", f"seed {seed}", fix)
    return parts


def _write(path: Path, parts: Mapping[str, str], seed: int) -> None:
    rows: Sequence[tuple[object, ...]] = [(patient, part, seed) for patient, part in sorted(parts.items())]
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS.split(", "), *rows])
    write_private(path, text.getvalue())


def _moved(path: Path, count: int, before: str, now: str) -> SiteError:
    found = f"{count} patients who would move, the first from {before} to {now}"
    fix = "give the study another name: what was learned from these patients stays in this one"
    return _stored(path, "patients would change their part of the split", found, "the stored split", fix)


def _of_another_release(path: Path) -> SiteError:
    fix = "continue with the release that wrote it, or give the study another name; nothing was changed"
    return _stored(path, "an earlier release drew the stored split", "the columns patient, part, seed", COLUMNS, fix)


def _stored(path: Path, what: str, found: str, expected: str, fix: str = "restore the file from a backup") -> SiteError:
    return SiteError(
        what=what,
        where=str(path),
        found=found,
        expected=expected,
        fix=fix,
        public="the site's stored split does not fit the study",
        exit_code=ExitCode.STUDY,
    )
