"""Changes of meaning in a clean site's tables: each must stop the site, be warned of, or leave its tensors alone."""

from __future__ import annotations

import copy
import csv
import datetime
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from client.checks.counts import readiness
from client.cohort.outcomes import read_truth
from client.config.site import load_site

PATIENTS = 60
SETTINGS: dict[str, Any] = {
    "site": "s",
    "data_root": ".",
    "state_dir": "state",
    "workers": 1,
    "tables": {
        "clinical": {"file": "clinical.csv", "patient_id": "ID"},
        "lab": {"file": "lab.csv", "patient_id": "ID"},
    },
    "patients": "clinical",
    "modalities": {
        "clinical": {
            "reader": "table",
            "features": {
                "age_years": {"column": "Diagnosed", "since": "Born", "date": "%d/%m/%Y", "scale": 0.00273791},
                "delay": {"column": "Surgery", "since": "Diagnosed", "date": "%d/%m/%Y"},
                "size_mm": "Size",
                "volume_mm3": "Volume",
                "er": {"column": "ER", "codes": {"neg": "negative", "pos": "positive"}},
                "grade": "Grade",
            },
        },
        "genomic": {
            "reader": "table",
            "table": "lab",
            "features": {"ki67_percent": "Ki67", "ESR1": "ESR1", "ERBB2": "ERBB2"},
        },
    },
    "targets": {
        "relapse": {"label": {"column": "Relapse", "codes": {"no": 0, "yes": 1}}},
        "recurrence": {
            "event": {"column": "Relapse", "codes": {"no": 0, "yes": 1}},
            "event_days": ["RelapseDays"],
            "followup_days": ["LastDays"],
        },
    },
}

Cell = Callable[[str], str]


@dataclass
class Tables:
    """A site in memory: rows of texts by table, the first of them the header, and its settings."""

    clinical: list[list[str]]
    lab: list[list[str]]
    settings: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(SETTINGS))

    def change(self, name: str, change: Cell, every: int = 1, table: str = "") -> None:
        """Changes the cells of a column, or those of every n-th row."""
        rows = getattr(self, table) if table else self.clinical if name in self.clinical[0] else self.lab
        at = rows[0].index(name)
        for row in rows[1::every]:
            row[at] = change(row[at])

    def write(self, folder: Path) -> Path:
        for name in ("clinical", "lab"):
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(getattr(self, name))
        path = folder / "s.yaml"
        path.write_text(yaml.safe_dump(self.settings), encoding="utf-8")
        return path


def clean() -> Tables:
    """Plausible patients, none of whose columns hangs together with another but for the days of follow-up."""
    draw = random.Random(7)
    clinical = [
        ["ID", "Born", "Diagnosed", "Surgery", "Size", "Volume", "ER", "Grade", "Relapse", "RelapseDays", "LastDays"]
    ]
    lab = [["ID", "Ki67", "ESR1", "ERBB2"]]
    for index in range(PATIENTS):
        diagnosed = datetime.date(2012, 1, 1) + datetime.timedelta(draw.randrange(1500))
        born = diagnosed - datetime.timedelta(round(365.25 * draw.triangular(32, 85, 60)))
        dates = (born, diagnosed, diagnosed + datetime.timedelta(draw.randrange(10, 70)))
        size, last, relapsed = round(draw.triangular(6, 60, 20), 1), draw.randrange(700, 3600), draw.random() < 0.35
        row = [f"P-{index:04d}", *(f"{day:%d/%m/%Y}" for day in dates), str(size), str(round(0.5 * size**3))]
        row += [draw.choice(("neg", "pos", "pos")), draw.choice("123"), "yes" if relapsed else "no"]
        clinical.append([*row, str(draw.randrange(200, last)) if relapsed else "", str(last)])
        ki67, esr1, erbb2 = draw.randrange(3, 70), draw.gauss(8, 1.5), draw.gauss(9, 1)
        lab.append([f"P-{index:04d}", str(ki67), f"{esr1:.2f}", f"{erbb2:.2f}"])
    return Tables(clinical, lab)


def times(factor: float) -> Cell:
    return lambda text: f"{float(text) * factor:.10g}" if text else text


