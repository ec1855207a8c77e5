"""Sites of a simulation: from their YAML files, or one site divided into several."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from client.cohort.load import load_cohort
from client.config.site import SiteConfig, load_site
from client.errors import ExitCode, SiteError
from client.tables.read import read_table
from client.tables.values import normal_code
from shared_models.folds import each_fold
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import load_task

Sites = dict[str, Path]
NO_WAIT_S = 1e-3


def find_sites(files: Sequence[Path], data_root: Path | None = None, folder: Path | None = None) -> Sites:
    """Site name to settings file.

    Args:
        files: A settings file for each site.
        data_root: Replaces the files' own `data_root`; the changed settings are then written to `folder`.
        folder: Where to.

    Raises:
        SettingsError: If two files describe the same site.
        SiteError: If a file is not valid.
    """
    sites: Sites = {}
    for file in files:
        site = load_site(file, data_root)
        if site.site in sites:
            msg = f"{file} and {sites[site.site]} both describe the site {site.site!r}; give each its own `site`"
            raise SettingsError(msg)
        sites[site.site] = write_site(site, folder) if data_root and folder else file
    return sites


def fitted_to(config: StudySettings, sites: Sites) -> StudySettings:
    """The study as a center that knows these sites would write it, where it leaves that open.

    It names the sites and those that only evaluate, so that `secure-aggregation = "auto"` comes to the same as in a
    deployment; and it says what `outcome = "auto"` is.
    """
    config = with_outcome(config, sites)
    if config.sites:
        absent = set(config.expected_sites) - {*sites}  # no site joins a simulation later
        return config.model_copy(update={"join_timeout_s": NO_WAIT_S}) if absent else config
    outside = [name for name, file in sites.items() if load_site(file).role == "evaluate"]
    never = dict.fromkeys([*config.never_train, *outside])
    return config.model_copy(update={"sites": ", ".join(sites), "evaluation_only_sites": ", ".join(never)})


def refuse_canary(config: StudySettings) -> None:
    """Refuses the settings of a canary, which has no results.

    Raises:
        SettingsError: If they are.
    """
    if config.canary:
        msg = "canary: it trains one round of a deployment, `python -m server run --canary`; simulate the study itself"
        raise SettingsError(msg)


def require_folds(config: StudySettings, sites: Sites) -> None:
    """Refuses folds that a site's patients cannot be divided into, before anything is trained; names all such sites.

    Raises:
        SiteError: If a site that trains has fewer patients of a class than there are folds, or cannot be opened.
    """
    if not config.folds:
        return
    first, task, refusals = each_fold(config)[0], load_task(config), dict[str, SiteError]()
    for name, file in sites.items():
        try:
            load_cohort(load_site(file), task, first, store_split=False)
        except SiteError as error:
            refusals[name] = error
    if len(refusals) == 1:
        raise next(iter(refusals.values()))
    if refusals:
        evaluating = ",".join([*config.never_train, *refusals])
        raise SiteError(
            what=f"{len(refusals)} of {len(sites)} sites cannot take part in a study of {config.folds} folds",
            where=f"study {config.study}",
            found="\n".join(f"{name}: {one.what}: {one.found}" for name, one in refusals.items()),
            fix=f"set fewer folds, or let them only evaluate: --set evaluation-only-sites={evaluating}",
            exit_code=ExitCode.STUDY,
        )


def with_outcome(config: StudySettings, sites: Sites) -> StudySettings:
    """The study with what `outcome = "auto"` is: `binary` where sites have labels and none has times."""
    if config.outcome != "auto":
        return config
    timed = {name for name, target in load_task(config).targets.items() if isinstance(target, TimeToEvent)}
    known = [load_site(file).targets for file in sites.values()]
    outcomes = [targets[name] for targets in known for name in timed if name in targets]
    binary = bool(outcomes) and all(outcome.event is None for outcome in outcomes)
    return config.model_copy(update={"outcome": "binary" if binary else "time-to-event"})


def divide(
    file: Path,
    folder: Path,
    *,
    by: str | None = None,
    into: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    data_root: Path | None = None,
) -> Sites:
    """Makes several sites of one: their settings differ in name and in `include`.

    Args:
        file: The settings of the undivided site.
        folder: Where the new settings files go.
        by: A column of the patients table, or `TABLE:COLUMN`.
        into: With no column, how many equal shares of the patients.
        groups: With a column, the values of each new site by its name; without, each value is a site.
        data_root: Replaces the file's own.

    Raises:
        SettingsError: If neither or both of `by` and `into` are given, fewer than two sites would result, or the
            site already takes part of its rows by `include`.
    """
    if (by is None) == (into is None):
        msg = "--split needs --by COLUMN or --into N"
        raise SettingsError(msg)
    site = load_site(file, data_root)
    if site.include is not None:
        msg = f"--split: {file} takes part of its rows by `include`, which a division would undo; take it out first"
        raise SettingsError(msg)
    if by is not None:
        table, _, column = by.rpartition(":")
        table = table or site.patients_table
        groups = groups or {value: [value] for value in _values(site, table, column)}
    else:
        table, column = site.patients_table, site.tables[site.patients_table].patient_id
        groups = _shares(site, table, int(into or 0))
    if len(groups) < 2:
        msg = f"--split: {len(groups)} site would result, at least 2 are needed"
        raise SettingsError(msg)
    sites: Sites = {}
    for name, values in groups.items():
        label = _label(f"{site.site}-{name}", sites)
        include = {"table": table, "column": column, "values": list(values)}
        sites[label] = write_site(site, folder, site=label, include=include)
    return sites


def write_site(original: SiteConfig, folder: Path, **changes: Any) -> Path:
    """Writes a site's settings with some changed; its state lies beside them."""
    values = original.model_dump(mode="json", exclude_defaults=True, exclude={"center", "state_dir"})
    path = folder / f"{changes.get('site', original.site)}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values | changes, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _label(name: str, taken: Sites) -> str:
    """A site name made of `name`; `+` and `-` would both become `-`, so a name that is taken gets a number."""
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:60]
    numbered = (label if number == 1 else f"{label}-{number}" for number in itertools.count(1))
    return next(candidate for candidate in numbered if candidate not in taken)


def _values(site: SiteConfig, table: str, column: str) -> list[str]:
    """The column's codes, each in one of its spellings: `1` and `1.0` are the same patients."""
    if table not in site.tables:
        msg = f"--by: there is no table {table!r}; the site has {', '.join(site.tables)}"
        raise SettingsError(msg)
    texts = sorted(text for text in read_table(site, table, [column]).cells[column] if text)
    decimal = site.tables[table].decimal
    return sorted({normal_code(text, decimal): text for text in reversed(texts)}.values())


def _shares(site: SiteConfig, table: str, count: int) -> dict[str, list[str]]:
    # a set: where a row is a lesion, a patient is in several, and would else be at several sites
    patients = sorted(
        set(read_table(site, table, []).patients), key=lambda patient: hashlib.sha256(patient.encode()).digest()
    )
    if not 2 <= count <= len(patients):
        raise SiteError(
            what="the patients cannot be divided into that many sites",
            where=f"table {table!r}",
            found=f"{len(patients)} patients, {count} sites",
            expected="2 sites or more, and a patient for each",
            fix="choose another --into",
            exit_code=ExitCode.USAGE,
        )
    return {f"{index + 1}": patients[index::count] for index in range(count)}
