"""Cohort of a site for one study: inputs, outcomes, and the patient's part of the split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from client.cache.entry import Entry
from client.cache.row_files import RowFiles
from client.cohort.cohort_cache import cached
from client.cohort.exclusions import Exclusion, write_exclusions
from client.cohort.outcomes import read_truth
from client.cohort.rows import CohortRows, open_rows
from client.cohort.split_file import PARTS
from client.cohort.splits import split_patients
from client.cohort.subgroup_columns import read_subgroups
from client.config.site import PublishedSplit, SiteConfig
from client.errors import ExitCode, SiteError, named_rows
from client.imaging.exam_facts import ExamFacts, facts_of_values
from client.readers.exam_artefacts import ExamArtefacts
from client.readers.modality_data import ModalityData
from client.tables.values import mask_out_of_range, normal_code, numbers
from shared_models.study_settings import StudySettings
from shared_models.task import Modality, Table, Task

EVERYONE = "everyone"
SPLIT_UNUSED = "the study draws folds from all patients: the site's own `split` is not used in it"


@dataclass(frozen=True, eq=False)
class Cohort:
    """N patients of one site, for one study, in R rows: one a patient, or one for each lesion or view.

    Attributes:
        site: The site's name.
        patients: N identifiers; they never leave the site.
        first: `(N + 1,)`: patient i has the rows from `first[i]` up to `first[i + 1]`.
        sampling_weight: `(R,)`: how often training draws a row, beside the patient's other rows.
        inputs: A volume `(R, C, D, H, W)` or bag `(R, T, W)`, 0 where absent, or a table `(R, C)` as
            `features.expand` makes it, NaN where missing. Volumes and bags are read from the site's cache as they are
            indexed.
        present: `(R, M)`: which rows have which of the task's modalities, in its order.
        truths: `(N,)`, or `(N, 2)` for a time to event; NaN where unknown.
        parts: Indices of the patients of `train`, `validation` and `test`, disjoint; who has no known outcome is in
            none, nor who has none of the study's modalities.
        subgroups: By column, each patient's subgroup, `(N,)`; see `shared_models.subgroups`.
        excluded: Whose files cannot be used.
        warnings: What need not stop the site, but should be known.
        exams: Of each modality of images, the facts of its rows' exams.
    """

    site: str
    patients: tuple[str, ...]
    first: NDArray[np.int64]
    sampling_weight: NDArray[np.float64]
    inputs: Mapping[str, NDArray[Any] | RowFiles]
    present: NDArray[np.bool_]
    truths: Mapping[str, NDArray[np.float32]]
    parts: Mapping[str, NDArray[np.int64]]
    subgroups: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    excluded: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()
    exams: Mapping[str, Mapping[int, ExamFacts]] = field(default_factory=dict)

    def rows(self, patients: NDArray[np.int64]) -> NDArray[np.int64]:
        """All rows of some patients."""
        spans = [np.arange(self.first[patient], self.first[patient + 1]) for patient in patients]
        return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)

    def count_with_modality(self, patients: NDArray[np.int64], modality: int) -> int:
        """How many of some patients have a modality, in one of their rows at least."""
        return sum(bool(self.present[self.first[p] : self.first[p + 1], modality].any()) for p in patients)


def load_cohort(site: SiteConfig, task: Task, config: StudySettings, *, store_split: bool = True) -> Cohort:
    """Reads a site's cohort, from its cache where nothing changed, and splits it.

    A training site whose patients are all of one class may train: others have the other class, and
    `client.checks.counts` warns of it. One without training patients may not.

    Args:
        site: The site's settings.
        task: The task, with the study's features.
        config: The study.
        store_split: Whether the split is written down.

    Raises:
        SiteError: If the data cannot be used, no outcome is known, or a training site has no training patients.
    """
    entry = cached(site, task, lambda: _parse(site, task))
    patients = tuple(entry.facts["patients"])
    truths = {name: np.array(entry.arrays[f"truth.{name}"]) for name in task.targets}
    first, present = np.array(entry.arrays["first"]), np.array(entry.arrays["present"])
    known = _known(truths) & np.logical_or.reduceat(present.any(axis=1), first[:-1])
    strata = {patients[i]: str(label) for i, label in enumerate(_strata(task, truths)) if known[i]}
    published = entry.facts["published"]
    assigned_parts = split_patients(
        site, config, strata, published and dict(zip(patients, published, strict=True)), store=store_split
    )
    if site.role == "train" and site.site not in config.never_train and "train" not in assigned_parts.values():
        raise _nobody_to_train_on(site, len(assigned_parts))
    labels = np.asarray([assigned_parts.get(patient, "") for patient in patients])
    warnings = (SPLIT_UNUSED,) if published and config.folds else ()
    cohort = _cohort(site, task, entry, {part: np.flatnonzero(labels == part) for part in PARTS}, warnings)
    write_exclusions(site.state_dir, cohort.excluded)
    return cohort


def load_everyone(site: SiteConfig, task: Task) -> Cohort:
    """Reads all patients of a site, with a known outcome or without, as one part `everyone`; nothing is split.

    A column may be empty for all of them: they may be few.

    Args:
        site: The site's settings.
        task: The task; of its targets those that are wanted, or none.

    Raises:
        SiteError: If the data cannot be used.
    """
    site = site.model_copy(update={"split": None})  # a new patient is in none
    entry = cached(site, task, lambda: _parse(site, task, may_lack=True), EVERYONE)
    everyone = np.arange(len(entry.facts["patients"]))
    return _cohort(site, task, entry, {**dict.fromkeys(PARTS, everyone[:0]), EVERYONE: everyone})


def _cohort(
    site: SiteConfig, task: Task, entry: Entry, parts: Mapping[str, NDArray[np.int64]], warnings: Sequence[str] = ()
) -> Cohort:
    return Cohort(
        site=site.site,
        patients=tuple(entry.facts["patients"]),
        first=np.array(entry.arrays["first"]),
        sampling_weight=np.array(entry.arrays["sampling_weight"]),
        inputs={name: entry.arrays[f"input.{name}"] for name in task.modalities},
        present=np.array(entry.arrays["present"]),
        truths={name: np.array(entry.arrays[f"truth.{name}"]) for name in task.targets},
        parts=parts,
        subgroups={(name := each.feature.name): np.array(entry.arrays[f"subgroup.{name}"]) for each in task.subgroups},
        excluded=tuple(Exclusion(*values) for values in entry.facts["excluded"]),
        warnings=(*entry.facts["warnings"], *warnings),
        exams={
            name: {int(row): facts_of_values(dict(values)) for row, values in exams.items()}
            for name, exams in entry.facts["exams"].items()
        },
    )


def _parse(site: SiteConfig, task: Task, may_lack: bool = False) -> Entry:
    cohort_rows = open_rows(site, task, may_lack=may_lack)
    first = np.append(np.flatnonzero(np.diff(cohort_rows.owner, prepend=-1)), len(cohort_rows))
    truths = {name: read_truth(cohort_rows, name, kind) for name, kind in task.targets.items()}
    if truths and not _known(truths).any() and not may_lack:
        raise _no_outcome(site, task)
    arrays: dict[str, NDArray[Any] | RowFiles] = {f"truth.{name}": truth for name, truth in truths.items()}
    exams = ExamArtefacts(cohort_rows, task.modalities)
    read = {name: read_modality(cohort_rows, name, kind, exams) for name, kind in task.modalities.items()}
    arrays |= {f"input.{name}": data.values for name, data in read.items()}
    present = np.stack([data.present for data in read.values()], axis=1)
    arrays |= {"present": present, "first": first, "sampling_weight": _sampling_weight(cohort_rows)}
    arrays |= {f"subgroup.{name}": each for name, each in read_subgroups(cohort_rows, task, first).items()}
    facts = {
        "patients": cohort_rows.patients,
        "published": _published_parts(cohort_rows, site.split) if site.split else None,
        "excluded": [
            Exclusion(*cohort_rows.keys[row], name, str(why))
            for name, data in read.items()
            for row, why in data.excluded.items()
        ],
        "exams": {
            name: {str(row): dataclasses.asdict(facts) for row, facts in data.facts.items()}
            for name, data in read.items()
            if data.facts
        },
        "warnings": list(dict.fromkeys(warning for data in read.values() for warning in data.warnings))
        + _without_modalities(present, first),
    }
    return Entry(facts, arrays)


def _without_modalities(present: NDArray[np.bool_], first: NDArray[np.int64]) -> list[str]:
    """A sentence on patients of whom there is nothing to learn from, if there are any."""
    empty = int((~np.logical_or.reduceat(present.any(axis=1), first[:-1])).sum()) if len(present) else 0
    who = "1 patient has" if empty == 1 else f"{empty} patients have"
    return [f"{who} none of the study's modalities: in no part of the split, not learned from"] if empty else []


def read_modality(cohort_rows: CohortRows, name: str, kind: Modality, exams: ExamArtefacts) -> ModalityData:
    """One modality of the R rows.

    Args:
        cohort_rows: The rows.
        name: The modality's.
        kind: What the study wants.
        exams: What the study needs of the rows' exams.

    Raises:
        SiteError: If it cannot be read.
    """
    reader = cohort_rows.site.modalities.get(name)
    if reader is not None:
        if not isinstance(kind, reader.supported_kinds):
            raise _wrong_reader(name, type(kind).__name__.lower(), reader.reader)
        return reader.read(cohort_rows, name, cast(Any, kind), exams)
    shape, absent = (len(cohort_rows), *kind.shape), np.zeros(len(cohort_rows), dtype=bool)
    if isinstance(kind, Table):
        return ModalityData(np.full(shape, np.nan, dtype=np.float32), absent)
    return ModalityData(RowFiles([None] * len(cohort_rows), kind.shape), absent)


def _sampling_weight(cohort_rows: CohortRows) -> NDArray[np.float64]:
    """`(R,)`: by the square root of the volume, so that a large lesion does not hide the others; else alike."""
    instances = cohort_rows.site.instances
    if instances is None or instances.volume is None:
        return np.ones(len(cohort_rows))
    cells = cohort_rows.cells(instances.volume, instances.table)
    volume = mask_out_of_range(numbers(cells, instances.volume), instances.volume)[0]
    known = volume[volume > 0]
    return np.sqrt(np.where(volume > 0, volume, np.median(known) if len(known) else 1.0))


def _published_parts(cohort_rows: CohortRows, split: PublishedSplit) -> list[str]:
    cells = cohort_rows.cells(split)
    parts = {normal_code(code): part for part in PARTS for code in getattr(split, part)}
    first = np.flatnonzero(np.diff(cohort_rows.owner, prepend=-1))
    assigned = [parts.get(normal_code(cells.texts[row], cells.decimal), "") for row in first]
    bad = [int(row) for row, part in zip(first, assigned, strict=True) if not part]
    if bad:
        texts = sorted({repr(cells.texts[index]) for index in bad})[:5]
        rows = [cells.rows[index] for index in bad if cells.rows[index]]
        raise SiteError(
            what="patients without a split in the published split",
            where=cells.where,
            found=f"{len(bad)} patients: {', '.join(texts)}" + (f" in {named_rows(rows)}" if rows else ""),
            expected=f"one of {', '.join(map(repr, parts))}",
            fix="list the code under `split`, or leave the patients out with `include`",
            public="the site's published split does not cover its patients",
        )
    return assigned


def _known(truths: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """`(N,)`: whose outcome is known for at least one target."""
    return np.any([~np.isnan(truth.reshape(len(truth), -1)).any(axis=1) for truth in truths.values()], axis=0)


def _strata(task: Task, truths: Mapping[str, NDArray[np.float32]]) -> NDArray[Any]:
    """`(N,)`: the class or event of the first target; a number makes no strata."""
    from shared_models.targets import Regression

    name, kind = next(iter(task.targets.items()))
    truth = truths[name]
    return np.zeros(len(truth)) if isinstance(kind, Regression) else truth.reshape(len(truth), -1)[:, -1]


def _no_outcome(site: SiteConfig, task: Task) -> SiteError:
    mapped = [name for name in task.targets if name in site.targets]
    return SiteError(
        what="no patient's outcome is known",
        where=f"targets {', '.join(mapped)}" if mapped else "targets",
        found="empty cells and missing codes only" if mapped else f"targets {', '.join(site.targets)}",
        expected=f"an outcome for {' or '.join(task.targets)}",
        fix="check the columns and their missing codes" if mapped else "map one of the study's targets",
        public="no outcome of this study is known at the site",
        exit_code=ExitCode.DATA if mapped else ExitCode.STUDY,
    )


def _nobody_to_train_on(site: SiteConfig, known: int) -> SiteError:
    return SiteError(
        what="no training patients",
        where=f"site {site.site}",
        found=f"{known} patients with a known outcome, none in the training part",
        expected="patients to train on",
        fix="set `role: evaluate`, or correct the split",
        public="the site has no training patients",
    )


def _wrong_reader(name: str, kind: str, reader: str) -> SiteError:
    return SiteError(
        what="a modality has another reader than the study needs",
        where=f"modalities.{name}",
        found=f"reader: {reader}",
        expected=f"a reader that makes a {kind}",
        fix="correct the reader, or rename or remove the modality",
        public="the site's settings do not fit the study",
        exit_code=ExitCode.STUDY,
    )