def as_date(before: str, after: str) -> Cell:
    return lambda text: f"{datetime.datetime.strptime(text, before):{after}}"


def later(days: float) -> Cell:
    form = "%d/%m/%Y"
    return lambda text: f"{datetime.datetime.strptime(text, form) + datetime.timedelta(days):{form}}"


def swap_where_possible(text: str) -> str:
    """What Excel with American settings makes of `04/03/2020`, and leaves of `23/03/2020`."""
    day, month, year = text.split("/")
    return f"{year}-{day}-{month}" if int(day) <= 12 else text


def to_set(name: str, text: str, every: int) -> Callable[[Tables], None]:
    return lambda site: site.change(name, lambda _: text, every)


def to(name: str, change: Cell, every: int = 1, table: str = "") -> Callable[[Tables], None]:
    return lambda site: site.change(name, change, every, table)


def feature(modality: str, name: str, **keys: Any) -> Callable[[Tables], None]:
    def change(site: Tables) -> None:
        site.settings["modalities"][modality]["features"][name] = keys

    return change


def outcome_column(site: Tables) -> None:
    site.settings["modalities"]["clinical"]["features"]["grade"] = {"column": "Relapse", "codes": {"no": 1, "yes": 3}}


def two_columns_for_one(site: Tables) -> None:
    site.settings["modalities"]["genomic"]["features"]["ESR1"] = "ERBB2"


def total_line(text: str) -> Callable[[Tables], None]:
    return lambda site: site.clinical.append([text, *site.clinical[1][1:]])


def american_thousands(text: str) -> str:
    return f"{int(text):,}"


def german_thousands(text: str) -> str:
    return american_thousands(text).replace(",", ".")


def swapped(one: str, other: str) -> Callable[[Tables], None]:
    """Two columns of the clinical table with each other's cells, where the first has one."""

    def change(site: Tables) -> None:
        first, second = site.clinical[0].index(one), site.clinical[0].index(other)
        for row in site.clinical[1:]:
            if row[first]:
                row[first], row[second] = row[second], row[first]

    return change


def recomputed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tables], None]:
    """A column of numbers, changed as a whole."""

    def apply(site: Tables) -> None:
        rows = site.clinical if name in site.clinical[0] else site.lab
        at = rows[0].index(name)
        for row, value in zip(rows[1:], change(np.array([float(row[at]) for row in rows[1:]])), strict=True):
            row[at] = f"{value:.4f}"

    return apply


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def codes(target: str, key: str, **pairs: int) -> Callable[[Tables], None]:
    return lambda site: site.settings["targets"][target][key].update(codes=pairs)


def patients_again(site: Tables) -> None:
    for row in (5, 9):
        site.clinical.append([f"Q-77{row}", *site.clinical[row][1:]])


def gene_names_by_excel(site: Tables) -> None:
    site.lab[0][2] = "1-Mar"
    site.settings["modalities"]["genomic"]["features"]["MARCH1"] = "MARCH1"


def some(name: str, change: Cell, share: float) -> Callable[[Tables], None]:
    """The cells of rows that a seed chooses."""

    def apply(site: Tables) -> None:
        draw = random.Random(1)
        site.change(name, lambda text: change(text) if draw.random() < share else text)

    return apply


def units_in_a_column(site: Tables) -> None:
    some("Size", times(0.1), 0.3)(site)
    draw, clinical = random.Random(1), site.clinical
    clinical[0].append("Size_unit")
    for row in clinical[1:]:
        row.append("cm" if draw.random() < 0.3 else "mm")


def line(*cells: str) -> Callable[[Tables], None]:
    """A line below the clinical table."""
    return lambda site: site.clinical.append([*cells, *[""] * (len(site.clinical[0]) - len(cells))])


def copied(source: int, target: int, every: int) -> Callable[[Tables], None]:
    """A cell of every n-th row in place of another one."""
    return lambda site: [row.__setitem__(target, row[source]) for row in site.clinical[1::every]] and None


def shifted(name: str) -> Callable[[Tables], None]:
    """A column one row higher than the others."""

    def apply(site: Tables) -> None:
        at = site.clinical[0].index(name)
        cells = [row[at] for row in site.clinical[1:]]
        for row, cell in zip(site.clinical[1:], [*cells[1:], cells[0]], strict=True):
            row[at] = cell

    return apply


