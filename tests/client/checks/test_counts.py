import io

from rich.console import Console

from client.checks.counts import preview_task, readiness
from client.checks.readiness import FeatureCounts
from client.checks.terminal import print_readiness
from client.errors import ExitCode
from shared_models.features import Feature
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import Table, Task

FEATURES = (Feature("age_years"), Feature("grade", ("1", "2", "3")), Feature("er", ("negative", "positive")))


def printed(readiness_result):
    console = Console(file=io.StringIO(), width=100)
    print_readiness(readiness_result, console)
    return console.file.getvalue()


def test_counts_of_a_study(hospital, task, config, rows):
    table = rows(40)
    table[1][1], table[2][1], table[3][2], table[4][4] = "NA", 900, "NA", ""
    hospital.write(table)
    result = readiness(hospital.site(), config, task)
    assert result.patients == 40
    assert result.modalities == {"clinical": 40}
    assert result.features[0] == FeatureCounts("clinical", "age_years", True, 2, 1)
    assert result.features[1] == FeatureCounts("clinical", "grade", True, 1, 0)
    assert result.targets == {"recurrence": {"censored": 29, "event": 10, "unknown": 1}}
    assert sum(result.parts.values()) == 39
    problem, note = result.problems
    assert (problem.severity, note.severity) == ("warning", "note")
    assert note.text.startswith("1 patient is in no part of the split")
    assert problem.text == "clinical: age_years: 1 value is out of range and counts as missing"
    assert "scale" in problem.fix


def test_values_of_a_site_with_views_are_counted_of_its_views(hospital, task, config, rows):
    table = rows(40)
    table[1][1] = ""
    hospital.write(table)
    assert "missing values of 40 patients" in printed(readiness(hospital.site(), config, task))
    views = [[patient, view] for patient, *_ in table[1:] for view in ("CC", "MLO")]
    hospital.write([["ID", "View"], *views], "views.csv")
    hospital.settings["tables"]["views"] = {"file": "views.csv", "patient_id": "ID"}
    hospital.settings["instances"] = {"table": "views", "column": "View"}
    result = readiness(hospital.site(), config, task)
    assert (result.features[0].missing, result.counted) == (2, "80 lesions or views")


def test_a_check_does_not_fix_the_split(hospital, task, config):
    readiness(hospital.site(), config, task)
    assert not (hospital.site().state_dir / "splits").exists()


def test_without_a_study_everything_mapped_is_checked(hospital):
    hospital.phases([0, 1])
    result = readiness(hospital.site(), None, None)
    assert result.modalities == {"clinical": 40, "mri": 2}
    assert [count.feature for count in result.features] == ["age_years", "grade", "er"]
    assert result.parts == {}
    assert {path.name for path in hospital.site().state_dir.iterdir()} == {"cache", "state_version", "exams.csv"}


def test_without_a_study_kinds_come_from_the_codes(hospital):
    hospital.settings["targets"] |= {
        "er": {"label": {"column": "ER", "codes": {"no": 0, "yes": 1}}},
        "grade": {"label": {"column": "Grade", "codes": {"G1": "low", "G2": "low", "G3": "high"}}},
        "days": {"label": "Days"},
    }
    task = preview_task(hospital.site())
    assert task.tables["clinical"].features[1:] == (Feature("grade"), Feature("er", ("negative", "positive")))
    kinds = [TimeToEvent(), Binary(), Categorical(("low", "high")), Regression()]
    assert list(task.targets.values()) == kinds
    result = readiness(hospital.site(), None, None)
    assert result.targets["er"] == {"0": 20, "1": 20, "unknown": 0}
    assert result.targets["grade"] == {"low": 27, "high": 13, "unknown": 0}
    assert result.targets["days"] == {"known": 40, "unknown": 0}
    assert result.problems == ()


def test_warnings_for_a_study_that_asks_for_more(hospital, config, rows):
    header, *patients = rows(40)
    hospital.write([header, *([*row[:4], "no", row[5]] for row in patients)])
    tables = {"clinical": Table((Feature("age_years"), Feature("ki67"))), "genomic": Table((Feature("ESR1"),))}
    task = Task(tables, {"recurrence": TimeToEvent(), "her2": Binary()}, build_model=None)
    result = readiness(hospital.site(), config, task)
    assert result.modalities == {"clinical": 40, "genomic": 0}
    assert result.features[1] == FeatureCounts("clinical", "ki67", False, 40, 0)
    texts = "\n".join(problem.text for problem in result.problems)
    assert all(problem.fix for problem in result.problems if problem.severity == "warning")
    for part in (
        "modality genomic is not in the site's YAML",
        "clinical: ki67 not mapped",
        "recurrence: every patient is censored",
        "target her2 is unknown for every patient",
    ):
        assert part in texts


