"""Predictions at a hospital by the checkpoint of a study that has ended."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from client.__main__ import main
from client.cohort.load import load_cohort
from client.config.site import load_site
from server.study.weights.checkpoint import load_checkpoint
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from shared_models.trained_model import RESEARCH_ONLY, read_model, write_model
from simulation.baselines.pooled_and_local import from_checkpoint, score

Row = dict[str, str]


def predict(study: Any, site: str, *words: str, checkpoint: Path | None = None) -> tuple[int, list[Row]]:
    file = study.folder / "predictions.csv"
    command = [
        "predict",
        str(checkpoint or study.best),
        "--site",
        str(study.sites[site]),
        "--out",
        str(file),
    ]
    code = main([*command, *words])
    return code, list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def without_outcomes(finished_study: Any, rows: list[str]) -> Path:
    """New patients of elm, whose table has no column of an outcome."""
    folder = finished_study.sites["elm"].parent / "new"
    folder.mkdir()
    (folder / "clinical.csv").write_text("\n".join(["id,age,size,er", *rows]) + "\n")
    return folder


def test_the_predictions_are_those_of_the_network_in_the_study(finished_study: Any) -> None:
    code, rows = predict(finished_study, "elm")
    assert code == 0
    checkpoint = load_checkpoint(finished_study.best)
    config = parse_study_settings(checkpoint.config)
    task, site = load_task(config), load_site(finished_study.sites["elm"]).model_copy(update={"role": "evaluate"})
    cohort = load_cohort(site, task, config)
    expected, _ = score(from_checkpoint(checkpoint, task, config), cohort, task)["recurrence"]
    by_patient = {row["patient"]: float(row["recurrence_risk_by_day_1826"]) for row in rows}
    tested = [by_patient[cohort.patients[index]] for index in cohort.parts["test"]]
    np.testing.assert_allclose(tested, expected, rtol=1e-4)
    risks = [[float(row[f"recurrence_risk_by_day_{day}"]) for day in (365, 730, 1461, 1826, 2922)] for row in rows]
    assert (np.diff(risks, axis=1) > 0).all()
    threshold = read_model(finished_study.best).thresholds["recurrence"]
    assert {
        row["recurrence_positive"] == "yes" for row in rows if float(row["recurrence_risk_by_day_1826"]) >= threshold
    } == {True}
    files = [finished_study.best.parent / f"predictions.{kind}" for kind in ("csv", "json")]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 and RESEARCH_ONLY in file.read_text() for file in files)


def test_new_patients_without_outcomes_are_warned_of_one_by_one(
    finished_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    new = without_outcomes(finished_study, ["n1,55,20,+", "n2,55,,+", "n3,55,900,-", "n4,,,", "n5,55,990,-"])
    code, rows = predict(finished_study, "elm", "--new-data", str(new))
    assert code == 0
    output = capsys.readouterr().out
    assert "2 patients: clinical: size_mm is 4 standard deviations or more above" in output
    assert "1 patient: clinical: no size_mm" in output
    warnings = {row["patient"]: row["warnings"] for row in rows}
    assert warnings["n1"] == ""
    assert warnings["n2"] == "clinical: no size_mm"
    assert "size_mm is" in warnings["n3"]
    assert "above the training patients' mean" in warnings["n3"]
    assert warnings["n4"] == "none of the modalities: no prediction"
    assert [row["recurrence_positive"] for row in rows if row["patient"] == "n4"] == [""]


def test_a_feature_that_every_new_patient_lacks_is_no_error(finished_study: Any) -> None:
    code, rows = predict(
        finished_study, "elm", "--new-data", str(without_outcomes(finished_study, ["n1,55,,+", "n2,60,,-"]))
    )
    assert (code, {row["warnings"] for row in rows}) == (0, {"clinical: no size_mm"})


def test_what_is_there_is_replaced_only_when_asked(finished_study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(finished_study, "elm")[0] == 0
    assert predict(finished_study, "elm")[0] == 2
    assert "--overwrite" in capsys.readouterr().err
    assert predict(finished_study, "elm", "--overwrite")[0] == 0


def test_recalibration_corrects_a_network_that_is_too_sure(finished_study: Any) -> None:
    spoilt = finished_study.best.with_name("spoilt.safetensors")
    model = read_model(finished_study.best)
    model.weights["hazards.weight"] = model.weights["hazards.weight"] * 3
    write_model(model, spoilt)
    code, rows = predict(finished_study, "elm", "--recalibrate", "--coverage", "0.9", checkpoint=spoilt)
    facts = json.loads((spoilt.parent / "predictions.json").read_text())["recalibration"]["recurrence"]
    assert code == 0
    assert abs(facts["after"]["slope"] - 1) < abs(facts["before"]["slope"] - 1)
    assert facts["after"]["brier"] < facts["before"]["brier"]
    assert {row["recurrence_set"] for row in rows} <= {"no", "yes", "no|yes", "none"}


def test_patients_who_were_trained_on_are_marked_and_recalibrate_nothing(finished_study: Any) -> None:
    code, rows = predict(finished_study, "a", "--recalibrate")
    marked = [row for row in rows if "was trained on this patient" in row["warnings"]]
    config = parse_study_settings(load_checkpoint(finished_study.best).config)
    parts = load_cohort(load_site(finished_study.sites["a"]), load_task(config), config).parts
    assert (code, len(marked)) == (0, len(parts["train"]))
    facts = json.loads((finished_study.best.parent / "predictions.json").read_text())["recalibration"]["recurrence"]
    assert 0 < sum(facts["patients"].values()) <= len(parts["validation"]) + len(parts["test"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"package_version": "0.0.9"}, "of another release"),
        ({"task": "relapse_of_nothing"}, "settings or its task"),
        ({"format": "0"}, "of another format"),
        ({"weights": True}, "does not hold what its task needs"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    finished_study: Any, spoil: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with safe_open(finished_study.best, framework="numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    facts = json.loads(metadata["study"])
    facts["package_version"] = spoil.get("package_version", facts["package_version"])
    facts["config"]["task"] = spoil.get("task", facts["config"]["task"])
    if "weights" in spoil:
        arrays.pop(next(name for name in arrays if name.startswith("model:")))
    stamp = {"format": metadata["format"], "format_version": spoil.get("format", metadata["format_version"])}
    save_file(arrays, finished_study.best, {**stamp, "study": json.dumps(facts)})
    code, rows = predict(finished_study, "elm")
    assert (code, rows) == (4, [])
    assert message in capsys.readouterr().err
