from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.cohort.split_file import PARTS
from client.cohort.splits import draw_folds, draw_parts, name_of_tested, split_patients
from client.config.site import Center
from client.errors import SiteError
from shared_models.folds import each_fold
from shared_models.study_settings import StudySettings

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}
strata_of = st.dictionaries(st.text(min_size=1, max_size=6), st.sampled_from("01"), max_size=80)


@given(strata_of)
def test_everyone_has_one_part(strata):
    parts = draw_parts(strata, FRACTIONS, "study/0", {})
    assert parts.keys() == strata.keys()
    assert set(parts.values()) <= set(PARTS)


@given(strata_of, st.randoms(use_true_random=False))
def test_the_order_of_the_patients_does_not_matter(strata, random):
    shuffled = list(strata.items())
    random.shuffle(shuffled)
    assert draw_parts(dict(shuffled), FRACTIONS, "s", {}) == draw_parts(strata, FRACTIONS, "s", {})


@given(strata_of, strata_of)
def test_who_was_drawn_before_stays_when_others_come(early, late):
    before = draw_parts(early, FRACTIONS, "s", {})
    after = draw_parts(early | late, FRACTIONS, "s", before)
    assert {patient: after[patient] for patient in early} == before
    assert after.keys() == early.keys() | late.keys()


@given(strata_of)
def test_each_stratum_is_divided_by_the_fractions(strata):
    parts = draw_parts(strata, FRACTIONS, "s", {})
    for stratum in set(strata.values()):
        members = [patient for patient in strata if strata[patient] == stratum]
        counts = Counter(parts[patient] for patient in members)
        for part, fraction in FRACTIONS.items():
            assert abs(counts[part] - fraction * len(members)) < 1


@settings(max_examples=25)
@given(strata_of, strata_of)
def test_strata_keep_their_fractions_as_patients_come(early, late):
    late = {patient: stratum for patient, stratum in late.items() if patient not in early}
    after = draw_parts(early | late, FRACTIONS, "s", draw_parts(early, FRACTIONS, "s", {}))
    for stratum in "01":
        members = [p for p, s in (early | late).items() if s == stratum]
        counts = Counter(after[patient] for patient in members)
        assert abs(counts["test"] - 0.15 * len(members)) < 2


def test_seeds_differ():
    strata = {str(i): "0" for i in range(100)}
    assert draw_parts(strata, FRACTIONS, "s/0", {}) != draw_parts(strata, FRACTIONS, "s/1", {})


def test_the_split_of_these_patients_is_this_one_for_ever():
    """A hospital's split must be drawn again the same by every later release, or test patients are trained on."""
    strata = {f"p{i:02d}": "recurred" if i % 4 == 0 else "free" for i in range(20)}
    parts = draw_parts(strata, FRACTIONS, "elm/0", {})
    # SHA-256 of "elm/0\nPATIENT" orders each stratum: 1 of 5 and 2 of 15 are tested, as many validate
    assert [patient for patient in strata if parts[patient] == "test"] == ["p03", "p04", "p17"]
    assert [patient for patient in strata if parts[patient] == "validation"] == ["p09", "p11", "p16"]
    assert Counter(parts.values())["train"] == 14


STRATA = {f"p{i}": str(i % 2) for i in range(60)}
# With the seed "elm/3": of each stratum, in the order of SHA-256, the first 5 and the next 4.
TESTED = ["p21", "p24", "p29", "p31", "p41", "p42", "p44", "p45", "p54", "p58"]
VALIDATED = ["p8", "p9", "p15", "p19", "p28", "p35", "p40", "p48"]


@pytest.fixture
def site(hospital):
    return hospital.site()


def stored(site):
    return site.state_dir / "splits" / "cohort.seed-0.test-0.15.validation-0.15.csv"


def test_a_split_is_kept_and_read_back(site, config):
    parts = split_patients(site, config, STRATA)
    text = stored(site).read_text()
    assert text.startswith("patient,split,seed\np0,")
    assert Counter(parts.values()) == {"train": 42, "validation": 8, "test": 10}
    assert split_patients(site, config, dict(reversed(STRATA.items()))) == parts
    assert stored(site).read_text() == text


