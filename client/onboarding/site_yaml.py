"""First YAML of a site from the files in a folder: `python -m client init FOLDER --site NAME`.

It proposes; the data manager decides. `# check:` stands at everything that was guessed. The only cell values in the
file are codes and texts for a missing value, of columns with few of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from client.errors import ExitCode, SiteError
from client.onboarding.column_guesses import BINARY, Entry, Guess, guess, missing_codes, outcome
from client.onboarding.found_images import find_images
from client.onboarding.found_tables import FoundTable, find_tables
from client.private_files import write_private
from shared_models.features import Feature
from shared_models.task import Task

UNUSED_SHOWN = 60


def write_first_config(folder: Path, path: Path) -> list[str]:
    """Writes a site's first YAML, `path`, from the tables and images under a folder.

    Args:
        folder: The data_root to be.
        path: `site_configs/NAME.yaml`; a file that is there is left alone.

    Returns:
        What was found, in sentences without a patient.

    Raises:
        SiteError: If there is such a YAML, no such folder, or no table that names patients.
    """
    folder = folder.expanduser().resolve()
    if path.exists():
        fix = "choose another --site, or edit the file"
        raise _refused(what="there is such a site already", where=path, found="nothing was changed", fix=fix)
    if not folder.is_dir():
        raise _refused(what="there is no such folder", where=folder, fix="name the folder that holds tables and images")
    tables, refused = find_tables(folder)
    if not tables:
        found = "; ".join(refused[:5]) or "no CSV, TSV, XLSX or Parquet file"
        fix = "export a table with a row a patient and a column with the patient's identifier"
        raise _refused(what="no table names patients", where=folder, found=found, fix=fix)
    tasks = _tasks()
    modalities = _modalities(tables, tasks)
    patients = frozenset().union(*(table.patients for table in tables))
    images, rest = find_images(folder, patients)
    targets = _targets(tables, tasks)
    lines = [
        *_head(folder, path),
        *_tables(tables),
        *_section("modalities", _modality_lines(modalities, images, tables)),
        *_section("targets", _target_lines(targets, tables)),
        *_leftovers(tables, modalities, targets, refused, rest),
    ]
    write_private(path, "\n".join(lines) + "\n")
    features = sum(len(guesses) for _, guesses in modalities.values())
    return [
        f"{len(tables)} tables with {len(patients)} patients",
        f"{features} features of {', '.join(modalities) or 'no table'}; images: {', '.join(images) or 'none'}",
        f"targets: {', '.join(targets)}",
    ]


def _refused(what: str, where: Path, fix: str, found: str = "") -> SiteError:
    return SiteError(what, where=str(where), found=found, fix=fix, exit_code=ExitCode.USAGE)


def _tasks() -> list[Task]:
    """All tasks, with what they take on request only."""
    from importlib import import_module

    from shared_models.task import task_names

    return [import_module(f"shared_models.tasks.{name}").TASK for name in task_names()]


def _modalities(tables: Sequence[FoundTable], tasks: Sequence[Task]) -> dict[str, tuple[FoundTable, dict[str, Guess]]]:
    """Each table that a task asks for, where at least half of its features were found, in the table that has most."""
    chosen: dict[str, tuple[FoundTable, dict[str, Guess]]] = {}
    wanted = [(name, kind) for task in tasks for name, kind in task.tables.items()]
    for name, kind in wanted:
        best = max(((table, _features(kind.features, table)) for table in tables), key=lambda one: len(one[1]))
        enough = 2 * len(best[1]) >= len(kind.features)
        if enough and len(best[1]) > len(chosen[name][1] if name in chosen else ()):
            chosen[name] = best
    if not chosen:
        clinical = max(wanted, key=lambda one: len(_features(one[1].features, tables[0])))
        guesses = _features(clinical[1].features, tables[0]) or _own_names(tables[0])
        chosen = {clinical[0] if guesses and clinical[1] else "clinical": (tables[0], guesses)} if guesses else {}
    return chosen


def _features(features: Sequence[Feature], table: FoundTable) -> dict[str, Guess]:
    """The best column of each feature; a column is taken by the feature whose name is most like it."""
    guesses: dict[str, Guess] = {}
    taken: set[str] = set()
    open_features = {feature.name: feature for feature in features}
    while open_features:
        offers = {name: guess(feature, table, frozenset(taken)) for name, feature in open_features.items()}
        name, best = max(offers.items(), key=lambda one: one[1].score if one[1] else 0)
        if best is None:
            break
        guesses[name] = best
        taken.add(best.entry["column"])
        del open_features[name]
    return {feature.name: guesses[feature.name] for feature in features if feature.name in guesses}


def _own_names(table: FoundTable) -> dict[str, Guess]:
    """Where no feature is known by its name: columns of numbers under names of their own."""
    from client.onboarding.vocabulary import words

    named = {"_".join(words(column)): column for column in table.columns if column != table.patient_id}
    made = {name: guess(Feature(name), table) for name in named if name}
    return {name: one for name, one in made.items() if one}


def _targets(tables: Sequence[FoundTable], tasks: Sequence[Task]) -> dict[str, tuple[FoundTable, Entry, str]]:
    from shared_models.targets import Binary, TimeToEvent

    chosen: dict[str, tuple[FoundTable, Entry, str]] = {}
    for name, kind in [one for task in tasks for one in task.targets.items()]:
        for table in tables:
            if name in chosen:
                break
            if isinstance(kind, TimeToEvent) and (made := outcome(table)):
                chosen[name] = (table, *made)
                continue
            binary = isinstance(kind, Binary | TimeToEvent)  # an event without times serves a study of its label
            feature = Feature(name, BINARY if binary else getattr(kind, "classes", ()))
            if one := guess(feature, table):
                chosen[name] = (table, {"label": _label(one.entry, binary=binary)}, one.why)
    return chosen or _any_target(tables[0])


def _label(entry: Entry, *, binary: bool) -> Entry:
    if not binary:
        return entry
    return entry | {"codes": {code: BINARY.index(meaning) for code, meaning in entry["codes"].items()}}


def _any_target(table: FoundTable) -> dict[str, tuple[FoundTable, Entry, str]]:
    """A site needs a target: some column, for the data manager to replace."""
    column = next((name for name in table.columns if name != table.patient_id), table.patient_id)
    return {"outcome": (table, {"label": {"column": column}}, "no outcome was recognised: this is only a column")}


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


def _tables(tables: Sequence[FoundTable]) -> Iterator[str]:
    yield "tables:"
    for table in tables:
        entry = {**table.form, "patient_id": table.patient_id}
        if codes := missing_codes(table):
            entry["missing"] = list(codes)
        yield f"  {table.name}: {_flow(entry)}  # check: the column of the patient, and the texts for a missing value"
    whole = next((table for table in tables if not table.several), tables[0])
    yield f"patients: {whole.name}"
    several = [table for table in tables if table.several]
    if several:
        yield f"instances: {{table: {several[0].name}}}  # check: a row is a lesion or view; `column` names it"
    yield ""


def _modality_lines(
    modalities: Mapping[str, tuple[FoundTable, dict[str, Guess]]],
    images: Mapping[str, tuple[Entry, str]],
    tables: Sequence[FoundTable],
) -> Iterator[str]:
    for name, (table, guesses) in modalities.items():
        yield f"  {name}:"
        yield "    reader: table"
        yield f"    table: {table.name}"
        yield "    features:"
        for feature, one in guesses.items():
            entry = one.entry["column"] if list(one.entry) == ["column"] else one.entry
            look = "that it is this column" + (f", and {one.why}" if one.why else "")
            yield f"      {_flow(feature)}: {_flow(entry)}  # check: {look}"
    for name, (entry, why) in images.items():
        yield f"  {name}: {_flow(entry)}  # check: {why}"


def _target_lines(targets: Mapping[str, tuple[FoundTable, Entry, str]], tables: Sequence[FoundTable]) -> Iterator[str]:
    whole = next((table for table in tables if not table.several), tables[0])
    for name, (table, entry, why) in targets.items():
        placed = entry if table is whole else _in_table(entry, table.name)
        yield f"  {name}: {_flow(placed)}  # check: that it is this column{', and ' + why if why else ''}"


def _in_table(entry: Any, table: str) -> Any:
    """The entry with each column's table."""
    if isinstance(entry, list):
        return [_in_table(one, table) for one in entry]
    if "column" in entry:
        return {"column": entry["column"], "table": table, **entry}
    return {key: _in_table(value, table) for key, value in entry.items()}


def _section(name: str, lines: Iterator[str]) -> Iterator[str]:
    yield f"{name}:"
    yield from lines
    yield ""


def _leftovers(
    tables: Sequence[FoundTable],
    modalities: Mapping[str, tuple[FoundTable, dict[str, Guess]]],
    targets: Mapping[str, tuple[FoundTable, Entry, str]],
    refused: Sequence[str],
    rest: Sequence[str],
) -> Iterator[str]:
    for table in tables:
        used = [
            one.entry["column"]
            for source, guesses in modalities.values()
            if source is table
            for one in guesses.values()
        ]
        text = "".join(str(entry) for source, entry, _ in targets.values() if source is table)
        left = [n for n in table.columns if n not in {*used, table.patient_id} and repr(n) not in text]
        more = f", and {len(left) - UNUSED_SHOWN} more" if len(left) > UNUSED_SHOWN else ""
        if left:
            names = ", ".join(" ".join(name.split()) for name in left[:UNUSED_SHOWN])
            yield f"# not used, of {table.name}: {names}{more}"
    yield from (f"# not used: {' '.join(sentence.split())}" for sentence in refused)
    yield from (f"# not used: {pattern}" for pattern in rest)


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...").strip()
