from pathlib import Path

import pytest

from client.config.site import load_site
from client.config.yaml_file import read_yaml
from client.contract.paths import inside_data_root
from client.errors import ExitCode, SiteError, named_rows

SITE_CONFIGS = sorted((Path(__file__).parents[3] / "site_configs").glob("*.yaml"))


@pytest.mark.parametrize("path", SITE_CONFIGS, ids=lambda path: path.stem)
def test_every_site_config_of_the_project_is_valid(path):
    assert load_site(path).site == path.stem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("010", "010"),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("NULL", "NULL"),
        ("true", True),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("~", None),
        ("", None),
    ],
)
def test_yaml_reads_codes_as_they_are_written(tmp_path, text, value):
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}\n")
    assert read_yaml(path) == {"key": value}


def test_codes_may_be_written_without_quotes(hospital):
    path = hospital.folder / "oak.yaml"
    hospital.site()
    path.write_text(path.read_text().replace("'no': 0", "no: 0").replace("'yes': 1", "yes: 1"))
    assert "no: 0" in path.read_text()
    assert load_site(path).targets["recurrence"].event.codes == {"no": 0, "yes": 1}


def test_truth_values_are_codes_like_any_other(hospital):
    hospital.settings["targets"]["recurrence"]["event"]["codes"] = {True: 1, False: 0}
    assert hospital.site().targets["recurrence"].event.codes == {"true": 1, "false": 0}


def test_paths_start_at_the_file_and_state_is_in_the_sites_own_folder(hospital):
    site = hospital.site()
    assert site.data_root == hospital.data
    assert site.state_dir == hospital.folder / "state" / "oak"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(sites="x"), "did you mean 'site'"),
        (lambda s: s["modalities"]["clinical"].update(table="tumour"), "there is no table 'tumour'"),
        (
            lambda s: s["modalities"]["clinical"]["features"].update(x={"column": "A", "table": "b"}),
            "features.x: there is no table",
        ),
        (lambda s: s["targets"]["recurrence"].pop("event_days"), "expected either `label`"),
        (lambda s: s["modalities"]["clinical"]["features"]["grade"].update(scale=2), "leave `scale` and `offset` out"),
        (lambda s: s["modalities"]["clinical"]["features"]["age_years"].update(range=[9, 1]), "[low, high]"),
        (
            lambda s: s["modalities"].update(mri={"reader": "image_files", "phases": ["../{patient}.nii"]}),
            "a path under data_root",
        ),
        (
            lambda s: s["modalities"].update(mri={"reader": "image_files", "phases": ["/x/{patient}.nii"]}),
            "a path under data_root",
        ),
        (lambda s: s["modalities"].update(mri={"reader": "image_files", "phases": ["a.nii"]}), "holds {patient}"),
        (
            lambda s: s["modalities"].update(mri={"reader": "image_files", "phases": ["{patient}.nii"] * 2}),
            "given for two phases",
        ),
        (lambda s: s["tables"]["clinical"].update(separator=";;"), "at most 1 character"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(hospital, change, message):
    change(hospital.settings)
    with pytest.raises(SiteError) as caught:
        hospital.site()
    assert message in str(caught.value)
    assert "oak.yaml" in str(caught.value)
    assert caught.value.exit_code is ExitCode.SITE_CONFIG
    assert caught.value.public == "the site's settings are not valid"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the site's settings"),
        ("a: [1", "not YAML"),
        ("site: a\ntables:\n\tclinical: {file: a.csv}\n", r"oak.yaml, line 3(.|\n)*never a tab"),
        ("site: a\nsite: b\n", "the key 'site' appears twice"),
        ("", "empty"),
        (b"\xff\xfe\xfa", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
    ],
)
def test_a_file_that_is_no_settings(tmp_path, text, message):
    path = tmp_path / "oak.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SiteError, match=message) as caught:
        load_site(path)
    assert caught.value.exit_code is ExitCode.SITE_CONFIG


def test_nothing_outside_data_root_is_read(hospital):
    site = hospital.site()
    secret = hospital.folder / "secret.csv"
    secret.write_text("x")
    (hospital.data / "link.csv").symlink_to(secret)
    assert inside_data_root(site, Path("sub/../clinical.csv"), "") == hospital.data / "clinical.csv"
    for path in ("../secret.csv", str(secret), "link.csv", "sub/../../secret.csv"):
        with pytest.raises(SiteError, match="escapes data_root") as caught:
            inside_data_root(site, Path(path), "tables.clinical.file")
        assert caught.value.exit_code is ExitCode.SITE_CONFIG
        assert "secret" not in caught.value.public


def test_many_rows_are_named_in_short():
    assert named_rows([4]) == "row 4"
    assert named_rows([4, 5]) == "rows 4, 5"
    assert named_rows(range(2, 20)) == "rows 2, 3, 4, 5, 6 and 13 more"


def test_a_path_of_windows_is_one_problem_with_its_cure(hospital):
    hospital.settings["modalities"]["mri"] = {"reader": "image_files", "phases": [r"mri\{patient}\pre.nii.gz"]}
    with pytest.raises(SiteError, match=r"as 'mri/\{patient\}/pre.nii.gz'") as caught:
        hospital.site()
    assert "at least 1 item" not in str(caught.value)
