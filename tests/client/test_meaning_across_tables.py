"""Changes of meaning that no single column shows: rows moved, columns exchanged, scales turned round, rows pasted."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.client.test_meaning_of_tables import Tables, said_and_read

PATIENTS = 150
RECEPTOR = {"neg": "negative", "pos": "positive"}
GENES = ("ESR1", "PGR", "ERBB2", "MKI67", "GATA3", "KRT5")
NUMBERS = {"age_years": "Age", "size_mm": "Size", "t_stage": "T", "grade": "Grade", "ki67_percent": "Ki67"} | {
    **{"nodes_positive": "Nodes", "nodes_examined": "Examined", "height_cm": "Height", "weight_kg": "Weight"},
    **{"bmi": "BMI"},
}
SETTINGS: dict[str, Any] = {
    **{"site": "s", "data_root": ".", "state_dir": "state", "workers": 1, "patients": "clinical"},
    "tables": {name: {"file": f"{name}.csv", "patient_id": "ID"} for name in ("clinical", "lab")},
    "modalities": {
        "clinical": {
            "reader": "table",
            "features": {
                **NUMBERS,
                **{name: {"column": name.upper(), "codes": RECEPTOR} for name in ("er", "pr", "her2")},
                "menopause": {"column": "Menopause", "codes": {"pre": "pre", "post": "post"}},
            },
        },
        "genomic": {"reader": "table", "table": "lab", "features": {gene: gene for gene in GENES}},
    },
    "targets": {
        "recurrence": {
            "event": {"column": "Relapse", "codes": {"no": 0, "yes": 1}},
            "event_days": ["RelapseDays"],
            "followup_days": ["LastDays"],
        }
    },
}
Change = Callable[[Tables], Any]


def clean() -> Tables:
    """Patients whose findings hang together as they do in hospitals, in no order, the tables in two orders."""
    draw = random.Random(13)
    clinical, lab = [], []
    for index in range(PATIENTS):
        age, size = round(min(89, max(27, draw.gauss(59, 12))), 1), min(110, round(math.exp(draw.gauss(3, 0.5))))
        examined = draw.randrange(2, 25)
        nodes = min(examined, int(draw.expovariate(0.5)))
        er, her2 = draw.random() < 0.72, draw.random() < 0.17
        pr, grade = er and draw.random() < 0.85, draw.choice("11222233" if er else "122333")
        ki67 = round(min(95, max(1, draw.gauss(15 * int(grade), 8))))
        height, weight = round(draw.gauss(163, 7)), round(max(42, draw.gauss(70, 13)), 1)
        last, relapsed = draw.randrange(900, 3900), draw.random() < (0.12 if nodes < 2 else 0.5)
        name, bmi = f"BC{1000 + 7 * index}", f"{weight / (height / 100) ** 2:.1f}"
        findings = (age, size, 1 + (size > 20) + (size > 50), nodes, examined, grade, ki67, height, weight, bmi)
        receptors = ("pos" if one else "neg" for one in (er, pr, her2))
        menopause = "post" if age > draw.gauss(51, 2) else "pre"
        outcome = ("yes" if relapsed else "no", draw.randrange(200, last) if relapsed else "", last)
        clinical.append([name, *map(str, (*findings, *receptors, menopause, *outcome))])
        levels = ((11.5, 6.5)[not er], (9, 5.5)[not pr], (13.5, 10.5)[not her2], 7 + ki67 / 25, (12, 8.5)[not er], 6.5)
        lab.append([name, *(f"{draw.gauss(level, 0.9):.3f}" for level in levels)])
    draw.shuffle(clinical)
    draw.shuffle(lab)
    head = ["Age", "Size", "T", "Nodes", "Examined", "Grade", "Ki67", "Height", "Weight", "BMI", "ER", "PR", "HER2"]
    head = ["ID", *head, "Menopause", "Relapse", "RelapseDays", "LastDays"]
    return Tables([head, *clinical], [["ID", *GENES], *lab], copy.deepcopy(SETTINGS))


def column(name: str, change: Callable[[list[str]], list[str]]) -> Change:
    """A column, changed as a whole."""

    def apply(site: Tables) -> None:
        rows = site.clinical if name in site.clinical[0] else site.lab
        at = rows[0].index(name) if name != "lab" else 0
        for row, cell in zip(rows[1:], change([row[at] for row in rows[1:]]), strict=True):
            row[at] = cell

    return apply


def of_lab(change: Callable[[list[str]], list[str]]) -> Change:
    """The lab's identifiers, changed as a whole."""
    return lambda site: [
        row.__setitem__(0, cell)
        for row, cell in zip(site.lab[1:], change([row[0] for row in site.lab[1:]]), strict=True)
    ]


def next_row(cells: list[str]) -> list[str]:
    return [*cells[1:], cells[0]]


def shuffled(cells: list[str]) -> list[str]:
    return random.Random(2).sample(cells, len(cells))


def exchanged(one: str, other: str, every: int = 1) -> Change:
    def apply(site: Tables) -> None:
        rows = site.clinical if one in site.clinical[0] else site.lab
        first, second = rows[0].index(one), rows[0].index(other)
        for row in rows[1::every]:
            row[first], row[second] = row[second], row[first]

    return apply


def pasted(site: Tables) -> None:
    for row in range(40, 52):
        site.clinical[row][1:8] = site.clinical[row - 12][1:8]


def natural_logarithms(site: Tables) -> None:
    for row in site.lab[1::3]:
        row[1:] = [f"{0.6931 * float(cell):.3f}" for cell in row[1:]]


