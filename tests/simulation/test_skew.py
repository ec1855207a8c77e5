from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.cohort.load import load_cohort
from client.config.site import load_site
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.task import load_task
from simulation.__main__ import main
from simulation.skew import Skew, divide_unequally, parse_skew, without_modalities
from simulation.splits import Sites

CONFIG = StudySettings(features="clinical: age_years, size_mm", outcome="time-to-event")


@pytest.fixture
def oak(hospitals: Callable[..., dict[str, Path]]) -> Path:
    return hospitals({"oak": 400})["oak"]


def events(sites: Sites) -> list[tuple[int, float]]:
    """Patients of each site, and the share of them with the event."""
    task = load_task(CONFIG)
    cohorts = [load_cohort(load_site(file), task, CONFIG) for file in sites.values()]
    assert len({patient for cohort in cohorts for patient in cohort.patients}) == sum(len(c.patients) for c in cohorts)
    return [(len(cohort.patients), float(cohort.truths["recurrence"][:, 1].mean())) for cohort in cohorts]


def test_labels_differ_between_sites_by_the_concentration_and_every_patient_is_at_one(
    oak: Path, tmp_path: Path
) -> None:
    fractions = {}
    for concentration in (0.3, 1000.0):
        sites = divide_unequally(oak, tmp_path / f"{concentration}", 4, Skew("dirichlet", concentration), CONFIG)
        fractions[concentration] = events(sites)
        assert sum(count for count, _ in fractions[concentration]) == 400
        again = divide_unequally(oak, tmp_path / "again", 4, Skew("dirichlet", concentration), CONFIG)
        assert events(again) == fractions[concentration]
    spread = {concentration: np.ptp([share for _, share in shares]) for concentration, shares in fractions.items()}
    assert spread[0.3] > 0.25
    assert spread[1000.0] < 0.06


def test_sizes_differ_and_labels_do_not(oak: Path, tmp_path: Path) -> None:
    counts = events(divide_unequally(oak, tmp_path / "sites", 3, Skew("quantity", 0.5), CONFIG))
    assert sum(count for count, _ in counts) == 400
    assert max(count for count, _ in counts) > 2 * min(count for count, _ in counts)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dirichlet:0.3"], Skew("dirichlet", 0.3)),
        (
            ["missing:mri:0.5", "quantity:2", "missing:genomic:1"],
            Skew("quantity", 2.0, (("mri", 0.5), ("genomic", 1.0))),
        ),
        ([], Skew()),
    ],
)
def test_words_of_a_skew(words: list[str], expected: Skew) -> None:
    assert parse_skew(words) == expected


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["dirichlet:0"], "A from 0.001"),
        (["dirichlet:nan"], "A from 0.001"),
        (["dirichlet"], "expected dirichlet:A"),
        (["dirchlet:1"], "did you mean 'dirichlet'"),
        (["missing:mri:1.5"], "SHARE above 0"),
        (["dirichlet:1", "quantity:1"], "give one of them"),
    ],
)
def test_words_of_no_skew_are_refused(words: list[str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_skew(words)


def test_a_share_of_the_sites_lacks_a_modality(hospitals: Callable[..., dict[str, Path]], tmp_path: Path) -> None:
    sites = hospitals(dict.fromkeys("abcd", 60))
    config = StudySettings(features="clinical: age_years\ngenomic: HER2")
    for file in sites.values():
        text = file.read_text().replace(
            "modalities:\n", "modalities:\n  genomic: {reader: table, features: {HER2: size}}\n"
        )
        file.write_text(text)
    changed = without_modalities(sites, Skew(missing=(("genomic", 0.5),)), config, tmp_path / "sites")
    has = ["genomic" in load_site(file).modalities for file in changed.values()]
    assert has.count(True) == 2
    assert all("clinical" in load_site(file).modalities for file in changed.values())
    for missing, reason in {"genomc:0.5": "did you mean 'genomic'", "genomic:1": "leaves no site"}.items():
        with pytest.raises(SettingsError, match=reason):
            without_modalities(sites, parse_skew([f"missing:{missing}"]), config, tmp_path / "sites")


def test_what_cannot_be_divided_so_is_said_before_anything_is_trained(
    oak: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["--set", "study=skewed", "features=clinical: age_years, size_mm", "rounds=1"]
    too_many = ["--split", str(oak), "--into", "70", "--skew", "dirichlet:0.3", *settings]
    alone = ["--sites", str(oak), "--skew", "dirichlet:0.3", *settings]
    strong = ["--split", str(oak), "--into", "30", "--skew", "quantity:0.001", *settings]
    for words, reason in ((too_many, "each of 10 patients"), (alone, "--into N"), (strong, "larger concentration")):
        assert main(words) == 3
        assert reason in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("runs/skewed/*.safetensors"))
