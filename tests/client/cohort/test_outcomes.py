import numpy as np
import pytest

from client.cohort.outcomes import read_truth
from client.cohort.rows import open_rows
from client.errors import ExitCode, SiteError
from shared_models.features import Feature
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import Table, Task

ROWS = [
    ["PatientID", "Event", "Local", "Distant", "SeenA", "SeenB", "Grade", "Ki67"],
    ["a", "yes", "900", "400", "950", "", "G1", "20"],
    ["b", "no", "", "", "700", "800", "G2", ""],
    ["c", "no", "", "", "", "", "NA", "35.5"],
    ["d", "yes", "", "", "100", "", "G3", "1"],
    ["e", "", "5", "", "100", "", "", ""],
]
EVENT = {
    "event": {"column": "Event", "codes": {"no": 0, "yes": 1}},
    "event_days": ["Local", "Distant"],
    "followup_days": ["SeenA", "SeenB"],
}


@pytest.fixture
def truth(hospital):
    def read(outcome, target):
        hospital.settings["targets"] = {"t": outcome}
        task = Task({}, {"t": target}, build_model=None)
        return read_truth(open_rows(hospital.site(), task), "t", target)

    hospital.write(ROWS)
    return read


def test_the_earliest_event_or_the_latest_follow_up(truth):
    labels = truth(EVENT, TimeToEvent())
    expected = [[400, 1], [800, 0], [np.nan, np.nan], [np.nan, np.nan], [np.nan, np.nan]]
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.float32


def test_a_horizon_makes_a_label_and_leaves_early_censoring_unknown(truth):
    np.testing.assert_array_equal(truth(EVENT, Binary(horizon_days=500)), [1, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(truth(EVENT, Binary(horizon_days=300)), [0, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(truth(EVENT, Binary(horizon_days=850)), [1, np.nan, np.nan, np.nan, np.nan])


def test_the_day_of_the_horizon_itself_belongs_to_it(truth):
    np.testing.assert_array_equal(truth(EVENT, Binary(horizon_days=400)), [1, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(truth(EVENT, Binary(horizon_days=399)), [0, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(truth(EVENT, Binary(horizon_days=800)), [1, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(truth(EVENT, Binary(horizon_days=801)), [1, np.nan, np.nan, np.nan, np.nan])


def test_labels(truth):
    grade = {"label": {"column": "Grade", "codes": {"G1": "low", "G2": "low", "G3": "high"}}}
    np.testing.assert_array_equal(truth(grade, Categorical(("low", "high"))), [0, 0, np.nan, 1, np.nan])
    yes = {"label": {"column": "Event", "codes": {"no": 0, "yes": 1}}}
    np.testing.assert_array_equal(truth(yes, Binary()), [1, 0, 0, 1, np.nan])
    np.testing.assert_array_equal(truth({"label": "Ki67"}, Regression()), [20, np.nan, 35.5, 1, np.nan])


def test_a_target_that_is_not_mapped_is_unknown(hospital):
    task = Task({}, {"recurrence": TimeToEvent(), "er": Binary()}, build_model=None)
    cohort_rows = open_rows(hospital.site(), task)
    assert np.isnan(read_truth(cohort_rows, "er", Binary())).all()
    assert read_truth(cohort_rows, "gone", TimeToEvent()).shape == (40, 2)


@pytest.mark.parametrize(
    ("outcome", "target", "message", "code"),
    [
        ({"label": "Ki67"}, Binary(), ["neither 0 nor 1", "20", "rows 2, 4", "'Ki67'"], ExitCode.DATA),
        ({"label": "Ki67"}, TimeToEvent(), ["targets.t", "`event`"], ExitCode.STUDY),
        (EVENT, Categorical(("a",)), ["targets.t", "a `label` column"], ExitCode.STUDY),
        (EVENT, Binary(), ["targets.t", "a `label` column"], ExitCode.STUDY),
    ],
)
def test_an_outcome_of_the_wrong_kind(truth, outcome, target, message, code):
    with pytest.raises(SiteError) as caught:
        truth(outcome, target)
    for part in message:
        assert part in str(caught.value)
    assert caught.value.exit_code is code


def test_days_before_the_diagnosis(hospital, truth):
    hospital.write([*ROWS, ["f", "yes", "-3", "", "", "", "", ""]])
    with pytest.raises(SiteError, match="row 7"):
        truth(EVENT, TimeToEvent())
    ranged = EVENT | {"event_days": [{"column": "Local", "range": [0, 9999]}, "Distant"]}
    assert np.isnan(truth(ranged, TimeToEvent())[5]).all()


def test_days_between_dates_of_two_columns(hospital, truth):
    rows = [
        ["PatientID", "Event", "Diagnosis", "Relapse", "Seen"],
        ["a", "yes", "01.02.2015", "02.02.2016", "01.01.2020"],
        ["b", "no", "28.02.2016", "", "01.03.2016"],
        ["c", "no", "", "", "01.01.2020"],
    ]
    hospital.write(rows)
    days = {"since": "Diagnosis", "date": "%d.%m.%Y"}
    outcome = {
        "event": {"column": "Event", "codes": {"no": 0, "yes": 1}},
        "event_days": [{"column": "Relapse", **days}],
        "followup_days": [{"column": "Seen", **days}],
    }
    np.testing.assert_array_equal(truth(outcome, TimeToEvent()), [[366, 1], [2, 0], [np.nan, np.nan]])
    rows[1][3], rows[2][4] = "31.02.2016", "30.02.2016"
    hospital.write(rows)
    with pytest.raises(SiteError, match="a date cannot be read") as caught:
        truth(outcome, TimeToEvent())
    assert "'31.02.2016' in row 2" in str(caught.value)
    rows[1][3], rows[2][4] = "02.02.2016", "42430"  # Excel may have read 03.01.2016
    hospital.write(rows)
    with pytest.raises(SiteError, match="dates are written in two ways"):
        truth(outcome, TimeToEvent())
    rows[1][3] = "31.01.2015"
    rows[2][4] = ""
    hospital.write(rows)
    with pytest.raises(SiteError, match="a date lies before the one from which days are counted"):
        truth(outcome, TimeToEvent())


def test_an_age_between_dates_is_a_feature(hospital, rows):
    table = rows(40)
    table[0].append("Born")
    table[0].append("Diagnosed")
    for row in table[1:]:
        row += ["1950-06-01", "2010-06-01"]
    hospital.write(table)
    age = {"column": "Diagnosed", "since": "Born", "scale": 1 / 365.25, "range": [15, 110]}
    hospital.settings["modalities"]["clinical"]["features"]["age_years"] = age
    site = hospital.site()
    features = (Feature("age_years"),)
    task = Task({"clinical": Table(features)}, {"recurrence": TimeToEvent()}, build_model=None)
    values = site.modalities["clinical"].values(open_rows(site, task), features).values
    np.testing.assert_allclose(values[:, 0], 60, atol=0.01)