def times(factor: float) -> Callable[[list[str]], list[str]]:
    return lambda cells: [f"{float(cell) * factor:.0f}" if cell else "" for cell in cells]


def dragged(cells: list[str]) -> list[str]:
    return [*cells[:20], *(str(40 + step) for step in range(25)), *cells[45:]]


def filled_down(cells: list[str]) -> list[str]:
    return [cells[index - index % 5] for index in range(len(cells))]


def genes(change: Callable[[float], float], every: int = 1) -> Change:
    """All genes of every n-th patient."""
    return lambda site: [
        row.__setitem__(slice(1, None), [f"{change(float(cell)):.3f}" for cell in row[1:]])
        for row in site.lab[1::every]
    ]


def ranks(site: Tables) -> None:
    for name in GENES:
        at = site.lab[0].index(name)
        for rank, row in enumerate(sorted(site.lab[1:], key=lambda row: float(row[at])), start=1):
            row[at] = str(rank)


CHANGES: dict[str, Change] = {
    "patients with and without the event exchanged": column(
        "Relapse", lambda cells: [{"yes": "no", "no": "yes"}[cell] for cell in cells]
    ),
    "grades turned over": column("Grade", lambda cells: [str(4 - int(cell)) for cell in cells]),
    "a registry's codes among the nodes": column("Nodes", lambda cells: ["98", *cells[1:9], "95", *cells[10:]]),
    "genes rounded": genes(lambda level: round(level)),
    "genes logged twice": genes(lambda level: math.log2(1 + level)),
    "genes not logged in few patients": genes(lambda level: 2**level, 40),
    "genes of samples that failed": genes(lambda level: 0.0, 40),
    "ranks of genes": ranks,
    "the lab's identifiers one row lower": of_lab(next_row),
    "the lab's identifiers shuffled": of_lab(shuffled),
    "sizes of the next row": column("Size", next_row),
    "receptors of the next row": column("ER", next_row),
    "Ki-67 of the next row": column("Ki67", next_row),
    "sizes sorted alone": column("Size", lambda cells: sorted(cells, key=float)),
    "ages dragged": column("Age", dragged),
    "Ki-67 filled down": column("Ki67", filled_down),
    "rows pasted over others": pasted,
    "natural logarithms in some rows": natural_logarithms,
    "ER and PR exchanged": exchanged("ER", "PR"),
    "ER and HER2 exchanged": exchanged("ER", "HER2"),
    "two genes exchanged": exchanged("ESR1", "ERBB2"),
    "a gene as 30 minus its value": column("ESR1", lambda cells: [f"{30 - float(cell):.3f}" for cell in cells]),
    "nodes positive and examined exchanged": exchanged("Nodes", "Examined", 4),
    "height and weight exchanged in some rows": exchanged("Height", "Weight", 8),
    "weights in pounds": column("Weight", times(2.2046)),
    "heights in inches": column("Height", times(1 / 2.54)),
    "ages in decades": column("Age", lambda cells: [f"{round(float(cell), -1):.0f}" for cell in cells]),
    "days of relapse in weeks": column("RelapseDays", times(1 / 7)),
    "days of relapse in months in some rows": column(
        "RelapseDays", lambda cells: [times(1 / 30.44)([c])[0] if i % 5 < 2 else c for i, c in enumerate(cells)]
    ),
    "follow-up cut off at five years": column("LastDays", lambda cells: [str(min(int(c), 1826)) for c in cells]),
    "the N stage in place of positive nodes": column(
        "Nodes", lambda cells: [str((int(c) > 0) + (int(c) > 3) + (int(c) > 9)) for c in cells]
    ),
    "nodes examined in place of positive ones": column("Nodes", lambda cells: [str(int(c) + 9) for c in cells]),
    "follow-up in whole years": column("LastDays", lambda cells: [str(round(int(c) / 365) * 365) for c in cells]),
    "follow-up in half years": column("LastDays", lambda cells: [str(round(int(c) / 183) * 183) for c in cells]),
    "each 0 of the days replaced by nothing": column(
        "LastDays", lambda cells: [c.replace("0", "") or "1" for c in cells]
    ),
    "days cut to three digits": column("LastDays", lambda cells: [c[:3] for c in cells]),
    "the last three digits of the days": column("LastDays", lambda cells: [str(int(c[-3:])) for c in cells]),
    "ages that R recycled": column("Age", lambda cells: [*cells[:50]] * 3),
    "nobody has relapsed in the last rows": column("Relapse", lambda cells: [*cells[:90], *["no"] * 60]),
    "nodes not entered in the last rows": column("Nodes", lambda cells: [*cells[:110], *["0"] * 40]),
    "patients of a test": lambda site: site.clinical.append(["TEST1", *site.clinical[9][1:8], *site.clinical[4][8:]]),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, np.ndarray]]:
    return said_and_read(clean(), tmp_path_factory.mktemp("clean"))


def test_nothing_is_said_of_patients_as_they_are(expected: tuple[list[str], dict[str, np.ndarray]]) -> None:
    warnings, values = expected
    assert warnings == []
    assert values["clinical"].shape[0] == PATIENTS


def test_the_latest_patients_of_a_file_have_no_event_yet(tmp_path: Any) -> None:
    site = clean()
    for row in site.clinical[91:]:
        row[-3:] = ["no", "", str(60 + int(row[-1]) % 300)]
    assert not any("not entered yet" in text for text in said_and_read(site, tmp_path)[0])


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_across_columns_is_silent(change: str, tmp_path: Any) -> None:
    site = clean()
    CHANGES[change](site)
    assert site != clean()
    assert said_and_read(site, tmp_path)[0]
