"""Section on the patients: characteristics by site (Table 1), differences between sites, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from server.report.study import Study
from server.report.tables import by_site
from server.study.results.patients_section import Characteristic, PatientFlow
from shared_models.pages.drawing import ROLES
from shared_models.pages.elements import Element, Notice, Row, Section, Table, not_recorded
from shared_models.pages.numbers import NBSP, NONE, count, names, number, percent

TITLE = "Patients and missing values"
MAX_FEATURES = 25
LARGE = 0.5
Column = Mapping[tuple[str, str], Characteristic]
"""A column of Table 1: the characteristics of some patients, by table and feature."""


def section(study: Study) -> Section:
    """Who the patients are, how sites differ, and which values they lack."""
    sites = study.results.sites
    if not sites:
        return not_recorded(TITLE, "no site had answered when the study ended.")
    columns = _columns(study)
    shown = _features(columns)
    elements: list[Element] = []
    large: list[str] = []
    if shown:
        smd = {key: _largest_smd(columns, key) for key in shown}
        large = [f"{key[1]} ({number(value)})" for key, value in smd.items() if value is not None and value > LARGE]
        elements += [_table_one(columns, shown[:MAX_FEATURES], smd)]
        missing = _missing(columns, shown[:MAX_FEATURES])
        elements.append(missing or Notice("No value of these features is missing.", ""))
    if len(shown) > MAX_FEATURES:
        text = f"{len(shown) - MAX_FEATURES} more features are in results.json."
        elements.append(Notice(f"The first {MAX_FEATURES} features are shown.", text))
    elements.append(_modalities(study))
    return Section(TITLE, _lead(study, large, bool(shown)), elements)


def _lead(study: Study, large: Sequence[str], described: bool) -> str:
    lacking = [
        f"{site.site} lacks {name}" for site in study.training for name, has in site.modalities.items() if not has
    ]
    lead = f"{'; '.join(lacking[:6])}." if lacking else "Every site that trains has every modality."
    if large:
        lead += f" Sites differ by more than {LARGE} standard deviations in {names(large, most=5)}."
    return lead if described else f"{lead} Characteristics of patients are not recorded."


def _columns(study: Study) -> dict[str, Column]:
    """Test patients of each site and of all sites of a role, and those trained on; by heading."""
    columns = {site.site: _characteristics(site.flow, "test") for site in study.results.sites}
    for role in ROLES:
        columns[f"all {role}"] = _characteristics(study.results.flow.get(role), "test")
    columns["all trained on"] = _characteristics(study.results.flow.get("internal"), "train")
    return {heading: column for heading, column in columns.items() if column}


def _characteristics(flow: PatientFlow | None, part: str) -> Column:
    return {(one.table, one.feature): one for one in flow.characteristics.get(part, [])} if flow else {}


def _features(columns: Mapping[str, Column]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(key for column in columns.values() for key in column))


def _table_one(
    columns: Mapping[str, Column], shown: Sequence[tuple[str, str]], smd: Mapping[tuple[str, str], float | None]
) -> Table:
    rows = []
    for key in shown:
        values = [column.get(key) for column in columns.values()]
        difference = number(smd[key]) if smd[key] is not None else NONE
        kind = next((one for one in values if one), None)
        if kind is None or not kind.categories:
            log = " (log)" if kind and kind.log else ""
            rows.append(Row(f"{key[1]}{log}, mean (SD)", [*map(_mean, values), difference]))
            continue
        for category in list(kind.categories)[-1 if len(kind.categories) == 2 else 0 :]:
            rows.append(Row(f"{key[1]}: {category}", [*(_share(one, category) for one in values), difference]))
    caption = (
        "Test patients by hospital, of those with a known value; “all trained on”: training patients of all sites. "
        f"SMD: largest standardised mean difference between two of the columns. {NONE}: not told, or not there."
    )
    if all(value is None for value in smd.values()):
        return by_site("Characteristic", list(columns), [replace(row, cells=row.cells[:-1]) for row in rows], caption)
    return by_site("Characteristic", list(columns), rows, caption, last="largest SMD")


def _mean(one: Characteristic | None) -> str:
    if one is None or one.mean is None:
        return NONE
    digits = 0 if abs(one.mean) >= 100 else 1 if abs(one.mean) >= 10 else 2
    return f"{number(one.mean, digits)} ({number(one.deviation, digits)})"


def _share(one: Characteristic | None, category: str) -> str:
    if one is None or not one.categories or not one.known:
        return NONE
    return percent(one.categories.get(category, 0) / one.known)


def _largest_smd(columns: Mapping[str, Column], key: tuple[str, str]) -> float | None:
    """The largest difference of means between two sites, over the root mean square of their deviations."""
    moments = [
        _moments(column[key]) for name, column in columns.items() if key in column and not name.startswith("all ")
    ]
    pairs = combinations([one for one in moments if one is not None], 2)
    spread = (abs(a[0] - b[0]) / math.sqrt((a[1] ** 2 + b[1] ** 2) / 2) for a, b in pairs if a[1] or b[1])
    return max(spread, default=None)


def _moments(one: Characteristic) -> tuple[float, float] | None:
    """Mean and deviation; of a category, those of the most frequent one's share."""
    if one.mean is not None and one.deviation is not None:
        return one.mean, one.deviation
    if not one.categories or not one.known:
        return None
    share = (
        max(one.categories.values()) / one.known
        if len(one.categories) > 2
        else list(one.categories.values())[-1] / one.known
    )
    return share, math.sqrt(share * (1 - share))


def _missing(columns: Mapping[str, Column], shown: Sequence[tuple[str, str]]) -> Table | None:
    """Of the features that some patients lack; the others are counted in the caption. None if nobody lacks any."""
    rows = [
        Row(f"{key[0]}: {key[1]}", [_absent(column.get(key)) for column in columns.values()])
        for key in shown
        if any(key not in column or column[key].missing for column in columns.values())
    ]
    if not rows:
        return None
    whole = len(shown) - len(rows)
    caption = (
        "Share of patients with the table whose value is missing, or not told. Missing values take the training mean "
        f"and a flag of their own; a missing modality takes a learned token. {whole} further features lack nothing."
    )
    return by_site("Missing", list(columns), rows, caption, shaded=True)


def _absent(one: Characteristic | None) -> str:
    if one is None or not one.known + one.missing:
        return "not there"
    return percent(one.missing / (one.known + one.missing))


def _modalities(study: Study) -> Table:
    rows = list(_modality_rows(study))
    caption = (
        f"Training patients with each modality; with secure aggregation a site tells only whether it has any.{NBSP}"
    )
    return by_site("Modality", [site.site for site in study.training], rows, caption)


def _modality_rows(study: Study) -> Iterator[Row]:
    yield Row("training patients", [count(site.patients.get("train")) for site in study.training], "chosen")
    for name in dict.fromkeys(name for site in study.training for name in site.modalities):
        yield Row(f"with {name}", [_has(site.modalities.get(name)) for site in study.training])


def _has(value: bool | int | None) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: NONE}[value]
    return count(value)
