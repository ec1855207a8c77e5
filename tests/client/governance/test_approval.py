"""What a hospital approves, and that nothing else is read, sent or trained there."""

from __future__ import annotations

import io
import json
import re
from typing import get_args

import pytest
import tomli_w
import yaml

from client.__main__ import main
from client.app import app
from client.config.site import load_site
from client.errors import ExitCode, SiteError
from client.governance.approval import approvals, approvals_of, approve, check_approval, revoke
from client.governance.audit import audit_of
from client.governance.chained_log import read
from client.governance.ledger import Charge, charge, charges
from client.governance.policy_checks import ledger_of
from client.verbs.approval_summary import make_summary
from server.app import run_study
from shared_models.agreed import CENTERS_OWN, settings_hash
from shared_models.errors import UserError
from shared_models.messages import EvaluateComparisonReply, EvaluateExternalReply
from shared_models.messages.payload import fields_of
from shared_models.messages.tables import replies
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task
from simulation.engines.in_process_grid import InProcessGrid

NOT_APPROVED = "the site has not approved this study"
OTHER_SETTINGS = "the site has approved this study with other settings (seed); it takes part once it has approved these"


@pytest.fixture
def deployed(hospitals):
    """Hospitals that a center reaches, `{name: YAML}`; their policy may be given."""

    def write(patients, **policy):
        files = hospitals(patients)
        for name, file in files.items():
            center = {"address": "center.example.org", "ca_certificate": "ca.crt", "private_key": name}
            file.write_text(file.read_text() + yaml.safe_dump({"center": center, "policy": policy}))
        return files

    return write


@pytest.fixture
def study_file(small_study, tmp_path):
    """The study as the center hands it out, with other settings if asked."""

    def write(**settings):
        path = tmp_path / "study.toml"
        path.write_text(tomli_w.dumps({**small_study, **settings}))
        return path

    return write


def test_an_approval_records_the_image_it_was_given_in(deployed, small_study, monkeypatch):
    (file,) = deployed({"oak": 12}).values()
    site, config = load_site(file), parse_study_settings(small_study)
    assert "image" not in approve(site, config)
    digest = "0123456789abcdef" * 4
    for form in (digest, f"sha256:{digest}", f"breast-federation-site@sha256:{digest}"):
        monkeypatch.setenv("BREAST_FEDERATION_IMAGE", form)
        assert approve(site, config)["image"] == f"sha256:{digest}"
    monkeypatch.setenv("BREAST_FEDERATION_IMAGE", "latest")
    with pytest.raises(UserError, match="the digest of the image is none"):
        approve(site, config)


def run(sites, settings, on_message=None):
    config = parse_study_settings(settings)
    return run_study(InProcessGrid(app, sites, config.to_flat(), on_message), config)


def refused(site):
    return [(line["message"], line["why"]) for line in read(audit_of(site)) if line["event"] == "refused"]


def test_what_was_not_approved_reads_nothing_and_the_study_goes_on(deployed, small_study):
    sites = deployed({"a": 80, "b": 90, "c": 80})
    for name in "ab":
        approve(load_site(sites[name]), parse_study_settings(small_study))
    results = run(sites, {**small_study, "rounds": 3})
    assert results["rounds_completed"] == 3
    assert {row["site"] for row in results["sites"]} == {"a", "b"}
    site = load_site(sites["c"])
    assert set(refused(site)) == {("query.prepare", NOT_APPROVED)}  # asked again in each round, in case it is by then
    assert not (site.state_dir / "splits").exists()
    assert not (site.state_dir / "cache").exists()


def test_a_center_that_changes_one_setting_after_the_approval_is_refused(deployed, small_study):
    sites = deployed({"a": 80, "b": 90, "c": 80})
    for name, file in sites.items():
        approve(load_site(file), parse_study_settings({**small_study, "rounds": 1, "seed": int(name == "c")}))
    run(sites, {**small_study, "rounds": 1})
    site = load_site(sites["c"])
    assert set(refused(site)) == {("query.prepare", OTHER_SETTINGS)}
    assert refused(load_site(sites["a"])) == []
    with pytest.raises(SiteError, match=r"seed is 0, approved 1\n") as caught:
        check_approval(site, parse_study_settings({**small_study, "rounds": 1}))
    assert "rounds" not in str(caught.value)
    assert caught.value.public == OTHER_SETTINGS