def unknown_as_negative(site: Tables) -> None:
    some("ER", lambda _: "n.d.", 0.2)(site)
    feature("clinical", "er", column="ER", codes={"neg": "negative", "pos": "positive", "n.d.": "negative"})(site)


def known_of_relapses(site: Tables) -> None:
    for row in site.clinical[1:]:
        row[5] = row[5] if row[8] == "yes" else ""


CHANGES = {
    "a size of 99 for unknown": some("Size", lambda _: "99", 0.15),
    "a ki67 of 88 for unknown, beside rounded ones": lambda site: (
        site.change("Ki67", lambda text: str(5 * round(int(text) / 5))),
        some("Ki67", lambda _: "88", 0.15)(site),
    ),
    "a grade of two readers": some("Grade", lambda text: str(int(text) - 0.5), 0.2),
    "follow-up of 777 days for unknown": some("LastDays", lambda _: "777", 0.2),
    "days in months of 30": lambda site: (
        site.change("RelapseDays", lambda text: str(round(int(text) / 30) * 30) if text else ""),
        site.change("LastDays", lambda text: str(round(int(text) / 30) * 30)),
    ),
    "a volume that is measured after a relapse": known_of_relapses,
    "born on one day where it is not known": some("Born", lambda _: "15/06/1950", 0.15),
    "identifiers as texts of Excel": to("ID", lambda text: f'="{text}"', 3, "lab"),
    "a ki67 as logarithm": to("Ki67", lambda text: f"{math.log(int(text)):.5f}"),
    "volume in ml": to("Volume", times(1e-3)),
    "a column of units of which there are two": units_in_a_column,
    "size in cm in a third of the rows, without a gap": some("Size", times(0.1), 0.35),
    "ki67 of 99 for unknown": some("Ki67", lambda _: "99", 0.1),
    "ki67 of 0 for unknown": some("Ki67", lambda _: "0", 0.2),
    "a volume cut off at 5000": to("Volume", lambda text: str(min(int(text), 5000))),
    "missing sizes filled with the mean": some("Size", lambda _: "23.4", 0.3),
    "volumes as a spreadsheet shows them": to("Volume", lambda text: f"{float(text):.0E}"),
    "a gene centred": recomputed("ESR1", lambda values: values - values.mean()),
    "a gene centred by its median": recomputed("ESR1", lambda values: values - np.median(values)),
    "a volume from 0 to 1": recomputed("Volume", lambda values: (values - values.min()) / np.ptp(values)),
    "the date of surgery copied where it is not known": copied(2, 3, 3),
    "years of diagnosis of another calendar": to("Diagnosed", lambda text: f"{text[:6]}{int(text[6:]) - 8}"),
    "years of birth alone": to("Born", lambda text: f"01/01/{text[6:]}"),
    "a line of means and deviations": line("Moyenne ± ET", "", "", "", "23.1", "8000"),
    "a line of totals in Turkish": line("TOPLAM", "", "", "", "1386", "480000"),
    "a line of numbers of patients": line("N=60", "01/01/1960", "01/06/2014", "01/07/2014", "23.1", "8000", "pos", "2"),
    "days of relapse of the next row": shifted("RelapseDays"),
    "days of relapse missing": some("RelapseDays", lambda _: "", 0.3),
    "follow-up of 1 day for unknown": to_set("LastDays", "1", 8),
    "follow-up scaled as if it were in weeks": lambda site: site.settings["targets"]["recurrence"].update(
        event_days=[{"column": "RelapseDays", "scale": 7}], followup_days=[{"column": "LastDays", "scale": 7}]
    ),
    "a receptor not done as negative": unknown_as_negative,
    "identifiers with a Greek letter": to("ID", lambda text: text.replace("P", "\u03a1"), 3, "lab"),
    "identifiers of another spelling": to("ID", lambda text: f"ab{text}", 2, "lab"),
    "days in weeks": lambda site: (site.change("RelapseDays", times(1 / 7)), site.change("LastDays", times(1 / 7))),
    "follow-up alone in months": to("LastDays", times(1 / 30.44)),
    "relapse after the last follow-up": swapped("RelapseDays", "LastDays"),
    "follow-up of 0 days for unknown": to_set("LastDays", "0", 8),
    "a receptor's codes reversed": feature("clinical", "er", column="ER", codes={"neg": "positive", "pos": "negative"}),
    "a label's codes reversed": codes("relapse", "label", no=1, yes=0),
    "an event's codes reversed": codes("recurrence", "event", no=1, yes=0),
    "a size from another thing's column": feature("clinical", "size_mm", column="Ki67", table="lab"),
    "sizes and volumes swapped": swapped("Size", "Volume"),
    "patients again under other identifiers": patients_again,
    "a standardised gene": recomputed("ESR1", standardised),
    "a standardised volume": recomputed("Volume", standardised),
    "ki67 sorted alone": recomputed("Ki67", np.sort),
    "volumes sorted alone, downwards": recomputed("Volume", lambda values: -np.sort(-values)),
    "a gene without its decimal marks": to("ESR1", lambda text: text.replace(".", "")),
    "decimal commas in one column": to("Size", lambda text: text.replace(".", ",")),
    "gene names made dates": gene_names_by_excel,
    "a gene of 0 for unknown": to_set("ESR1", "0", 7),
    "negative volumes in some rows": to("Volume", times(-1), 7),
    "one date of surgery for all": to_set("Surgery", "01/06/2017", 1),
    "a line of units below the header": lambda site: site.clinical.insert(1, ["", "", "", "", "mm", "mm3"] + [""] * 5),
    "a line of groups above the header": lambda site: site.clinical.insert(0, ["Patient", "", "Dates"] + [""] * 8),
    "a line of notes below": lambda site: site.clinical.append(["Exported by Meier, 12.03.2021"] + [""] * 10),
    "size in cm": to("Size", times(0.1)),
    "size in cm in some rows": to("Size", times(0.01), 4),
    "size in inches times ten": to("Size", times(10)),
    "volume in cm3 in some rows": to("Volume", times(1e-3), 3),
    "volume with German thousands": to("Volume", german_thousands),
    "volume with American thousands": to("Volume", american_thousands),
    "ki67 as a share": to("Ki67", times(0.01)),
    "ki67 with percent signs": to("Ki67", lambda text: f"{text} %"),
    "ki67 with percent signs in some rows": to("Ki67", lambda text: f"{text}%", 3),
    "ki67 of 999 for unknown": to_set("Ki67", "999", 9),
    "ki67 of -1 for unknown": to_set("Ki67", "-1", 9),
    "a size of 9999 for unknown": to_set("Size", "9999", 7),
    "a volume of 99999 for unknown": to_set("Volume", "99999", 7),
    "a gene of -9 for unknown": to_set("ESR1", "-9", 7),
    "a gene that is not logged": to("ESR1", lambda text: f"{2 ** float(text):.1f}"),
    "genes of some rows that are not logged": to("ERBB2", lambda text: f"{2 ** float(text):.1f}", 3),
    "gene counts": to("ERBB2", lambda text: str(int(2 ** float(text)))),
    "a constant gene": to_set("ESR1", "8.1", 1),
    "a constant grade": to_set("Grade", "2", 1),
    "a constant receptor": to_set("ER", "pos", 1),
    "an age of 430": to("Born", later(-390 * 365), 59),
    "born with two digits of the year": lambda site: (
        site.change("Born", as_date("%d/%m/%Y", "%d/%m/%y")),
        site.change("Diagnosed", as_date("%d/%m/%Y", "%d/%m/%y")),
        feature("clinical", "age_years", column="Diagnosed", since="Born", date="%d/%m/%y", scale=0.00273791)(site),
        feature("clinical", "delay", column="Diagnosed", since="Diagnosed", date="%d/%m/%y")(site),
    ),
    "days and months swapped by Excel": to("Surgery", swap_where_possible),
    "diagnosed as day numbers": to(
        "Diagnosed",
        lambda text: str((datetime.datetime.strptime(text, "%d/%m/%Y") - datetime.datetime(1899, 12, 30)).days),
    ),
    "surgery counted from 1904": to("Surgery", later(-1462)),
    "surgery before the diagnosis in some rows": to("Surgery", later(-100), 9),
    "surgery in the future": to("Surgery", later(36500), 20),
    "born in 1900 for unknown": to_set("Born", "01/01/1900", 20),
    "surgery in 2099 for unknown": to_set("Surgery", "31/12/2099", 20),
    "days in months": lambda site: (
        site.change("RelapseDays", times(1 / 30.44)),
        site.change("LastDays", times(1 / 30.44)),
    ),
    "days in years": lambda site: (
        site.change("RelapseDays", times(1 / 365.25)),
        site.change("LastDays", times(1 / 365.25)),
    ),
    "days of relapse in months": to("RelapseDays", times(1 / 30.44)),
    "days scaled as if they were months": lambda site: site.settings["targets"]["recurrence"].update(
        event_days=[{"column": "RelapseDays", "scale": 30.44}], followup_days=[{"column": "LastDays", "scale": 30.44}]
    ),
    "follow-up of 9999 days for unknown": to_set("LastDays", "9999", 9),
    "most outcomes missing": to_set("Relapse", "", 1),
    "60 % of outcomes missing": lambda site: [row.__setitem__(8, "") for row in site.clinical[1:37]],
    "a feature made of the outcome": outcome_column,
    "a gene for another": two_columns_for_one,
    "leading zeros gone in the lab": to("ID", lambda text: text.replace("-0", "-").replace("-0", "-"), 2, "lab"),
    "all leading zeros gone in the lab": to("ID", lambda text: f"P-{int(text[2:])}", 1, "lab"),
    "identifiers of small letters in the lab": to("ID", str.lower, 3, "lab"),
    "identifiers with blanks in the lab": to("ID", lambda text: text.replace("-", " "), 3, "lab"),
    "identifiers as R writes them in the lab": to("ID", lambda text: text.replace("-", "."), 3, "lab"),
    "identifiers with no-break hyphens": to("ID", lambda text: text.replace("-", "\u2011"), 3, "lab"),
    "identifiers with invisible characters": to("ID", lambda text: f"\ufeff{text}\u200b", 3, "lab"),
    "identifiers with no-break spaces": to("ID", lambda text: f"{text}\u00a0", 3, "lab"),
    "a line of totals": total_line("Gesamt"),
    "a line of means": total_line("Mean:"),
    "an error of German Excel for an identifier": total_line("#NV"),
    "an error of Spanish Excel for an identifier": total_line("#¡REF!"),
    "a patient twice in other letters": total_line("p-0"),
    "a receptor's codes in another language": to("ER", lambda text: {"neg": "négatif", "pos": "positif"}[text], 2),
    "an outcome as 1 and 2": lambda site: (
        site.change("Relapse", lambda text: {"no": "1", "yes": "2"}[text]),
        site.settings["targets"]["relapse"].update(label="Relapse"),
        site.settings["targets"].pop("recurrence"),
    ),
}


