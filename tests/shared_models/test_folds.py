import pytest

from shared_models.agreed import settings_hash
from shared_models.folds import FoldSettings, each_fold, fold_of, fold_settings, folds_of, trainings
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings

FOLDS = StudySettings(study="elm", folds=3, repeats=2)
EACH = StudySettings(study="elm", leave_out="each", sites="ash, oak, yew, fir", evaluation_only_sites="fir")


def test_a_study_of_one_split_has_no_folds():
    assert folds_of(StudySettings()) == ()
    assert each_fold(StudySettings()) == [StudySettings()]
    assert fold_of(StudySettings()) is None


def test_each_repeat_has_its_folds_in_order():
    labels = [fold.label for fold in folds_of(FOLDS)]
    assert labels == [f"repeat-{repeat}-fold-{part}" for repeat in (1, 2) for part in (1, 2, 3)]
    assert [fold.label for fold in folds_of(StudySettings(folds=2))] == ["fold-1", "fold-2"]


def test_every_site_that_trains_is_left_out_once():
    assert [fold.left_out for fold in folds_of(EACH)] == ["ash", "oak", "yew"]
    assert [one.never_train for one in each_fold(EACH)] == [("fir", "ash"), ("fir", "oak"), ("fir", "yew")]
    assert {named for one in each_fold(EACH) for named in one.expected_sites} == {"ash", "oak", "yew", "fir"}


@pytest.mark.parametrize("config", [FOLDS, EACH])
def test_a_folds_settings_say_which_fold_they_are_of(config):
    for fold in folds_of(config):
        own = fold_settings(config, fold)
        assert isinstance(own, FoldSettings)
        assert fold_of(own) == fold
        assert own.study == f"elm/{fold.label}"
        assert folds_of(own) == ()
    assert len({settings_hash(own) for own in [config, *each_fold(config)]}) == len(folds_of(config)) + 1


def test_a_site_is_trained_on_in_each_fold_but_the_one_that_leaves_it_out():
    assert [trainings(one) for one in (StudySettings(), FOLDS, EACH)] == [1, 6, 2]
    assert {trainings(one) for one in each_fold(FOLDS)} == {6}
    assert {trainings(one) for one in each_fold(EACH)} == {2}


@pytest.mark.parametrize("count", [3, 4, 5])
def test_whether_sums_are_secure_is_the_same_for_a_study_and_its_folds(count):
    config = StudySettings(leave_out="each", sites=",".join(f"s{number}" for number in range(count)))
    assert {uses_secure_aggregation(one) for one in [config, *each_fold(config)]} == {count >= 4}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 1}, "expected 2 or more"),
        ({"repeats": 2}, "each repeat has other folds"),
        ({"folds": 5, "leave-out": "each"}, "not both"),
        ({"folds": 2, "validation-fraction": 0.5}, "a fold of 2 leave no patients"),
        ({"resume": True, "overwrite": True}, "not both"),
        ({"split": "../other"}, "split"),
    ],
)
def test_settings_that_cannot_stand_together(values, message):
    with pytest.raises(SettingsError, match=message):
        parse_study_settings(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name the sites"),
        ({"sites": "ash, oak"}, "leaves 1 of 2 sites to train, and min-sites is 2"),
        ({"sites": "a, b, c", "min_sites": 3, "secure_aggregation": "on"}, "leaves 2 of 3 sites"),
        ({"sites": "a, b, c", "min_sites": 3}, "set min-sites=2"),
    ],
)
def test_too_few_sites_to_leave_one_out(values, message):
    with pytest.raises(SettingsError, match=message):
        folds_of(StudySettings(leave_out="each", **values))