def test_a_revoked_approval_stops_a_study_that_runs_and_an_approval_lets_it_go_on(deployed, small_study):
    sites = deployed({"a": 80, "b": 90, "c": 80})
    config = parse_study_settings({**small_study, "rounds": 3})
    for file in sites.values():
        approve(load_site(file), config)
    site = load_site(sites["c"])
    changes = {"2": lambda: revoke(site, config.study), "3": lambda: approve(site, config)}

    def on_message(name, kind, group):
        if name == "c" and kind == "train" and group in changes:
            changes.pop(group)()

    run(sites, {**small_study, "rounds": 3}, on_message)
    assert changes == {}
    trained = [(line["round"], line["event"]) for line in read(audit_of(site)) if line["message"] == "train"]
    assert trained == [(1, "sent"), (2, "refused"), (3, "sent")]


@pytest.mark.parametrize("waived", [{"approval": "optional"}, None], ids=["by the policy", "in a simulation"])
def test_none_is_needed_where_the_policy_waives_it_or_no_center_reaches_the_site(deployed, hospitals, waived):
    file = deployed({"a": 40}, **waived)["a"] if waived else hospitals({"a": 40})["a"]
    check_approval(load_site(file), StudySettings())


def changed(path):
    path.write_text(path.read_text().replace('"rounds": 5', '"rounds": 500'))


