"""Columns of hospitals in seven languages, outcomes in many forms, and a first study that runs without an edit."""

import math
from datetime import datetime, timedelta

import numpy as np
import pytest
from openpyxl import Workbook

from client.checks.counts import readiness
from client.checks.run import load_study
from client.cohort.rows import open_rows
from client.config.site import load_site
from client.onboarding.category_words import category_of
from client.onboarding.code_meanings import binary_codes, step_codes
from client.onboarding.site_yaml import _tasks, write_first_config
from client.tables.values import numbers
from shared_models.study_settings import StudySettings
from shared_models.task import load_task

COUNT = 30


def table(columns):
    """A header, and rows of which each column takes its values in turn."""
    rows = [[f"P{i:03d}", *(values[i % len(values)] for values in columns.values())] for i in range(COUNT)]
    return [["Patient ID", *columns], *rows]


@pytest.fixture
def first(hospital, tmp_path):
    """The site that `init` makes of some columns, its text, and what the command says."""

    def make(columns, study=None, **form):
        hospital.write(table(columns), **form)
        path = tmp_path / "site_configs/oak.yaml"
        summary = write_first_config(hospital.data, path, study)
        return load_site(path), path.read_text(encoding="utf-8"), summary

    return make


AGES, SIZES, KI67 = range(31, 85), [i / 10 for i in range(5, 60, 3)], range(2, 90, 7)
LANGUAGES = {
    "German": ("Alter bei ED", "Tumordurchmesser", "LK-Befall", "Östrogenrezeptor", "Grading", "Menopausenstatus"),
    "French": ("Âge", "Taille tumorale", "Ganglions", "Récepteurs œstrogènes", "Grade SBR", "Statut ménopausique"),
    "Spanish": ("Edad", "Tamaño del tumor", "Ganglios", "Receptor de estrógeno", "Grado histológico", "Menopausia"),
    "Italian": ("Età", "Dimensioni", "Linfonodi", "Recettori estrogeni", "Grado istologico", "Stato menopausale"),
    "Dutch": ("Leeftijd", "Tumorgrootte", "Lymfeklieren", "Oestrogeenreceptor", "Gradering", "Menopauze"),
    "Portuguese": ("Idade", "Tamanho", "Linfonodos", "Receptor de estrogênio", "Grau histológico", "Estado menopausal"),
    "English": ("Age at diagnosis", "Tumour size", "lymph_node", "ER status", "Histologic grade", "Menopausal status"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_columns_of_a_language_are_known(language, first):
    age, size, nodes, er, grade, menopause = LANGUAGES[language]
    values = [
        AGES,
        range(4, 70),
        ["LN-", "LN+"],
        ["ER-", "ER+", "ER+"],
        ["G1", "G2", "G3"],
        ["premenop.", "postmenop."],
    ]
    made, _, _ = first(dict(zip((age, size, nodes, er, grade, menopause), values, strict=True)))
    features = made.modalities["clinical"].features
    assert set(features) == {"age_years", "size_mm", "nodes", "er", "grade", "menopause"}
    assert features["er"].codes == {"ER-": "negative", "ER+": "positive"}
    assert features["grade"].codes == {"G1": 1, "G2": 2, "G3": 3}


OUTCOMES = {
    "months and cBioPortal's status": (
        {"DFS_STATUS": ["0:DiseaseFree", "1:Recurred/Progressed"], "DFS_MONTHS": [i / 2 for i in range(20, 300, 7)]},
        ({"0:DiseaseFree": 0, "1:Recurred/Progressed": 1}, ["DFS_MONTHS"], ["DFS_MONTHS"]),
    ),
    "status in words": (
        {"Relapse Free Status": ["Not Recurred", "Recurred"], "Relapse Free Status (Months)": range(9, 200, 5)},
        ({"Not Recurred": 0, "Recurred": 1}, *[["Relapse Free Status (Months)"]] * 2),
    ),
    "one letter each": ({"E": [0, 0, 1], "T": range(100, 3000, 90)}, ({"0": 0, "1": 1}, ["T"], ["T"])),
    "pairs of dates": (
        {
            "Erstdiagnose": ["03.02.2015", "24.12.2015"],
            "Rezidiv": ["nein", "ja"],
            "Rezidivdatum": ["", "13.05.2017"],
            "Letzter Kontakt": ["30.06.2021", "01.02.2019"],
        },
        ({"ja": 1, "nein": 0}, ["Rezidivdatum"], ["Letzter Kontakt"]),
    ),
    "distant metastasis beside death": (
        {"dmfs_event": [0, 1], "dmfs_time": range(90, 4000, 31), "os_event": [1, 0], "os_time": range(95, 4000, 31)},
        ({"0": 0, "1": 1}, ["dmfs_time"], ["dmfs_time"]),
    ),
    "death alone": (
        {"Vital status": ["alive", "dead", "unknown"], "Overall survival (days)": range(90, 4000, 31)},
        ({"alive": 0, "dead": 1}, *[["Overall survival (days)"]] * 2),
    ),
}


@pytest.mark.parametrize("form", OUTCOMES)
def test_an_outcome_is_found_in_whatever_form(form, first):
    columns, (codes, event_days, followup_days) = OUTCOMES[form]
    made, text, _ = first({"Age": AGES, **columns})
    outcome = made.targets["recurrence"]
    assert {str(code): value for code, value in outcome.event.codes.items()} == codes
    assert [one.column for one in outcome.event_days] == event_days
    assert [one.column for one in outcome.followup_days] == followup_days
    assert readiness(made, None, None).exit_code == 0
    assert ("death counts as recurrence" in text) == (form == "death alone")


def test_no_outcome_is_said_and_so_is_every_column(first):
    made, text, summary = first(
        {"Age": AGES, "Notes": [f"a note {i}" for i in range(COUNT)], "Relapse date": ["", "2020-01-01"]}
    )
    assert any("no time to an event" in one for one in summary)
    assert "Notes        | not used: holds remarks in free text" in text
    assert "Relapse date | not used: is known after the diagnosis" in text
    assert "a note" not in text
    assert set(made.modalities["clinical"].features) == {"age_years"}


def test_columns_that_no_study_knows_are_offered_under_their_own_names(first):
    made, _, _ = first({"Alkohol (g/d)": range(0, 90, 4), "Seite": ["links", "rechts"], "Raucher": ["ja", "nein"]})
    features = made.modalities["clinical"].features
    assert {name: column.codes for name, column in features.items()} == {
        "alkohol_g_d": None,
        "seite": {"links": "links", "rechts": "rechts"},
        "raucher": {"ja": 1, "nein": 0},
    }


def test_a_workbook_is_read_for_its_good_sheets(hospital, tmp_path):
    (hospital.data / "clinical.csv").unlink()
    book = Workbook()
    notes = book.active
    notes.title = "Legende"
    for row in (["Feld", "Bedeutung"], ["Alter", "in Jahren"], ["", ""], ["ER", "Rezeptor"]):
        notes.append(row)
    notes.merge_cells("A2:B3")
    sheet = book.create_sheet("Daten")
    for row in table({"Alter": AGES, "ER": ["neg", "pos"]}):
        sheet.append(row)
    book.save(hospital.data / "mamma.xlsx")
    path = tmp_path / "site_configs/oak.yaml"
    write_first_config(hospital.data, path)
    made = load_site(path)
    assert made.tables["daten"].sheet == "Daten"
    assert set(made.modalities["clinical"].features) == {"age_years", "er"}
    assert "# not used: mamma.xlsx, sheet 'Legende'" in path.read_text(encoding="utf-8")


def test_a_register_of_several_sheets_under_titles(hospital, tmp_path):
    (hospital.data / "clinical.csv").unlink()
    born, diagnosed = datetime(1950, 3, 1), [datetime(2010 + i % 5, 5, 1 + i % 28) for i in range(COUNT)]
    recurs = [day + timedelta(days=400 + 10 * i) if i % 3 == 0 else None for i, day in enumerate(diagnosed)]
    ids = [f"NK-{i:03d}" for i in range(COUNT)]
    basis = [["Pat.-Nr.", "Geburtsdatum", "Diagnosedatum"]]
    basis += [[one, born, at] for one, at in zip(ids, diagnosed, strict=True)]
    after = [["Pat.-Nr.", "Rezidiv (j/n)", "Datum Rezidiv", "Letzter Kontakt"]]
    dates = zip(ids, recurs, diagnosed, strict=True)
    after += [[one, "j" if at else "n", at, day + timedelta(days=2000)] for one, at, day in dates]
    views = [["NHC", "Ansicht", "Seite"], *([one, view, "L"] for one in ids for view in ("CC", "MLO"))]
    book = Workbook()
    for title, rows in (("Stammdaten", basis), ("Nachsorge", after)):
        sheet = book.create_sheet(title)
        for row in (["Export, Klinikum", "12.03.2024"], [], *rows):
            sheet.append(row)
    del book["Sheet"]
    book.save(hospital.data / "register.xlsx")
    hospital.write(views, "views.csv")
    path = tmp_path / "site_configs/oak.yaml"
    write_first_config(hospital.data, path)
    made = load_site(path)
    assert {name: one.skip_rows for name, one in made.tables.items()} == {"stammdaten": 2, "nachsorge": 2, "views": 0}
    assert made.instances.table == "views"
    assert made.modalities["clinical"].features["age_years"].since == "Geburtsdatum"
    task = load_task(StudySettings(task="recurrence_clinical", features="clinical: age_years"))
    opened = open_rows(made, task).of_patients()[0]
    (column,) = made.targets["recurrence"].event_days
    days = numbers(opened.cells(column), column)
    expected = [400 + 10 * i if i % 3 == 0 else math.nan for i in range(COUNT)]
    np.testing.assert_array_equal(days, expected)


def test_the_patients_of_most_that_studies_ask_for_are_taken(hospital, tmp_path):
    hospital.write([["Code", "Region"], *([f"X{i}", "north"] for i in range(90))], "centers.csv")
    path = tmp_path / "site_configs/oak.yaml"
    write_first_config(hospital.data, path)
    made = load_site(path)
    assert list(made.tables) == ["clinical"]
    assert "# not used: centers.csv: 0 of its 90 patients are in clinical.csv" in path.read_text(encoding="utf-8")


def test_a_study_runs_from_what_init_wrote(first, hospital, tmp_path):
    days = {"recur": [0, 1, 0], "rtime": range(200, 3000, 70)}
    columns = {"Age": AGES, "Size": range(4, 70), "Amount": [2**i for i in range(COUNT)], "Type": ["a", "b", "c"]}
    made, _, summary = first(columns | days, tmp_path / "first.toml")
    assert any("a study of recurrence_clinical" in one for one in summary)
    config, task = load_study(tmp_path / "first.toml")
    assert "amount:log" in config.features
    assert "type{a|b|c}" in config.features
    result = readiness(made, config, task)
    assert result.exit_code == 0
    assert result.modalities == {"clinical": COUNT}


def test_one_table_alone_makes_a_site(hospital, tmp_path):
    hospital.write(table({"Age": range(20, 50), "Other": range(30)}), "second.csv")
    path = tmp_path / "site_configs/oak.yaml"
    write_first_config(hospital.data / "second.csv", path)
    assert [str(one.file) for one in load_site(path).tables.values()] == ["second.csv"]


@pytest.mark.parametrize(
    ("name", "texts", "codes"),
    [
        ("her2", ["0", "1+", "2+", "3+"], {"0": "negative", "1+": "negative", "3+": "positive"}),
        ("her2", ["negativ", "1+", "2+", "3+"], {"negativ": "negative", "1+": "negative", "3+": "positive"}),
        ("er", ["0", "5", "90"], {"0": "negative", "5": "positive", "90": "positive"}),
        ("pr", ["1", "2"], {"1": "negative", "2": "positive"}),
        ("er", ["0 = neg", "1 = pos"], {"0 = neg": "negative", "1 = pos": "positive"}),
        ("nodes", ["pN0(sn)", "pN1a", "pNX"], {"pN0(sn)": "negative", "pN1a": "positive"}),
        ("x", ["oui", "non"], {"non": "negative", "oui": "positive"}),
        ("x", ["Sí", "No"], {"No": "negative", "Sí": "positive"}),
        ("x", ["Miller", "Schulz"], {}),
    ],
)
def test_codes_of_two_kinds(name, texts, codes):
    assert binary_codes(name, texts)[0] == codes


@pytest.mark.parametrize(
    ("feature", "texts", "categories"),
    [
        ("subtype", "Luminal A, LumB, HER2-enriched, TNBC", "luminal_a, luminal_b, her2, triple_negative"),
        ("subtype", "Luminal B (HER2 negative), HER2 pos., HER2-, HER2 negative", "luminal_b, her2, -, -"),
        ("subtype", "luminal, basal-like, luminal a or b, LA, TN", "-, -, -, luminal_a, triple_negative"),
        ("margin", "glatt, unscharf, ind, non-circumscribed", "circumscribed, ill_defined, ill_defined, -"),
        (
            "margin",
            "microlobulé, circonscrit, ill-defined and spiculated",
            "obscured_or_microlobulated, circumscribed, -",
        ),
        (
            "density",
            "A, ACR c, heterogeneously dense, extrem dicht",
            "fatty, heterogeneous, heterogeneous, extremely_dense",
        ),
        ("density", "<25%, 25-50 %, 51-75%, >75%", "fatty, scattered, heterogeneous, extremely_dense"),
        ("density", "<75%, >25%", "-, -"),
        ("hemisphere", "L, rechts, droit, left and right", "left, right, right, -"),
        ("region", "lobo frontale, Kleinhirn, brain stem", "frontal, cerebellum, brainstem"),
    ],
)
def test_texts_name_the_categories_of_tasks_and_none_where_they_deny_or_name_two(feature, texts, categories):
    known = {one.name: one.categories for task in _tasks() for kind in task.tables.values() for one in kind.features}
    named = [category_of(text, known[feature]) or "-" for text in texts.split(", ")]
    assert named == categories.split(", ")


def test_steps_hold_their_number():
    assert step_codes("t_stage", ["pT1c", "T2", "pTis", "ypT3 (m)", "TX"]) == (
        {"pT1c": 1, "T2": 2, "pTis": 0, "ypT3 (m)": 3},
        ["TX"],
    )
    assert step_codes("stage", ["Stage IIA", "IV", "unbekannt"])[0] == {"Stage IIA": 2, "IV": 4}
    assert step_codes("grade", ["well differentiated", "poorly differentiated"])[0] == {
        "well differentiated": 1,
        "poorly differentiated": 3,
    }


def test_a_study_folder_of_cbioportal_makes_a_site(hospital, tmp_path):
    (hospital.data / "clinical.csv").unlink()
    patients = [f"MB-{i:04d}" for i in range(COUNT)]
    head = "#Patient\tAge\tStatus\tMonths\n#a\tb\tc\td\n#STRING\tNUMBER\tSTRING\tNUMBER\n#1\t1\t1\t1\n"
    status = ("0:Not Recurred", "1:Recurred")
    rows = [f"{p}\t{40 + i % 31}\t{status[i % 3 == 0]}\t{12 + 4.5 * i}" for i, p in enumerate(patients)]
    lines = ["PATIENT_ID\tAGE\tRFS_STATUS\tRFS_MONTHS", *rows]
    (hospital.data / "data_clinical_patient.txt").write_text(head + "\n".join(lines))
    values = ["\t".join(f"{8 + (i * k) % 7 / 3:.2f}" for i in range(COUNT)) for k in range(1, 5)]
    names = ("ESR1", "PGR", "BRCA1", "TP53")
    genes = [f"{gene}\t{k}\t{row}" for k, (gene, row) in enumerate(zip(names, values, strict=True))]
    header = "\t".join(("Hugo_Symbol", "Entrez_Gene_Id", *patients))
    (hospital.data / "data_mrna.txt").write_text("\n".join((header, *genes)))
    path = tmp_path / "site_configs/oak.yaml"
    write_first_config(hospital.data, path, tmp_path / "first.toml")
    made = load_site(path)
    assert set(made.modalities["genomic"].features) == {"ESR1", "PGR", "BRCA1", "TP53"}
    result = readiness(made, *load_study(tmp_path / "first.toml"))
    assert result.exit_code == 0, result.problems
    assert result.modalities == {"clinical": COUNT, "genomic": COUNT}
