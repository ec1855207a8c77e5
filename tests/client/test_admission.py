from client.admission import AdmittedStudy
from shared_models.study_settings import StudySettings


def seed(hospital, name, server_round, study_seed=0):
    hospital.settings["site"] = name
    config = StudySettings(seed=study_seed)
    return AdmittedStudy(config, hospital.site(), task=None, place=None, memory=None).seed(server_round)


def test_each_site_has_a_seed_of_its_own_in_each_round_of_each_study_seed(hospital):
    seeds = {
        seed(hospital, name, server_round, study_seed)
        for name in ("oak", "elm")
        for server_round in (1, 2)
        for study_seed in (0, 1)
    }
    assert len(seeds) == 8


def test_a_round_that_is_run_again_has_the_same_seed_in_every_release(hospital):
    assert seed(hospital, "oak", 3) == seed(hospital, "oak", 3) == 942202586
