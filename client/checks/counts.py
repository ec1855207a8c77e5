"""Readiness counts of a site for a study, and every problem found on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from client.checks.column_warnings import column_warnings, given_away
from client.checks.exam_list import write_exams
from client.checks.exam_suspicions import exam_suspicions
from client.checks.expression_scales import expression_warnings
from client.checks.feature_column import FeatureColumn
from client.checks.identifier_warnings import identifier_warnings
from client.checks.mammogram_views import view_suspicions
from client.checks.outcome_counts import count_classes, labels_by_name, target_of
from client.checks.outcome_warnings import outcome_warnings
from client.checks.problems import problems_of
from client.checks.readiness import FeatureCounts, Readiness
from client.checks.relations import relation_warnings
from client.checks.row_order import row_order_warnings
from client.checks.suspicion import Suspicion
from client.checks.whole_tables import whole_table_warnings
from client.cohort.exclusions import Exclusion, write_exclusions
from client.cohort.load import load_cohort
from client.cohort.near_misses import write_near_misses
from client.cohort.parse import read_modality
from client.cohort.rows import CohortRows, open_rows
from client.config.site import SiteConfig
from client.contract.cells import Cells
from client.contract.columns import Column
from client.errors import ExitCode, SiteError
from client.imaging.exam_facts import ExamFacts
from client.readers.exam_artefacts import ExamArtefacts
from client.readers.modality_data import ModalityData
from client.readers.table import TableReader
from client.tables.values import numbers
from shared_models.study_settings import StudySettings
from shared_models.task import Modality, Table, Task

if TYPE_CHECKING:
    from torch import nn


Result = TypeVar("Result")


class _Errors(list[SiteError]):
    """What went wrong so far, each thing once."""

    def attempt(self, work: Callable[[], Result]) -> Result | None:
        """What `work` gives, or None where it fails."""
        try:
            return work()
        except SiteError as error:
            if str(error) not in map(str, self):
                self.append(error)
            return None


@dataclass
class _Modalities:
    """What is counted of a site's modalities, one after the other.

    Attributes:
        excluded: Patients whose files cannot be used.
        warnings: What may be wrong.
        exams: What is known of each row's exam, by modality.
        present: `(R,)` by modality, whether a row has it.
        features: Of tables.
        columns: Of all tables, as the site has them.
    """

    excluded: list[Exclusion] = field(default_factory=list)
    warnings: list[Suspicion] = field(default_factory=list)
    exams: dict[str, Mapping[int, ExamFacts]] = field(default_factory=dict)
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    features: list[FeatureCounts] = field(default_factory=list)
    columns: list[FeatureColumn] = field(default_factory=list)

    def add(self, name: str, read: ModalityData, cohort_rows: CohortRows) -> None:
        """Adds a modality as it was read, without a study."""
        self.present[name] = read.present
        self.excluded += [Exclusion(*cohort_rows.keys[row], name, str(why)) for row, why in read.excluded.items()]
        self.warnings += exam_suspicions(read.warnings, {name: read.facts or {}})
        if read.facts:
            self.exams[name] = read.facts


def readiness(site: SiteConfig, config: StudySettings | None, task: Task | None) -> Readiness:
    """Counts what the site has: of a study, or, without one, of all that its YAML maps.

    Nothing is written but the cache and who was excluded; the split is drawn and not stored.

    Args:
        site: The site's settings.
        config: The study, or None.
        task: The study's task with its features, or None.
    """
    task = task or preview_task(site)
    errors = _Errors()
    cohort_rows = errors.attempt(partial(open_rows, site, task))
    if cohort_rows is None:
        for part in _parts_of(task):
            errors.attempt(partial(open_rows, site, part))
        return Readiness(site.site, task, problems=problems_of(site, None, errors), exit_code=errors[0].exit_code)
    cohort = errors.attempt(partial(load_cohort, site, task, config, store_split=False)) if config else None
    return _count(Readiness(site.site, task, len(cohort_rows.patients), cohort_rows=cohort_rows, cohort=cohort), errors)


def preview_task(site: SiteConfig) -> Task:
    """All that the site's YAML maps, as if a study asked for it; a column with codes to texts is a category."""
    kinds: dict[str, Modality | None] = {name: reader.preview_kind() for name, reader in site.modalities.items()}
    modalities = {name: kind for name, kind in kinds.items() if kind is not None}
    targets = {name: target_of(outcome) for name, outcome in site.targets.items()}
    return Task(modalities, targets, build_model=_no_model)


