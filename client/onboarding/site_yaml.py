"""First YAML of a site from its files: `python -m client init FOLDER --site NAME`.

It proposes; the data manager decides. `# check:` marks everything that was guessed. The only cell values in the
file are codes and texts for a missing value, of columns with few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from client.errors import ExitCode, SiteError
from client.onboarding.box_columns import with_boxes
from client.onboarding.cohort_tables import CohortTables, same_cohort
from client.onboarding.feature_map import FeatureMap, map_features
from client.onboarding.gene_matrices import with_patients_in_rows
from client.onboarding.image_discovery import Guesses, find_images
from client.onboarding.study_skeleton import study_text
from client.onboarding.table_discovery import find_tables
from client.onboarding.target_guesses import MappedTarget, find_targets
from client.onboarding.yaml_lines import Findings, yaml_text
from client.private_files import write_private
from shared_models.task import Task


def write_first_config(source: Path, path: Path, study: Path | None = None) -> list[str]:
    """Writes a site's first YAML, `path`, from the tables and images under a folder, or from one table.

    Args:
        source: The data_root to be, or a table's file in it.
        path: `site_configs/NAME.yaml`; a file that is there is left alone.
        study: Where the settings of a first study go, too; a file that is there is left alone.

    Returns:
        What was found, and what was not, in sentences without a patient.

    Raises:
        SiteError: If there is such a YAML or study, no such folder, or no table that names patients.
    """
    source = source.expanduser().resolve()
    _check_free(path, "there is such a site already", "choose another --site, or edit the file")
    if study is not None:
        _check_free(study, "there is such a study already", "choose another --study, or edit the file")
    if not source.exists():
        fix = "name the folder that holds tables and images, or a table's file"
        raise _refused(what="there is no such folder", where=source, fix=fix)
    folder = source if source.is_dir() else source.parent
    tasks = _tasks()
    findings = _findings(folder, None if source.is_dir() else source, tasks)
    write_private(path, yaml_text(findings, path, tasks))
    summary = list(_summary(findings))
    if study is not None:
        task, text = study_text(path, findings, tasks)
        if text:
            write_private(study, text)
        what = f"a study of {task} is in {study}" if text else "no study was written: no task learns one of the targets"
        summary.append(
            what + ("" if text else f" from {', '.join({**findings.features.modalities, **findings.images})}")
        )
    return summary


def _check_free(path: Path, what: str, fix: str) -> None:
    if path.exists():
        raise _refused(what, path, fix, found="nothing was changed")


def _refused(what: str, where: Path, fix: str, found: str = "") -> SiteError:
    return SiteError(what, where=str(where), found=found, fix=fix, exit_code=ExitCode.USAGE)


def _tasks() -> list[Task]:
    """All tasks, with what they take on request only."""
    from importlib import import_module

    from shared_models.task import task_names

    return [import_module(f"shared_models.tasks.{name}").TASK for name in task_names()]


def _findings(folder: Path, only: Path | None, tasks: list[Task]) -> Findings:
    candidates, refused = find_tables(folder, only)
    if not candidates:
        seen = "; ".join(refused[:5]) or "no CSV, TSV, TXT, XLSX or Parquet file"
        fix = "export a table with a row a patient and a column with the patient's identifier"
        raise _refused(what="no table names patients", where=folder, fix=fix, found=seen)
    cohort = same_cohort(with_patients_in_rows(candidates), tasks)
    targets, without = find_targets(cohort.tables, tasks)
    taken = _target_uses(targets)
    if cohort.instances and cohort.instance_column:
        taken[cohort.instances.name, cohort.instance_column] = "instances: names the lesion or view"
    features = map_features(cohort.tables, tasks, taken)
    patients = frozenset().union(*(table.patients for table in cohort.tables))
    images, unread = ({}, []) if only else find_images(folder, patients, cohort.instance_names)
    images = with_boxes(images, cohort.tables)
    return Findings(folder, cohort, features, targets, images, [*refused, *cohort.refused, *unread], without)


def _target_uses(targets: dict[str, MappedTarget]) -> dict[tuple[str, str], str]:
    """Columns that no feature may be made of: those of outcomes, but for receptors, which other studies read."""
    return {
        place: f"targets: {name}"
        for name, target in reversed(targets.items())
        if name not in {"er", "pr", "her2", "ki67_percent"}
        for place in target.places
    }


def _summary(findings: Findings) -> Iterator[str]:
    cohort: CohortTables = findings.cohort
    features: FeatureMap = findings.features
    images: Guesses = findings.images
    count = len(cohort.tables)
    patients = len(frozenset().union(*(table.patients for table in cohort.tables)))
    yield f"{count} {_plural('table', count)} with {patients} {_plural('patient', patients)}"
    for name, mapped in features.modalities.items():
        yield f"{name}: {len(mapped)} {_plural('feature', len(mapped))}"
    yield f"images: {', '.join(images) or 'none'}"
    yield f"targets: {', '.join(findings.targets) or 'none was recognised: the one in the file is only a column'}"
    for sentence in findings.without_outcome if "recurrence" not in findings.targets else ():
        yield f"no time to an event: {sentence}"
    if features.by_hand:
        yield f"to be named by hand, with `codes` to the studies' categories: {'; '.join(features.by_hand)}"
    left = sum(use.startswith("not used") for uses in features.uses.values() for use in uses.values())
    if left or findings.refused:
        counts = ((left, "column"), (len(findings.refused), "file or table"))
        what = [f"{count} {_plural(thing, count)}" for count, thing in counts if count]
        yield f"not used: {' and '.join(what)}; the reasons are at the end of the file"


def _plural(thing: str, count: int) -> str:
    """`columns`, `files or tables`; one of them as it is."""
    return thing if count == 1 else " or ".join(f"{word}s" for word in thing.split(" or "))
