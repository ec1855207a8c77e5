import io

import pytest
from rich.console import Console

from client.errors import SiteError
from client.readiness import FeatureCounts, mapped_task, print_readiness, readiness
from shared_models.features import Feature
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import Table, Task


def printed(found):
    console = Console(file=io.StringIO(), width=100)
    print_readiness(found, console)
    return console.file.getvalue()


def test_counts_of_a_study(hospital, task, config, rows):
    table = rows(40)
    table[1][1], table[2][1], table[3][2], table[4][4] = "NA", 900, "NA", ""
    hospital.write(table)
    found = readiness(hospital.site(), config, task)
    assert found.patients == 40
    assert found.modalities == {"clinical": 40}
    assert found.features[0] == FeatureCounts("clinical", "age_years", True, 2, 1)
    assert found.features[1] == FeatureCounts("clinical", "grade", True, 1, 0)
    assert found.targets == {"recurrence": {"censored": 29, "event": 10, "unknown": 1}}
    assert sum(found.parts.values()) == 39
    assert found.warnings == ("clinical: 1 values of age_years are out of range and count as missing",)


def test_a_check_does_not_fix_the_split(hospital, task, config):
    readiness(hospital.site(), config, task)
    assert not (hospital.site().state_dir / "splits").exists()


def test_without_a_study_everything_mapped_is_checked(hospital):
    hospital.phases([0, 1])
    found = readiness(hospital.site(), None, None)
    assert found.modalities == {"clinical": 40, "mri": 2}
    assert [count.feature for count in found.features] == ["age_years", "grade", "er"]
    assert found.parts == {}
    assert [path.name for path in hospital.site().state_dir.iterdir()] == ["kept"]


def test_without_a_study_kinds_come_from_the_codes(hospital):
    hospital.settings["targets"] |= {
        "er": {"label": {"column": "ER", "codes": {"no": 0, "yes": 1}}},
        "grade": {"label": {"column": "Grade", "codes": {"G1": "low", "G2": "low", "G3": "high"}}},
        "days": {"label": "Days"},
    }
    task = mapped_task(hospital.site())
    assert task.tables["clinical"].features[1:] == (Feature("grade"), Feature("er", ("negative", "positive")))
    kinds = [TimeToEvent(), Binary(), Categorical(("low", "high")), Regression()]
    assert list(task.targets.values()) == kinds
    found = readiness(hospital.site(), None, None)
    assert found.targets["er"] == {"0": 20, "1": 20, "unknown": 0}
    assert found.targets["grade"] == {"low": 27, "high": 13, "unknown": 0}
    assert found.targets["days"] == {"known": 40, "unknown": 0}
    assert found.warnings == ()


def test_warnings_for_a_study_that_asks_for_more(hospital, config, rows):
    header, *patients = rows(40)
    hospital.write([header, *([*row[:4], "no", row[5]] for row in patients)])
    tables = {"clinical": Table((Feature("age_years"), Feature("ki67"))), "genomic": Table((Feature("ESR1"),))}
    task = Task(tables, {"recurrence": TimeToEvent(), "her2": Binary()}, build_model=None)
    found = readiness(hospital.site(), config, task)
    assert found.modalities == {"clinical": 40, "genomic": 0}
    assert found.features[1] == FeatureCounts("clinical", "ki67", False, 40, 0)
    said = "\n".join(found.warnings)
    for part in (
        "modality genomic is not in the site's YAML",
        "clinical: ki67 not mapped",
        "recurrence: every patient is censored",
        "target her2 is unknown for every patient",
    ):
        assert part in said


def test_bad_data_stop_the_check(hospital):
    hospital.write([["PatientID"], ["a"]])
    with pytest.raises(SiteError, match="a column is missing"):
        readiness(hospital.site(), None, None)


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
        "warning: clinical: 1 values",
    ):
        assert part in text
    assert "secret" not in text