def _count(readiness: Readiness, errors: _Errors) -> Readiness:
    cohort_rows, cohort, task = readiness.cohort_rows, readiness.cohort, readiness.task
    assert cohort_rows is not None
    counts = _count_modalities(readiness, cohort_rows, errors)
    targets = {}
    for name, target in task.targets.items():
        if classes := errors.attempt(partial(count_classes, cohort_rows, name, target)):
            targets[name] = classes
    for name, target in task.targets.items():
        counts.warnings += errors.attempt(partial(outcome_warnings, cohort_rows, name, target)) or []
    errors.attempt(partial(write_exclusions, cohort_rows.site.state_dir, counts.excluded))
    errors.attempt(partial(write_exams, cohort_rows.site.state_dir, cohort_rows, counts.exams))
    errors.attempt(partial(write_near_misses, cohort_rows.site.state_dir, cohort_rows.near_misses))
    counted = dataclasses.replace(
        readiness,
        modalities={name: len(np.unique(cohort_rows.owner[rows])) for name, rows in counts.present.items()},
        features=tuple(counts.features),
        targets=targets,
        parts={part: len(rows) for part, rows in cohort.parts.items()} if cohort else {},
        exit_code=errors[0].exit_code if errors else ExitCode.OK,
        excluded=tuple(counts.excluded),
        present=counts.present,
        exams=counts.exams,
    )
    problems = problems_of(cohort_rows.site, counted, errors, list(dict.fromkeys(counts.warnings)))
    return dataclasses.replace(counted, problems=problems)


def _count_modalities(readiness: Readiness, cohort_rows: CohortRows, errors: _Errors) -> _Modalities:
    cohort, task = readiness.cohort, readiness.task
    counted = _Modalities()
    if cohort:
        warnings = exam_suspicions(cohort.warnings, cohort.exams)
        counted = _Modalities(list(cohort.excluded), warnings, dict(cohort.exams))
    counted.warnings += [*map(Suspicion, cohort_rows.remarks), *identifier_warnings(cohort_rows)]
    labels, exams = labels_by_name(cohort_rows, task), ExamArtefacts(cohort_rows, task.modalities)
    for index, (name, kind) in enumerate(task.modalities.items()):
        reader = cohort_rows.site.modalities.get(name)
        read: ModalityData | None = None
        if isinstance(kind, Table) and isinstance(reader, TableReader):
            if table := errors.attempt(partial(_features, cohort_rows, name, kind, reader)):
                features, columns, read = table
                counted.features += features
                counted.columns += columns
                counted.warnings += [one.after(f"{name}: ") for one in _table_warnings(readiness, columns, labels)]
        elif cohort is None:
            read = errors.attempt(partial(read_modality, cohort_rows, name, kind, exams))
        if cohort:
            counted.present[name] = cohort.present[:, index].astype(bool)
        elif read:
            counted.add(name, read, cohort_rows)
    owner = cohort_rows.owner
    counted.warnings += [*relation_warnings(counted.columns, labels), *row_order_warnings(counted.columns, owner)]
    counted.warnings += view_suspicions(counted.exams, [key.patient for key in cohort_rows.keys])
    return counted


def _table_warnings(
    readiness: Readiness, columns: list[FeatureColumn], labels: dict[str, NDArray[np.float64]]
) -> list[Suspicion]:
    assert readiness.cohort_rows is not None
    owners = [key.patient for key in readiness.cohort_rows.keys]
    # without a study, a feature may have a target's name: no study has both
    tried = [one for one in columns if readiness.cohort or one.feature.name not in readiness.task.targets]
    whole = [*whole_table_warnings(columns, owners), *expression_warnings(columns)]
    once = [one.once() for one in columns] if readiness.cohort_rows.site.instances else columns
    return [*column_warnings(once), *whole, *map(Suspicion, given_away(tried, labels))]


def _parts_of(task: Task) -> list[Task]:
    """The task's modalities and targets, each alone: one column that is missing hides no other."""
    modalities = [dataclasses.replace(task, modalities={n: kind}, targets={}) for n, kind in task.modalities.items()]
    return modalities + [dataclasses.replace(task, modalities={}, targets={n: k}) for n, k in task.targets.items()]


def _features(
    cohort_rows: CohortRows, name: str, kind: Table, reader: TableReader
) -> tuple[list[FeatureCounts], list[FeatureColumn], ModalityData]:
    """Counts of each feature, the columns of those that the site has, and what a study would get of them."""
    read = reader.values(cohort_rows, kind.features)
    missing = np.isnan(read.values).sum(axis=0)
    names = [feature.name for feature in kind.features]
    outside = [
        _outside(reader.column(feature), cells) if count and cells else ()
        for feature, cells, count in zip(kind.features, read.cells, read.out_of_range, strict=True)
    ]
    counts = zip(names, read.mapped, missing.tolist(), read.out_of_range, outside, strict=True)
    features = [FeatureCounts(name, *count) for count in counts]
    columns = [
        FeatureColumn(feature, column, cells, values)
        for feature, cells, values in zip(kind.features, read.cells, read.values.T, strict=True)
        if cells and (column := reader.column(feature))
    ]
    return features, columns, reader.of_values(cohort_rows, name, kind, read)


def _outside(column: Column | None, cells: Cells) -> tuple[int, ...]:
    """The rows whose value is outside of a column's range."""
    if column is None or column.range is None:
        return ()
    values = numbers(cells, column)
    return tuple(np.flatnonzero((values < column.range[0]) | (values > column.range[1])).tolist())


def _no_model(task: Task, config: StudySettings) -> nn.Module:  # the task is read, never trained
    msg = "a site's own task has no network"
    raise NotImplementedError(msg)
