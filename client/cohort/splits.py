"""Train, validation and test splits by patient: drawn once, stored at the site, never changed afterwards.

A split depends on its name, its seed and the patients, never on the study: all studies of a cohort test the same
patients, unless one names a split of its own. With folds, each patient is a test patient of one of them.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from client.cohort.near_splits import require_apart
from client.cohort.split_file import PARTS, Parts, SplitFile, columns_of, read_split, stored, write_split
from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from shared_models.folds import fold_of
from shared_models.study_settings import StudySettings

COHORT = "cohort"  # the name of the split that a study has which names none
EVERYONE = "everyone"


def split_file(site: SiteConfig, config: StudySettings) -> SplitFile:
    """The file of a study's split: of its name, seed and fractions, or its folds.

    A file of the study's own, as earlier releases wrote, stays in use for that study.
    """
    folder, name, fold = site.state_dir / "splits", config.split or COHORT, fold_of(config)
    stem = f"{name}.seed-{config.split_seed}"
    if config.folds:
        repeat, part = (fold.repeat, fold.part) if fold else (1, 1)
        first, last = f"{stem}.folds-{config.folds}.validation-", f".repeat-{repeat}.csv"
        path, draw = (
            folder / f"{first}{config.validation_fraction:g}{last}",
            f"{name}/{config.split_seed}/repeat-{repeat}",
        )
        return SplitFile(path, f"{first}*{last}", columns_of(config.folds), part - 1, draw)
    if not config.split and (own := folder / f"{config.study}.csv").exists():
        return SplitFile(own, own.name, columns_of(0), 0, f"{config.study}/{config.split_seed}")
    path = folder / f"{stem}.test-{config.test_fraction:g}.validation-{config.validation_fraction:g}.csv"
    return SplitFile(path, f"{stem}.test-*.csv", columns_of(0), 0, f"{name}/{config.split_seed}")


def name_of_tested(site: SiteConfig, config: StudySettings) -> str:
    """Who is tested in a study at a site: the test part of a named split, or everyone where the site only evaluates."""
    if _only_tests(site, config):
        return EVERYONE
    file = split_file(site, config)
    return file.path.stem + (f".{file.columns[file.column]}" if len(file.columns) > 1 else "")


def split_patients(
    site: SiteConfig,
    config: StudySettings,
    strata: Mapping[str, str],
    published: Mapping[str, str] | None = None,
    *,
    store: bool = True,
) -> dict[str, str]:
    """The part of each patient with a known outcome, in the study or the fold that the settings are of.

    It is stored in the site's state folder and read back ever after; patients who come later are added.

    Args:
        site: The site; one that only evaluates has everyone in the test part.
        config: The study: its split's name, seed and fractions, or its folds.
        strata: Each patient's stratum.
        published: Each patient's part in the split that the site brings; None for a seeded one. Folds do not use it.
        store: Whether to write the split down.

    Raises:
        SiteError: If the stored split cannot be read or contradicts the study's settings or the published split, the
            rarest stratum has fewer patients than there are folds, or a new split is nearly an earlier one.
    """
    if _only_tests(site, config):
        return dict.fromkeys(strata, "test")
    file = split_file(site, config)
    before = read_split(file.path, file.columns, config.split_seed)
    known = {patient: parts for patient, parts in before.items() if patient in strata}
    if config.folds:
        assigned = _in_folds(site, config, strata, file.draw, known)
    else:
        single = {patient: parts[0] for patient, parts in known.items()}
        assigned = {p: (part,) for p, part in _in_one(config, strata, published, file.draw, single).items()}
    if site.center and not before:  # a simulation has no center that could compare two studies' sums
        require_apart(file, assigned, config.split_seed, site.policy.minimum_count)
    if moved := [patient for patient, parts in known.items() if assigned[patient] != parts]:
        first = known[moved[0]][file.column], assigned[moved[0]][file.column]
        raise _moved(file.path, len(moved), *first)
    if store and assigned.keys() - before.keys():
        write_split(file.path, file.columns, before | assigned, config.split_seed)
    return {patient: parts[file.column] for patient, parts in assigned.items()}


def draw_parts(
    strata: Mapping[str, str], fractions: Mapping[str, float], seed: str, known: Mapping[str, str]
) -> dict[str, str]:
    """Draws a part for each patient, so that each stratum is divided by `fractions`.

    A stratum's patients are in the order of a hash of seed and patient, so the result depends neither on their
    order nor on chance; the first of them fill the test part, then validation, then training.

    Args:
        strata: Each patient's stratum.
        fractions: Each part's share; they sum to 1.
        seed: What makes this draw differ from another.
        known: Parts given earlier, which stay.

    Returns:
        The part of every patient in `strata`.
    """
    parts = {patient: known[patient] for patient in strata if patient in known}
    for patients in _members(strata).values():
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


def draw_folds(strata: Mapping[str, str], folds: int, seed: str, known: Mapping[str, int]) -> dict[str, int]:
    """Draws the fold that tests each patient, so that each stratum is divided evenly.

    In the order of a hash of seed and patient, each goes to the fold with the fewest of the stratum, and of these to
    the one with the fewest patients.

    Args:
        strata: Each patient's stratum.
        folds: How many.
        seed: What makes this draw differ from another.
        known: Folds given earlier, from 0, which stay.

    Returns:
        The fold of every patient in `strata`, from 0.
    """
    assigned = {patient: known[patient] for patient in strata if patient in known}
    sizes = Counter(assigned.values())
    for _, patients in sorted(_members(strata).items()):
        own = Counter(assigned[patient] for patient in patients if patient in assigned)
        for patient in sorted((p for p in patients if p not in assigned), key=lambda p: _rank(seed, p)):
            fold = min(range(folds), key=lambda number: (own[number], sizes[number], number))
            assigned[patient] = fold
            own[fold] += 1
            sizes[fold] += 1
    return assigned


def _only_tests(site: SiteConfig, config: StudySettings) -> bool:
    return site.role == "evaluate" or site.site in config.never_train


def _in_one(
    config: StudySettings,
    strata: Mapping[str, str],
    published: Mapping[str, str] | None,
    draw: str,
    known: Mapping[str, str],
) -> dict[str, str]:
    """Each patient's part in one split."""
    if published is None:
        held_out = {"test": config.test_fraction, "validation": config.validation_fraction}
        return draw_parts(strata, {"train": 1.0 - sum(held_out.values()), **held_out}, draw, known)
    parts = {patient: published[patient] for patient in strata}
    if "validation" in published.values():
        return parts
    training = {patient: strata[patient] for patient, part in parts.items() if part == "train"}
    assigned = {patient: part for patient, part in known.items() if patient in training and part != "test"}
    return parts | draw_parts(training, _validating(config.validation_fraction), draw, assigned)


