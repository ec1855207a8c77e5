"""Lines of a site's first YAML: entries with what to check of each, and a map of every column in comments."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from client.onboarding.cohort_tables import CohortTables
from client.onboarding.column_texts import missing_codes
from client.onboarding.feature_map import FeatureMap, MappedFeature
from client.onboarding.image_discovery import Guesses
from client.onboarding.table_discovery import DiscoveredTable
from client.onboarding.target_guesses import MappedTarget
from shared_models.task import Task

_NO_IMAGES = "# no images: those of a PACS with DICOMweb are copied by `fetch`; see `dicomweb` in example.yaml"
MAX_MAPPED = 120  # lines of a table's map
NAME_WIDTH = 44
MAX_LISTED = 120  # features in columns of their own names that are listed one by one


@dataclass(frozen=True)
class Findings:
    """All that `init` has found in a folder.

    Attributes:
        folder: The data_root to be.
        cohort: The tables.
        features: The map of their columns.
        targets: By the study's name for each.
        images: The image modalities: an entry each, and what to check of it.
        refused: A sentence on each file that is not used.
        without_outcome: Why there is no time to an event, table by table; empty where there is one.
    """

    folder: Path
    cohort: CohortTables
    features: FeatureMap
    targets: dict[str, MappedTarget]
    images: Guesses
    refused: Sequence[str]
    without_outcome: Sequence[str]


def yaml_text(findings: Findings, path: Path, tasks: Sequence[Task]) -> str:
    """The file's text; `path` is where it will be."""
    lines = [
        *_head(findings.folder, path),
        *_tables(findings.cohort),
        "modalities:",
        *_modality_lines(findings),
        "",
        "targets:",
        *_target_lines(findings),
        "",
        *_map(findings),
        *([] if findings.images else [_NO_IMAGES]),
        *(f"# not used: {' '.join(sentence.split())}" for sentence in findings.refused),
        *(f"# not used: {sentence}" for sentence in findings.features.left_out),
        *_missing_modalities(findings, tasks),
    ]
    return "\n".join(lines) + "\n"


def _head(folder: Path, path: Path) -> Iterator[str]:
    near = folder.is_relative_to(path.resolve().parent.parent)
    root = os.path.relpath(folder, path.resolve().parent) if near else str(folder)
    yield f"# Written by `python -m client init` from the files in {folder.name}."
    yield "# Every key is explained in site_configs/example.yaml."
    yield "# Review each `# check:`, then run  python -m client check --site NAME  and read its report."
    yield "# Codes are compared with the cells as they are; no other value of a patient is in this file."
    yield ""
    yield f"site: {_flow(path.stem)}"
    yield f"data_root: {_flow(root)}"
    yield "state_dir: ../state"
    yield "# center: {address: HOST:443, ca_certificate: ca.crt, private_key: NAME.key}   # to take part"
    yield ""


def _tables(cohort: CohortTables) -> Iterator[str]:
    yield "tables:"
    for table in cohort.tables:
        entry = {**table.form} if "genes" in table.form else {**table.form, "patient_id": table.patient_id}
        if codes := missing_codes(table):
            entry["missing"] = list(codes)
        yield f"  {table.name}: {_flow(entry)}  # check: the column of the patient, and the texts for a missing value"
    yield f"patients: {cohort.patients.name}"
    if cohort.instances:
        entry = {
            "table": cohort.instances.name,
            **({"column": cohort.instance_column} if cohort.instance_column else {}),
        }
        yield f"instances: {_flow(entry)}  # check: a row is a lesion or view; `column` names it"
    yield ""


def _modality_lines(findings: Findings) -> Iterator[str]:
    for name, features in findings.features.modalities.items():
        tables = [one.table for one in features.values()]
        main = max(dict.fromkeys(tables), key=tables.count)
        yield f"  {name}:"
        yield "    reader: table"
        yield f"    table: {main.name}"
        same = [feature for feature, one in features.items() if _entry(one, main) == feature]
        if len(same) > MAX_LISTED:
            yield f"    same_names: true  # check: {len(same)} features in columns of their own names"
            features = {feature: one for feature, one in features.items() if feature not in set(same)}
        yield "    features:" if features else "    features: {}"
        for feature, one in features.items():
            look = "that it is this column" + (f", and {one.guess.why}" if one.guess.why else "")
            yield f"      {_flow(feature)}: {_flow(_entry(one, main))}  # check: {look}"
    for name, (entry, why) in findings.images.items():
        yield f"  {name}: {_flow(entry)}  # check: {why}"
    if not findings.features.modalities and not findings.images:
        entry = {"reader": "table", "features": {"unknown": _any_column(findings.cohort.patients)}}
        yield f"  clinical: {_flow(entry)}  # check: nothing was recognised: this is only a column"


def _entry(one: MappedFeature, main: DiscoveredTable) -> Any:
    entry = one.guess.entry
    if one.table is not main:
        return {"column": entry["column"], "table": one.table.name, **entry}
    return entry["column"] if list(entry) == ["column"] else entry


def _target_lines(findings: Findings) -> Iterator[str]:
    for name, target in findings.targets.items():
        entry = target.entry if target.table is findings.cohort.patients else _in_table(target.entry, target.table.name)
        look = f"that it is this column{', and ' + target.why if target.why else ''}"
        yield f"  {name}: {_flow(entry)}  # check: {look}"
    if not findings.targets:
        entry = {"label": {"column": _any_column(findings.cohort.patients)}}
        yield f"  outcome: {_flow(entry)}  # check: no outcome was recognised: this is only a column"


def _any_column(table: DiscoveredTable) -> str:
    """A site needs a target: some column, for the data manager to replace."""
    return next((name for name in table.columns if name != table.patient_id), table.patient_id)


def _in_table(entry: Any, table: str) -> Any:
    """The entry with each column's table."""
    if isinstance(entry, str):
        return {"column": entry, "table": table}
    if isinstance(entry, list):
        return [_in_table(one, table) for one in entry]
    if "column" in entry:
        return {"column": entry["column"], "table": table, **entry}
    return {key: _in_table(value, table) for key, value in entry.items()}


def _map(findings: Findings) -> Iterator[str]:
    """What became of each column, as a table in comments; those that are used alike in very wide tables are counted."""
    for table in findings.cohort.tables:
        uses = findings.features.uses.get(table.name, {})
        columns = [" ".join(name.split()) for name in table.columns]
        width = min(NAME_WIDTH, max(map(len, columns)))
        yield f"# The columns of {table.name}, and what became of each:"
        yield f"#   {'column':{width}} | use"
        for name, shown in list(zip(table.columns, columns, strict=True))[:MAX_MAPPED]:
            yield f"#   {shown:{width}} | {uses.get(name, '')}"
        if len(columns) > MAX_MAPPED:
            yield f"#   and {len(columns) - MAX_MAPPED} more"
        yield "#"


def _missing_modalities(findings: Findings, tasks: Sequence[Task]) -> Iterator[str]:
    """What tasks ask for and nothing here is known to be, so that no one looks for it in vain."""
    there = {*findings.features.modalities, *findings.images}
    lacking = dict.fromkeys(name for task in tasks for name in task.modalities if name not in there)
    if lacking:
        yield f"# nothing was found for these modalities of this release's tasks: {', '.join(lacking)}"
    for sentence in findings.without_outcome:
        yield f"# no time to an event: {sentence}"


class _Plain(yaml.SafeDumper):
    """Writes what appears twice twice: anchors would only puzzle."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.dump(
        value, Dumper=_Plain, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