def test_two_studies_of_a_cohort_test_the_same_patients(site, config):
    one = split_patients(site, config, STRATA)
    assert split_patients(site, config.model_copy(update={"study": "fir"}), STRATA) == one
    larger = split_patients(site, config.model_copy(update={"test_fraction": 0.5}), STRATA)
    tested = [{p for p, part in parts.items() if part == "test"} for parts in (one, larger)]
    assert tested[0] < tested[1]
    assert len(tested[1]) == 30


def test_a_split_with_a_name_of_its_own_is_another(site, config):
    named = config.model_copy(update={"split": "2026-elm"})
    assert split_patients(site, named, STRATA) != split_patients(site, config, STRATA)
    assert name_of_tested(site, named) == "2026-elm.seed-0.test-0.15.validation-0.15"


def test_a_split_file_of_an_earlier_release_stays_in_use_for_its_study(site, config):
    """They were named and drawn by the study; who was trained on must not be tested when it goes on."""
    old = site.state_dir / "splits" / "elm.csv"
    old.parent.mkdir(parents=True)
    rows = [f"{p},{'test' if p in TESTED else 'validation' if p in VALIDATED else 'train'},3\n" for p in STRATA]
    old.write_text("patient,split,seed\n" + "".join(rows[:50]))
    seeded = config.model_copy(update={"split_seed": 3})
    parts = split_patients(site, seeded, STRATA)
    assert [patient for patient in STRATA if parts[patient] == "test"] == TESTED  # the ten of the file's hash
    assert len(old.read_text().splitlines()) == 61
    other = split_patients(site, seeded.model_copy(update={"study": "fir"}), STRATA)
    assert other != parts


def test_new_patients_are_added_and_known_ones_do_not_move(site, config):
    before = split_patients(site, config, STRATA)
    some = dict(list(STRATA.items())[:20])
    assert split_patients(site, config, some) == {patient: before[patient] for patient in some}
    after = split_patients(site, config, STRATA | {f"new{i}": "1" for i in range(40)})
    assert {patient: after[patient] for patient in STRATA} == before
    assert len(stored(site).read_text().splitlines()) == 101
    assert [*stored(site).parent.iterdir()] == [stored(site)]


def test_the_split_that_a_site_keeps_is_this_one_for_ever(site, config):
    """The seed is the split's name and `split-seed`; of equal remainders the test part is filled first."""
    parts = split_patients(site, config.model_copy(update={"split": "elm", "split_seed": 3}), STRATA)
    assert [patient for patient in STRATA if parts[patient] == "test"] == TESTED
    assert [patient for patient in STRATA if parts[patient] == "validation"] == VALIDATED


def test_a_check_writes_nothing(site, config):
    assert split_patients(site, config, STRATA, store=False)
    assert not stored(site).exists()


@pytest.mark.parametrize("never", ["role", "study"])
def test_a_site_that_only_evaluates_tests_on_everyone(hospital, config, never):
    if never == "role":
        hospital.settings["role"] = "evaluate"
    else:
        config = config.model_copy(update={"evaluation_only_sites": "ash, oak"})
    assert set(split_patients(hospital.site(), config, STRATA).values()) == {"test"}


def test_a_file_drawn_with_another_seed_is_refused(site, config):
    split_patients(site, config, STRATA)
    stored(site).write_text(stored(site).read_text().replace(",0\r\n", ",1\r\n").replace(",0\n", ",1\n"))
    with pytest.raises(SiteError, match="drawn with another seed"):
        split_patients(site, config, STRATA)
    assert split_patients(site, StudySettings(split_seed=1), STRATA)


def test_a_published_split_is_followed_and_validation_drawn_from_training(site, config):
    published = {patient: "test" if index < 20 else "train" for index, patient in enumerate(STRATA)}
    parts = split_patients(site, config, STRATA, published)
    assert Counter(parts.values()) == {"train": 34, "validation": 6, "test": 20}
    assert all((parts[patient] == "test") == (published[patient] == "test") for patient in STRATA)
    assert split_patients(site, config, STRATA, published) == parts