def test_a_column_under_another_name_is_offered_for_a_feature_that_is_not_mapped(hospital, config, rows):
    hospital.write(rows(40))
    hospital.settings["modalities"]["clinical"]["features"]["shape_code"] = "Grade"
    shape = Feature("shape", ("oval", "distorted"))
    task = Task({"mammography": Table((shape, Feature("age_years")))}, {"recurrence": TimeToEvent()}, build_model=None)
    hospital.settings["modalities"]["mammography"] = {"reader": "table", "features": {}}
    result = readiness(hospital.site(), config, task)
    text = "\n".join(f"{problem.text} {problem.fix}" for problem in result.problems)
    assert "shape_code in modalities.clinical, which may be shape, with `codes` to oval, distorted" in text
    assert "age_years in modalities.clinical, which may be age_years" in text
    assert "40 patients with a known outcome, 0 with a modality of the study, 0 with both" in text


def test_everything_that_is_wrong_is_said_and_not_only_the_first_thing(hospital, rows):
    header, *patients = rows(40)
    hospital.write([header, *([row[0], "old", row[2], "maybe", *row[4:]] for row in patients)])
    hospital.settings["modalities"]["more"] = {"reader": "table", "features": {"size_mm": "Grade"}}
    result = readiness(hospital.site(), None, None)
    assert result.exit_code == ExitCode.DATA
    assert [problem.severity for problem in result.problems].count("error") == 2
    assert [problem.text.splitlines()[0] for problem in result.problems[:2]] == ["a number cannot be read"] * 2
    assert "column 'Age'" in result.problems[0].text
    assert result.problems[0].fix
    assert result.targets["recurrence"]["event"] == 10


def test_columns_that_are_missing_are_all_named(hospital, rows):
    hospital.write([row[:2] + row[3:4] for row in rows(40)])
    result = readiness(hospital.site(), None, None)
    text = "\n".join(problem.text for problem in result.problems)
    assert result.exit_code == ExitCode.DATA
    assert "'Grade'" in text
    assert "'Event'" in text
    assert result.cohort_rows is None


def test_censored_before_the_horizon_is_counted_apart(hospital, config):
    task = Task({"clinical": Table(FEATURES)}, {"recurrence": Binary(horizon_days=900.0)}, build_model=None)
    counted = readiness(hospital.site(), config, task)
    # patient i is seen until day 100 + 37 i, every fourth of them with an event then
    days = [(100 + 37 * i, i % 4 == 0) for i in range(40)]
    expected = {
        "no event by the horizon": sum(day >= 900 and not (event and day <= 900) for day, event in days),
        "event by the horizon": sum(event and day <= 900 for day, event in days),
        "censored before the horizon": sum(day < 900 and not event for day, event in days),
        "unknown": 0,
    }
    assert counted.targets == {"recurrence": expected}
    (note,) = [problem for problem in counted.problems if "counts as 1" in problem.text]
    assert note.severity == "note"
    assert "900 days" in note.text


def test_who_is_excluded_is_counted_and_named_in_a_file_only(hospital):
    hospital.phases([0, 1, 2])
    (hospital.data / "mri/secret-001/phase2.nii.gz").write_bytes(b"no image")
    site = hospital.site()
    result = readiness(site, None, None)
    assert result.modalities["mri"] == 2
    assert [(one.patient, one.modality) for one in result.excluded] == [("secret-001", "mri")]
    assert "secret-001" in (site.state_dir / "excluded.csv").read_text()
    text = printed(result)
    assert "mri: 1 patient is excluded" in text
    assert "excluded.csv" in text
    assert "secret" not in text.replace(str(site.state_dir), "")


def test_a_feature_that_hardly_anybody_has_deserves_a_look(hospital, rows):
    header, *patients = rows(40)
    hospital.write([header, *([*row[:1], row[1] if i < 10 else "", *row[2:]] for i, row in enumerate(patients))])
    result = readiness(hospital.site(), None, None)
    assert "clinical: age_years is missing for 75%" in [problem.text for problem in result.problems]


def test_what_is_printed_holds_counts_and_no_patient(hospital, task, config, rows):
    table = rows(40)
    table[1][1] = 900
    hospital.write(table)
    text = printed(readiness(hospital.site(), config, task))
    for part in (
        "oak: 40 patients",
        "100%",
        "clinical: age_years",
        "event",
        "validation",
        "outcomes, as they are read",
        "days of follow-up",
        "Event (no: 0, yes: 1)",
        "warning: clinical: age_years: 1 value is",
        "to do:",
    ):
        assert part in text
    assert "secret" not in text


def test_a_size_in_another_unit_deserves_a_look(hospital, rows):
    header, *patients = rows(40)
    hospital.write([[*header, "Size"], *([*row, 1.5 + 0.1 * (i % 20)] for i, row in enumerate(patients))])
    features = hospital.settings["modalities"]["clinical"]["features"]
    features["size_mm"] = "Size"
    (problem,) = readiness(hospital.site(), None, None).problems
    assert problem.text == "clinical: size_mm has a median that is not between 8 and 60; check its unit, and `scale`"
    features["size_mm"] = {"column": "Size", "scale": 10}
    assert readiness(hospital.site(), None, None).problems == ()