def said_and_read(site: Tables, folder: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Errors and warnings, and all values that a study would get; none where the site is stopped."""
    result = readiness(load_site(site.write(folder)), None, None)
    warnings = [f"{problem.severity}: {problem.text}" for problem in result.problems if problem.severity != "note"]
    if result.exit_code or result.cohort_rows is None:
        return warnings, {}
    cohort_rows, values = result.cohort_rows, {}
    for name, kind in result.task.modalities.items():
        values[name] = cohort_rows.site.modalities[name].read(cohort_rows, name, kind, None).values
    return warnings, values | {name: read_truth(cohort_rows, name, kind) for name, kind in result.task.targets.items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, np.ndarray]]:
    return said_and_read(clean(), tmp_path_factory.mktemp("clean"))


def test_nothing_is_said_of_a_clean_site(expected):
    warnings, values = expected
    assert warnings == []
    assert all(np.isfinite(array).mean() > 0.8 for array in values.values())


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_meaning_is_silent(change, expected, tmp_path):
    site = clean()
    CHANGES[change](site)
    assert site != clean()
    warnings, values = said_and_read(site, tmp_path)
    same = {name: np.array_equal(values.get(name, ()), array, equal_nan=True) for name, array in expected[1].items()}
    assert warnings or all(same.values()), same
