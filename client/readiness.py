"""Whether a site is ready for a study: counts of what it has, and of what is missing; no patient, no value."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.cohort import load_cohort, read_modality
from client.modalities.table import TableReader
from client.outcomes import read_truth
from client.records import Records, open_records
from client.site import Outcome, SiteConfig
from client.values import text_categories
from shared_models.run_config import RunConfig
from shared_models.task import Modality, Table, Task

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from shared_models.targets import Target

UNKNOWN = "unknown"


@dataclass(frozen=True)
class FeatureCounts:
    """One feature of a tabular modality; `out_of_range` values count as `missing`, too."""

    modality: str
    feature: str
    mapped: bool
    missing: int
    out_of_range: int


@dataclass(frozen=True)
class Readiness:
    """What a site has, in counts of patients.

    Attributes:
        site: Its name.
        patients: All of the cohort.
        modalities: Who has each modality.
        features: Each feature of each tabular modality.
        targets: For each target, its classes (`event`, `censored`) and `unknown`.
        parts: The sizes of the parts of the split; empty without a study.
        warnings: What need not stop the site, but should be known.
    """

    site: str
    patients: int
    modalities: Mapping[str, int]
    features: tuple[FeatureCounts, ...]
    targets: Mapping[str, Mapping[str, int]]
    parts: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def readiness(site: SiteConfig, config: RunConfig | None, task: Task | None) -> Readiness:
    """Counts what the site has: of a study, or, without one, of all that its YAML maps.

    Nothing is written but the cache; the split is drawn and not kept.

    Args:
        site: The site's settings.
        config: The study, or None.
        task: The study's task with its features, or None.

    Raises:
        SiteError: If the site cannot take part as it is.
    """
    task = task or mapped_task(site)
    cohort = load_cohort(site, task, config, store_split=False) if config else None
    records = open_records(site, task)
    modalities, features = {}, []
    for index, (name, kind) in enumerate(task.modalities.items()):
        reader = site.modalities.get(name)
        if isinstance(kind, Table) and isinstance(reader, TableReader):
            read = reader.values(records, kind.features)
            missing = np.isnan(read.values).sum(axis=0)
            names = [feature.name for feature in kind.features]
            counts = zip(names, read.mapped, missing.tolist(), read.out_of_range, strict=True)
            features += [FeatureCounts(name, *count) for count in counts]
            modalities[name] = _patients(records, read.present)
        elif cohort:
            modalities[name] = cohort.owners(np.arange(len(cohort.patients)), index)
        else:
            modalities[name] = _readable(records, name, kind)
    targets = {name: _classes(kind, read_truth(records, name, kind)) for name, kind in task.targets.items()}
    parts = {part: len(rows) for part, rows in cohort.parts.items()} if cohort else {}
    found = Readiness(site.site, len(records.patients), modalities, tuple(features), targets, parts)
    return Readiness(**{**vars(found), "warnings": tuple(_warnings(site, found))})


def mapped_task(site: SiteConfig) -> Task:
    """All that the site's YAML maps, as if a study asked for it; a column with codes to texts is a category."""
    found: dict[str, Modality | None] = {name: reader.mapped() for name, reader in site.modalities.items()}
    modalities = {name: kind for name, kind in found.items() if kind is not None}
    targets = {name: _target(outcome) for name, outcome in site.targets.items()}
    return Task(modalities, targets, build_model=_no_model)


def print_readiness(found: Readiness, console: Console) -> None:
    """Prints the counts as tables, and the warnings below them."""
    from rich.markup import escape
    from rich.table import Table as Grid

    def show(title: str, heads: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
        grid = Grid(title=escape(title), title_justify="left", title_style="bold")
        for index, head in enumerate(heads):
            grid.add_column(head, justify="right" if index else "left")
        for row in rows:
            grid.add_row(*(escape(str(cell)) for cell in row))
        if rows:
            console.print(grid)

    title = f"{found.site}: {found.patients} patients"
    share = [(name, count, f"{count / found.patients:.0%}") for name, count in found.modalities.items()]
    show(title, ("modality", "patients", "share"), share)
    show(
        "outcomes",
        ("target", "class", "patients"),
        [(t, c, n) for t, cs in found.targets.items() for c, n in cs.items()],
    )
    gaps = [
        (f"{count.modality}: {count.feature}", count.missing if count.mapped else "not mapped", count.out_of_range)
        for count in found.features
        if count.missing
    ]
    show("missing values", ("feature", "missing", "out of range"), gaps)
    show("split", ("part", "patients"), list(found.parts.items()))
    for warning in found.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def _warnings(site: SiteConfig, found: Readiness) -> Iterator[str]:
    for name in found.modalities:
        if name not in site.modalities:
            yield f"the study's modality {name} is not in the site's YAML: it is missing for every patient"
    for name in found.modalities:
        unmapped = [count.feature for count in found.features if count.modality == name and not count.mapped]
        if unmapped:
            yield f"{name}: {', '.join(unmapped)} not mapped: missing for every patient"
    for feature in found.features:
        if feature.out_of_range:
            where = f"{feature.modality}: {feature.out_of_range} values of {feature.feature}"
            yield f"{where} are out of range and count as missing"
    for name, classes in found.targets.items():
        known = {label: count for label, count in classes.items() if label != UNKNOWN and count}
        if not known:
            yield f"the study's target {name} is unknown for every patient"
        elif len(known) == 1 and "known" not in known:
            yield f"{name}: every patient is {next(iter(known))}; the site learns nothing that tells classes apart"
    for part, size in found.parts.items():
        if not size and site.role == "train":
            yield f"nobody is in the {part} part"


def _classes(kind: Target, truth: NDArray[np.float32]) -> dict[str, int]:
    from shared_models.targets import Categorical, Regression, TimeToEvent

    label = truth[:, 1] if isinstance(kind, TimeToEvent) else truth
    unknown = {UNKNOWN: int(np.isnan(label).sum())}
    if isinstance(kind, Regression):
        return {"known": len(label) - unknown[UNKNOWN], **unknown}
    names = kind.classes if isinstance(kind, Categorical) else ("0", "1")
    names = ("censored", "event") if isinstance(kind, TimeToEvent) else names
    return {name: int((label == index).sum()) for index, name in enumerate(names)} | unknown


def _patients(records: Records, rows: NDArray[np.bool_]) -> int:
    """How many patients have one of the R rows at least."""
    return len(np.unique(records.owner[rows]))


def _readable(records: Records, name: str, kind: Modality) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return _patients(records, read_modality(records, name, kind, Path(folder) / "input.npy").present)


def _target(outcome: Outcome) -> Target:
    from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

    if outcome.label is None:
        return TimeToEvent()
    if classes := text_categories(outcome.label):
        return Categorical(classes)
    return Binary() if outcome.label.codes else Regression()


def _no_model(task: Task, config: RunConfig) -> nn.Module:  # the task is read, never trained
    msg = "a site's own task has no network"
    raise NotImplementedError(msg)