def _in_folds(
    site: SiteConfig, config: StudySettings, strata: Mapping[str, str], draw: str, known: Mapping[str, Parts]
) -> dict[str, Parts]:
    """Each patient's part in each fold; validation patients are others in each, from those it does not test."""
    sizes = Counter(strata.values())
    if sizes and min(sizes.values()) < config.folds:
        raise _too_few(site.site, config, min(sizes.values()))
    tested = draw_folds(strata, config.folds, draw, {p: parts.index("test") for p, parts in known.items()})
    fractions = _validating(config.validation_fraction / (1 - 1 / config.folds))
    rows: dict[str, list[str]] = {patient: [] for patient in strata}
    for fold in range(config.folds):
        others = {patient: stratum for patient, stratum in strata.items() if tested[patient] != fold}
        stored_parts = {patient: parts[fold] for patient, parts in known.items() if patient in others}
        assigned = draw_parts(others, fractions, f"{draw}/fold-{fold + 1}", stored_parts)
        for patient, row in rows.items():
            row.append(assigned.get(patient, "test"))
    return {patient: tuple(row) for patient, row in rows.items()}


def _validating(share: float) -> dict[str, float]:
    return {"train": 1.0 - share, "validation": share}


def _members(strata: Mapping[str, str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = defaultdict(list)
    for patient, stratum in strata.items():
        members[stratum].append(patient)
    return members


def _sizes(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers nearest to `count * fraction`, which sum to `count` (largest remainders)."""
    sizes = {part: int(count * fraction + 1e-9) for part, fraction in fractions.items()}
    remainders = sorted(fractions, key=lambda part: sizes[part] - count * fractions[part])
    for part in remainders[: count - sum(sizes.values())]:
        sizes[part] += 1
    return sizes


def _rank(seed: str, patient: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{patient}".encode()).digest()


def _moved(path: Path, count: int, before: str, now: str) -> SiteError:
    found = f"{count} patients who would move, the first from {before} to {now}"
    fix = "give the split another name (`split`): what was learned from these patients stays in this one"
    return stored(path, "patients would change their part of the split", found, "the stored split", fix)


def _too_few(site: str, config: StudySettings, rarest: int) -> SiteError:
    return SiteError(
        what="the study has more folds than this site has patients of one class",
        where=f"site {site}, study {config.study}, folds = {config.folds}",
        found=f"{rarest} of the rarest class of the first target, or of those with the event or without",
        expected=f"{config.folds} or more, so that every fold tests one",
        fix=f"ask the center for at most {rarest} folds, or for a study that this site only evaluates"
        if rarest > 1
        else "ask the center for a study without folds, or one that this site only evaluates",
        public=f"a class of the site's patients is rarer than the study's {config.folds} folds",
        exit_code=ExitCode.STUDY,
    )