def test_a_published_validation_part_is_used_as_it_is(site, config):
    published = {patient: PARTS[index % 3] for index, patient in enumerate(STRATA)}
    assert split_patients(site, config, STRATA, published) == published


def test_a_published_split_that_changes_is_refused(site, config):
    published = {patient: "test" if index < 20 else "train" for index, patient in enumerate(STRATA)}
    split_patients(site, config, STRATA, published)
    with pytest.raises(SiteError, match="would change their part"):
        split_patients(site, config, STRATA, published | {"p0": "train"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,split,seed\na,train,0\nb,test,0\na,test,0\n", ["in more than one split", "row 4"]),
        ("patient,split,seed\na,dev,0\n", ["in more than one split", "row 2"]),
        ("patient,fold\na,test\n", ["cannot be read", "patient, split, seed"]),
        ("patient,split,seed\na,test\n", ["cannot be read"]),
        ("patient,part,seed\na,test,0\n", ["an earlier release", "another name"]),
    ],
)
def test_a_stored_split_that_was_tampered_with(site, config, text, message):
    stored(site).parent.mkdir(parents=True)
    stored(site).write_text(text)
    with pytest.raises(SiteError) as caught:
        split_patients(site, config, STRATA)
    for part in [*message, stored(site).name]:
        assert part in str(caught.value)
    assert stored(site).read_text() == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(strata=st.dictionaries(st.text(min_size=1, max_size=5).filter(str.strip), st.just("0"), min_size=1, max_size=9))
def test_any_identifier_survives_the_file(tmp_path_factory, hospital, config, strata):
    site = hospital.site().model_copy(update={"state_dir": tmp_path_factory.mktemp("state")})
    parts = split_patients(site, config, strata)
    assert split_patients(site, config, strata) == parts


IN_FOLDS = StudySettings(study="elm", folds=4)


def folds_at(site, config, strata):
    return [split_patients(site, one, strata) for one in each_fold(config)]


def test_every_patient_is_tested_in_one_fold_and_each_stratum_is_divided_evenly(site):
    folds = folds_at(site, IN_FOLDS, STRATA)
    tested = Counter(patient for parts in folds for patient, part in parts.items() if part == "test")
    assert tested == dict.fromkeys(STRATA, 1)
    for parts in folds:
        assert Counter(parts.values()) == {"train": 36, "validation": 9, "test": 15}
        tested = Counter(STRATA[patient] for patient, part in parts.items() if part == "test")
        assert sorted(tested.values()) == [7, 8]


def test_folds_are_the_same_at_every_run_and_for_every_study_and_others_in_each_repeat(site, hospital):
    before = folds_at(site, IN_FOLDS, STRATA)
    assert folds_at(site, IN_FOLDS.model_copy(update={"study": "fir"}), dict(reversed(STRATA.items()))) == before
    twice = folds_at(site, IN_FOLDS.model_copy(update={"repeats": 2}), STRATA)
    assert twice[:4] == before
    assert not any(parts in before for parts in twice[4:])


def test_patients_who_come_later_join_the_folds_and_nobody_moves(site):
    before = folds_at(site, IN_FOLDS, STRATA)
    after = folds_at(site, IN_FOLDS, STRATA | {f"new{i}": "1" for i in range(20)})
    for early, late in zip(before, after, strict=True):
        assert {patient: late[patient] for patient in STRATA} == early
        assert Counter(late.values())["test"] == 20
    (file,) = (site.state_dir / "splits").iterdir()
    assert file.read_text().splitlines()[0] == "patient,fold-1,fold-2,fold-3,fold-4,seed"
    assert name_of_tested(site, each_fold(IN_FOLDS)[1]) == f"{file.stem}.fold-2"


def test_folds_do_not_use_the_split_that_a_site_brings(site):
    published = dict.fromkeys(STRATA, "train")
    assert split_patients(site, each_fold(IN_FOLDS)[0], STRATA, published) == folds_at(site, IN_FOLDS, STRATA)[0]