def cut(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def removed(path):
    path.unlink()


@pytest.mark.parametrize("spoil", [changed, cut, removed])
def test_a_record_that_was_changed_or_cut_approves_nothing(deployed, spoil):
    """Cut, it would forget that it was revoked."""
    site = load_site(deployed({"a": 40})["a"])
    config = StudySettings(rounds=5)
    approve(site, config)
    approve(site, StudySettings(study="other"))
    revoke(site, "other")
    check_approval(site, config)
    spoil(approvals_of(site))
    with pytest.raises(SiteError, match="not as it was written") as caught:
        check_approval(site, config)
    assert "damaged" in caught.value.public
    with pytest.raises(SiteError, match="not as it was written"):
        approve(site, config)


def test_a_record_that_was_taken_away_whole_approves_nothing(deployed):
    site = load_site(deployed({"a": 40})["a"])
    approve(site, StudySettings())
    for path in site.state_dir.iterdir():
        path.unlink()
    with pytest.raises(SiteError, match="not approved here"):
        check_approval(site, StudySettings())


def another(key, value):
    """A value of the same kind that is not the same."""
    if isinstance(value, bool | int | float):
        return not value if isinstance(value, bool) else value + 1
    choices = get_args(StudySettings.model_fields[key].annotation) or (f"{value}another",)
    return next(choice for choice in choices if choice != value)


def test_the_hash_is_of_every_setting_but_the_centers_own():
    config = StudySettings()
    assert set(config.to_flat()) > CENTERS_OWN
    for key, value in config.model_dump().items():
        changed = config.model_copy(update={key: another(key, value)})
        unchanged = settings_hash(changed) == settings_hash(config)
        assert unchanged is (key.replace("_", "-") in CENTERS_OWN), key
    assert re.fullmatch("[0-9a-f]{64}", settings_hash(config))


def test_the_page_names_all_that_is_read_and_sent(deployed, study_file, capsys):
    file = deployed({"a": 80})["a"]
    assert main(["approve", "--site", str(file), str(study_file(rounds=7)), "--yes"]) == ExitCode.OK
    output = capsys.readouterr().out
    columns = (file.parent / "clinical.csv").read_text().splitlines()[0].split(",")
    assert f"table clinical (clinical.csv), columns: {', '.join(columns)}\n" in output
    for words in (
        "80 patients",
        "clinical (table): 3 features (age_years, size_mm, er)",
        "18 numbers of the network RecurrenceClinicalNet",
        "how many have it, its sum, its sum of squares",
        ": 4 columns of clinical",
        "where each class has `minimum_count` patients or more: here 10",
        "how many patients are excluded",
        "the mean training loss",
        "no secure aggregation",
        "with whoever is there, 2 sites at least",
        "7 rounds, 1 pass over the training patients each",
        "no differential privacy",
        "allows it",
    ):
        assert words in output
    (page,) = (file.parent / "state" / "a" / "approvals").iterdir()
    assert f"columns: {', '.join(columns)}" in page.read_text()
    assert page.stat().st_mode & 0o077 == 0
    assert "http" not in page.read_text()


def test_the_page_says_what_of_the_study_the_sites_tables_cannot_serve(hospital):
    def gap(features):
        config = StudySettings(task="recurrence_clinical", modalities="clinical", features=f"clinical: {features}")
        [lines] = [
            lines for name, lines in make_summary(hospital.site(), config, load_task(config)).items() if "NOT" in name
        ]
        return lines[0]

    assert gap("age_years, bmi").startswith("clinical: bmi not mapped: missing for every patient; if the hospital")
    assert gap("age_years, grade{low|high}").startswith("clinical: a category is not the study's")


def test_the_page_names_the_files_of_images_and_the_columns_of_their_boxes(hospital):
    hospital.phases([0, 1])
    box = {"rows": ["top", "bottom"], "columns": ["left", "right"], "slices": ["first", "last"]}
    hospital.settings["modalities"]["mri"]["mask"] = {"box": box}
    config = StudySettings(task="recurrence_mri", modalities="mri, clinical", secure_aggregation=True, min_sites=3)
    lines = make_summary(hospital.site(), config, load_task(config))
    (images,) = [line for line in lines["It reads here"] if line.startswith("mri from: ")]
    assert "mri/{patient}/phase3.nii.gz" in images
    assert all(column in images for columns in box.values() for column in columns)
    (weights,) = [line for line in lines["It sends to the center"] if "the network's weights" in line]
    assert weights.endswith("; with secure aggregation only in sums over three hospitals or more")
    sends = lines["It sends to the center"]
    assert "secure aggregation holds against the center and 1 of the hospitals together" in sends
    assert any("UNVERIFIED" in line for line in sends)


def test_the_page_has_a_line_for_everything_that_any_reply_holds(deployed, small_study):
    config = parse_study_settings({**small_study, "strategy": "scaffold"})
    site = load_site(deployed({"a": 80})["a"])
    lines = make_summary(site, config, load_task(config))["It sends to the center"]
    plain = make_summary(site, parse_study_settings(small_study), load_task(config))["It sends to the center"]
    assert [line for line in lines if line not in plain] == [line for line in lines if "control variate" in line]
    study = {**small_study, "validates": "other", "validates-sha256": "0" * 64, "evaluation-only-sites": "a"}
    page = make_summary(site, parse_study_settings(study), load_task(config))
    assert "no weights leave: nothing is trained here" in page["It sends to the center"]
    assert not any("weights as trained here" in line for line in page["It sends to the center"])
    assert any("0" * 64 in line for line in page["The network starts from"])
    other = {"compares": "small, other", "compares-sha256": "0" * 64, "compares-settings": '{"hidden_units": 4}'}
    comparison = make_summary(site, parse_study_settings({**small_study, **other}), load_task(config))
    scoring = {EvaluateExternalReply: page, EvaluateComparisonReply: comparison}
    for reply in replies():
        section = scoring[reply]["It sends to the center"] if reply in scoring else lines
        for name, facts in fields_of(reply).items():
            assert any(line.startswith(f"{reply.WHEN}: {facts['what']}") for line in section), (reply, name)


def test_an_approval_says_what_when_by_whom_and_is_listed_and_revoked(deployed, study_file, capsys):
    file = deployed({"a": 80})["a"]
    command = ["--site", str(file)]
    assert main(["approve", *command, str(study_file()), "--yes"]) == ExitCode.OK
    site = load_site(file)
    (line,) = approvals(site).values()
    config = parse_study_settings({**json.loads(json.dumps(line["settings"]))})
    assert (line["study"], line["sha256"]) == ("small", settings_hash(config))
    assert {"time", "version", "by"} < set(line)
    capsys.readouterr()
    assert main(["approvals", *command]) == ExitCode.OK
    assert f"{line['sha256'][:8]}" in capsys.readouterr().out
    assert main(["revoke", *command, "small"]) == ExitCode.OK
    assert main(["revoke", *command, "small"]) == ExitCode.USAGE
    assert approvals(site) == {}
    assert len(read(approvals_of(site))) == 2


@pytest.mark.parametrize(
    ("typed", "status"), [("small\n", ExitCode.OK), ("yes\n", ExitCode.USAGE), ("", ExitCode.USAGE)]
)
def test_a_person_types_the_studys_name(deployed, study_file, monkeypatch, capsys, typed, status):
    file = deployed({"a": 80})["a"]
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["approve", "--site", str(file), str(study_file())]) == status
    assert set(approvals(load_site(file))) == ({"small"} if status == ExitCode.OK else set())
    assert ("nothing was approved" in capsys.readouterr().err) is (status != ExitCode.OK)


def test_what_the_policy_refuses_stands_line_by_line_and_is_not_approved(deployed, study_file, capsys):
    file = deployed({"a": 80}, maximum_rounds=2, features={"clinical": ["age_years"]})["a"]
    assert main(["approve", "--site", str(file), str(study_file()), "--yes"]) == ExitCode.STUDY
    output = capsys.readouterr()
    assert "REFUSES features of clinical: size_mm, er, allowed: age_years\n" in output.out
    assert "REFUSES 3 rounds, at most 2\n" in output.out
    assert "the study asks for more than this site allows" in output.err
    assert approvals(load_site(file)) == {}


