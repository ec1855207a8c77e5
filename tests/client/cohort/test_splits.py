from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.cohort.splits import PARTS, draw_parts, split_patients
from client.errors import ExitCode, SiteError
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
    return site.state_dir / "splits" / "elm.csv"


def test_a_split_is_kept_and_read_back(site, config):
    parts = split_patients(site, config, STRATA)
    text = stored(site).read_text()
    assert text.startswith("patient,split,seed\np0,")
    assert Counter(parts.values()) == {"train": 42, "validation": 8, "test": 10}
    later = config.model_copy(update={"test_fraction": 0.5})
    assert split_patients(site, later, dict(reversed(STRATA.items()))) == parts
    assert stored(site).read_text() == text


def test_new_patients_are_added_and_known_ones_do_not_move(site, config):
    before = split_patients(site, config, STRATA)
    some = dict(list(STRATA.items())[:20])
    assert split_patients(site, config, some) == {patient: before[patient] for patient in some}
    after = split_patients(site, config, STRATA | {f"new{i}": "1" for i in range(40)})
    assert {patient: after[patient] for patient in STRATA} == before
    assert len(stored(site).read_text().splitlines()) == 101
    assert [path.name for path in stored(site).parent.iterdir()] == ["elm.csv"]


def test_the_split_that_a_site_keeps_is_this_one_for_ever(site, config):
    """The seed is the study's name and `split-seed`; of equal remainders the test part is filled first."""
    parts = split_patients(site, config.model_copy(update={"split_seed": 3}), STRATA)
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


def test_a_site_that_trained_cannot_become_the_studys_test_set(hospital, config):
    split_patients(hospital.site(), config, STRATA)
    hospital.settings["role"] = "evaluate"
    with pytest.raises(SiteError, match="would change their part") as caught:
        split_patients(hospital.site(), config, STRATA)
    assert caught.value.exit_code is ExitCode.STUDY


def test_another_seed_needs_another_study_name(site, config):
    split_patients(site, config, STRATA)
    with pytest.raises(SiteError, match="drawn with another seed"):
        split_patients(site, config.model_copy(update={"split_seed": 1}), STRATA)
    assert split_patients(site, StudySettings(study="yew", split_seed=1), STRATA)


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
    ("text", "said"),
    [
        ("patient,split,seed\na,train,0\nb,test,0\na,test,0\n", ["in more than one split", "row 4"]),
        ("patient,split,seed\na,dev,0\n", ["in more than one split", "row 2"]),
        ("patient,fold\na,test\n", ["cannot be read", "patient, split, seed"]),
        ("patient,split,seed\na,test\n", ["cannot be read"]),
        ("patient,part,seed\na,test,0\n", ["an earlier release", "another name"]),
    ],
)
def test_a_stored_split_that_was_tampered_with(site, config, text, said):
    stored(site).parent.mkdir(parents=True)
    stored(site).write_text(text)
    with pytest.raises(SiteError) as caught:
        split_patients(site, config, STRATA)
    for part in [*said, "elm.csv"]:
        assert part in str(caught.value)
    assert stored(site).read_text() == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(strata=st.dictionaries(st.text(min_size=1, max_size=5).filter(str.strip), st.just("0"), min_size=1, max_size=9))
def test_any_identifier_survives_the_file(tmp_path_factory, hospital, config, strata):
    site = hospital.site().model_copy(update={"state_dir": tmp_path_factory.mktemp("state")})
    parts = split_patients(site, config, strata)
    assert split_patients(site, config, strata) == parts