@given(strata_of, st.integers(2, 5))
def test_folds_of_any_strata_differ_by_one_patient_of_a_stratum_at_most(strata, folds):
    assigned = draw_folds(strata, folds, "s", {})
    for stratum in set(strata.values()):
        sizes = Counter(assigned[patient] for patient in strata if strata[patient] == stratum)
        assert max(sizes.values()) - min(sizes[fold] for fold in range(folds)) <= 1


def test_more_folds_than_patients_of_a_class_are_refused(site, hospital):
    few = {f"p{i}": "1" if i < 3 else "0" for i in range(30)}
    with pytest.raises(SiteError, match="more folds than this site has patients of one class") as caught:
        split_patients(site, each_fold(IN_FOLDS)[0], few)
    assert "at most 3 folds" in str(caught.value)
    assert not (site.state_dir / "splits").exists()
    hospital.settings["role"] = "evaluate"
    assert set(split_patients(hospital.site(), each_fold(IN_FOLDS)[0], few).values()) == {"test"}


def test_a_site_left_out_is_tested_on_everyone_and_trains_in_the_other_folds_as_ever(site):
    config = StudySettings(study="elm", leave_out="each", sites="ash, oak, yew")
    ash, oak, yew = folds_at(site, config, STRATA)
    assert set(oak.values()) == {"test"}
    assert ash == yew == split_patients(site, StudySettings(study="fir"), STRATA)
    names = [name_of_tested(site, one) for one in each_fold(config)]
    assert names[1] == "everyone"
    assert names[0] == names[2] == stored(site).stem


@pytest.mark.parametrize("text", ["patient,fold-1,seed\na,test,0\n", "patient,fold-1,fold-2,seed\na,test,test,0\n"])
def test_a_file_of_folds_that_was_tampered_with(site, text):
    split_patients(site, each_fold(StudySettings(folds=2))[0], STRATA)
    (file,) = (site.state_dir / "splits").iterdir()
    file.write_text(text)
    with pytest.raises(SiteError, match="split"):
        split_patients(site, each_fold(StudySettings(folds=2))[1], STRATA)


def test_a_split_that_is_nearly_an_earlier_one_is_refused_where_a_center_could_compare_both(hospital):
    """One patient more in the test part: the difference of two studies' sums of training patients would be hers."""
    strata = {f"p{number}": str(number % 2) for number in range(60)}
    alone = hospital.site()
    site = alone.model_copy(update={"center": Center.model_construct()})

    def split(fraction, name="", site=site, strata=strata, validation=0.1):
        config = StudySettings(test_fraction=fraction, validation_fraction=validation, split=name)
        return split_patients(site, config, strata)

    first = split(0.2)
    with pytest.raises(SiteError, match="the part train differs") as error:
        split(0.22)
    assert "test-fraction" in error.value.public
    assert split(0.2) == first
    assert Counter(split(0.5).values())["test"] == 30
    assert Counter(split(0.22, "another").values())["test"] == 14
    moved = {patient for patient, part in split(0.22, site=alone).items() if part != first[patient]}
    assert 0 < len(moved) < 5, "what was refused would have told of them"
    split(0.3, "small", validation=0.02)
    with pytest.raises(SiteError, match="the part train differs"):
        split(0.3, "small", validation=1e-5)
    split(0.3, "grows")
    more = strata | {f"q{number}": "new" for number in range(4)}  # in a stratum of their own they move nobody
    assert split(0.3, "grows", strata=more, validation=0.4).keys() == more.keys()


def test_nor_is_a_split_into_folds_nearly_one_of_an_earlier_study(hospital):
    site = hospital.site().model_copy(update={"center": Center.model_construct()})
    strata = {f"p{number}": str(number % 2) for number in range(60)}

    def split(fraction, **folds):
        config = StudySettings(folds=5, validation_fraction=fraction, **folds)
        return [split_patients(site, fold, strata) for fold in each_fold(config)]

    first = split(0.1)
    with pytest.raises(SiteError, match="the part train of fold-1 differs"):
        split(0.14)
    assert split(0.1) == first
    assert len(split(0.14, split="another")) == 5
    assert split(0.3) != first