@pytest.mark.parametrize(
    ("features", "allowed"),
    [
        ({"clinical": ["age_years", "size_mm"]}, "features of clinical: er,"),
        ({"genomic": ["ESR1"]}, "allows none of that table"),
        ({"clinical": ["er", "size_mm", "age_years"]}, ""),
        ({"clinical": []}, ""),
    ],
    ids=["another feature", "another table", "these features", "all of the table"],
)
def test_a_study_gets_the_features_that_the_policy_allows(hospitals, small_study, features, allowed):
    sites = hospitals({"a": 80, "b": 90, "strict": 80})
    sites["strict"].write_text(sites["strict"].read_text() + yaml.safe_dump({"policy": {"features": features}}))
    results = run(sites, {**small_study, "rounds": 1})
    assert ("strict" in {row["site"] for row in results["sites"]}) is (not allowed)
    why = "the site's own policy does not allow this study"
    assert refused(load_site(sites["strict"])) == ([("query.prepare", why)] if allowed else [])


def test_the_page_foretells_the_epsilon_that_the_study_spends(deployed, small_study, study_file, capsys):
    private = {"privacy": "patient", "noise-multiplier": 2.0, "batch-size": 8, "rounds": 2, "min-sites": 1}
    file = deployed({"a": 160}, accountant="rdp")["a"]
    site = load_site(file)
    before = charge(ledger_of(site), Charge("earlier", "recurrence_clinical", 1, 2.0, 0.1, 20), site.policy.limit)
    assert main(["approve", "--site", str(file), str(study_file(**private)), "--yes"]) == ExitCode.OK
    page = capsys.readouterr().out
    match = re.search(r"epsilon ([\d.]+) spent, about ([\d.]+) with it, of 8,", page)
    run({"a": file}, {**small_study, **private})
    after = charges(ledger_of(site))[-1]["epsilon"]
    assert len(charges(ledger_of(site))) == 3
    assert [float(text) for text in match.groups()] == [
        pytest.approx(before, abs=0.006),
        pytest.approx(after, rel=0.05),
    ]
    assert after > before + 0.2
    line = charges(ledger_of(site))[-1]
    again = Charge("small", line["task"], 1, line["noise_multiplier"], line["sample_rate"], line["steps"])
    most = [charge(ledger_of(site), again, site.policy.limit) for _ in range(2 * 2)][-1]  # each round three times
    assert float(re.search(r"at most ([\d.]+), if the center asks for every round 3 times", page)[1]) == pytest.approx(
        most, rel=0.05
    )


def test_where_nothing_can_be_written_nothing_is_approved(deployed, study_file, capsys):
    file = deployed({"a": 80})["a"]
    (file.parent / "state").write_text("a file where the folder should be")
    assert main(["approve", "--site", str(file), str(study_file()), "--yes"]) == ExitCode.DATA
    output = capsys.readouterr().err
    assert "a file of the site's own cannot be written" in output
    assert "state_dir" in output


def test_a_check_says_how_many_studies_are_approved(deployed, capsys):
    file = deployed({"a": 80})["a"]
    main(["check", "--site", str(file)])
    assert "every study is refused until: python -m client approve STUDY.toml --site a" in capsys.readouterr().out
    approve(load_site(file), StudySettings(study="pilot"))
    main(["check", "--site", str(file)])
    assert "1 study approved: pilot" in capsys.readouterr().out


def test_the_page_of_a_study_of_folds_says_how_many_and_what_all_of_them_cost(hospital, small_study):
    hospital.settings["site"] = "a"
    private = {**small_study, "privacy": "patient", "noise-multiplier": 2.0, "rounds": 4}
    task = load_task(parse_study_settings(small_study))

    def page(**changed):
        return make_summary(hospital.site(), parse_study_settings({**private, **changed}), task)

    def alone(summary):
        return next(line for line in summary["Privacy"] if "this study alone" in line)

    folds = page(folds=4, repeats=2)
    assert any(line.startswith("8 folds, each a training and a test of its own") for line in folds["It takes"])
    assert "over 8 folds with training here" in alone(folds)
    # as many rounds as in all folds, of as many training patients: 1 - 1/4 - 0.15 of all
    whole = page(rounds=32, **{"test-fraction": 0.25})
    assert alone(folds).replace(" over 8 folds with training here", "") == alone(whole)

    turns = page(sites="a, b, c", **{"leave-out": "each"})
    assert any("in turn one site does not train" in line for line in turns["It takes"])
    assert "over 2 folds with training here" in alone(turns)
    assert any(line.startswith("no secure aggregation: 2 sites train") for line in turns["It sends to the center"])

    hospital.settings["policy"] = {"maximum_rounds": 20}
    assert "REFUSES 32 rounds in 8 folds, at most 20" in page(folds=4, repeats=2)["This hospital's policy"]
