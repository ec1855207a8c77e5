"""Predictions of a finished network for a site's patients: a CSV, and a JSON file beside it that says how it was made.

Both stay at the site. A row is a patient; a patient with none of the modalities has no numbers.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from client.inference.conformal_sets import conformal_columns, smallest_class
from client.inference.known_outcomes import read_outcomes
from client.inference.recalibration import Recalibrated, count_outcomes, recalibrate
from client.inference.remarks import NO_INPUT, remarks_of
from client.inference.saliency import SaliencyMap, require_images, saliency_maps
from client.inference.scored_cohort import ScoredCohort, score, trained_on
from client.private_files import write_private
from shared_models.targets import Categorical, Regression, Target, TimeToEvent
from shared_models.trained_model import RESEARCH_ONLY, TrainedModel

Array = np.ndarray[Any, Any]
Columns = dict[str, list[str]]
TRAINED_ON = "the network was trained on this patient: the prediction is too good"


@dataclass(frozen=True)
class Wanted:
    """What of predictions is wanted.

    Attributes:
        out: The CSV; the JSON file lies beside it.
        new_data: A folder of new patients, laid out as the site's own; None for the site's own patients.
        recalibrate: Whether predictions are recalibrated by the site's own patients.
        coverage: Of conformal sets and intervals; None for none.
        overwrite: Whether files that are there are replaced.
        maps: Whether saliency maps of images are drawn.
        dicom: Folder of DICOM structured reports; None for none.
    """

    out: Path
    new_data: Path | None = None
    recalibrate: bool = False
    coverage: float | None = None
    overwrite: bool = False
    maps: bool = False
    dicom: Path | None = None

    def site(self, own: SiteConfig) -> SiteConfig:
        """Whose patients are predicted: the site's own, or those of `new_data`."""
        return own.model_copy(update={"data_root": self.new_data.resolve()}) if self.new_data else own

    @property
    def about(self) -> Path:
        """The JSON file."""
        return self.out.with_suffix(".json")

    @property
    def page(self) -> Path:
        """The page of saliency maps."""
        return self.out.with_suffix(".maps.html")


@dataclass(frozen=True)
class Predictions:
    """Predictions of P patients.

    Attributes:
        columns: Of the CSV, each with P texts.
        about: How they were made.
        recalibrated: By target; empty where it was not wanted.
        maps: Of images; none where they were not wanted.
    """

    columns: Columns
    about: Mapping[str, Any]
    recalibrated: Mapping[str, Recalibrated] = field(default_factory=dict)
    maps: Sequence[SaliencyMap] = ()


def require_free(wanted: Wanted) -> None:
    """Refuses to replace files, before anything is read.

    Raises:
        SiteError: If one is there and `overwrite` was not asked for, or the name is that of no CSV.
    """
    files = (wanted.out, wanted.about, *([wanted.page] if wanted.maps else []))
    reports = sorted(wanted.dicom.glob("*.dcm"))[:1] if wanted.dicom else []
    there = [*(path for path in files if path.exists()), *reports]
    bad = f"a file named {wanted.out.name}" if wanted.out.suffix != ".csv" else ""
    if bad or (there and not wanted.overwrite):
        raise SiteError(
            what="the predictions cannot be written there",
            where=f"--out {wanted.out}",
            found=bad or f"{' and '.join(path.name for path in there)} already",
            expected="a new file whose name ends in .csv",
            fix="choose another name" + ("" if bad else ", or add --overwrite"),
            exit_code=ExitCode.USAGE,
        )


def predict_patients(site: SiteConfig, model: TrainedModel, wanted: Wanted) -> Predictions:
    """Scores the patients.

    Raises:
        SiteError: If the data cannot be used.
    """
    if wanted.maps:
        require_images(model)
    scored = score(wanted.site(site), model, outcomes=False, home=site)
    known = read_outcomes(site, model) if wanted.recalibrate or wanted.coverage else {}
    fits = {name: recalibrate(target, known[name]) for name, target in model.task.targets.items() if wanted.recalibrate}
    columns: Columns = {"patient": list(scored.cohort.patients)}
    for name, target in model.task.targets.items():
        columns |= _target_columns(scored, name, target, model, fits.get(name))
        if wanted.coverage:
            raw = target.predict(scored.outputs[name]).numpy().astype(np.float64)
            sets = conformal_columns(target, known[name], wanted.coverage)(raw)
            columns |= {f"{name}_{kind}": texts for kind, texts in sets.items()}
    for row in np.flatnonzero(~scored.has_input):
        for name in list(columns)[1:]:
            columns[name][row] = ""
    columns["warnings"] = ["; ".join(remarks) for remarks in _remarks(scored, site, model)]
    columns["use"] = [RESEARCH_ONLY] * len(scored.cohort.patients)
    about = _about(site, model, scored, wanted, fits)
    if wanted.coverage:
        counts = {name: count_outcomes(target, known[name]) for name, target in model.task.targets.items()}
        about["conformal"] = {
            "coverage": wanted.coverage,
            "calibration_patients": counts,
            "needed_to_rule_a_class_out": smallest_class(wanted.coverage),
        }
    return Predictions(columns, about, fits, tuple(saliency_maps(model, scored)) if wanted.maps else ())


def write_predictions(predictions: Predictions, wanted: Wanted) -> None:
    """Writes both files, each whole or not at all, readable for their owner only.

    Raises:
        SiteError: If one cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(predictions.columns)
    writer.writerows(zip(*predictions.columns.values(), strict=True))
    write_private(wanted.out, text.getvalue())
    write_private(wanted.about, json.dumps(predictions.about, indent=1) + "\n")


def _target_columns(
    scored: ScoredCohort, name: str, target: Target, model: TrainedModel, fitted: Recalibrated | None
) -> Columns:
    """A target's predictions, each recalibrated where there is a fit; the decision is that of the raw score."""
    raw = target.predict(scored.outputs[name]).numpy().astype(np.float64)
    mend = fitted.use if fitted else None
    if isinstance(target, Regression):
        return {name: _texts(mend(raw) if mend else raw)}
    if isinstance(target, Categorical):
        shares = mend(raw) if mend else raw
        columns = {f"{name}_{one}": _texts(shares[:, index]) for index, one in enumerate(target.classes)}
        return columns | {f"{name}_class": [target.classes[index] for index in shares.argmax(axis=1)]}
    if isinstance(target, TimeToEvent):
        days = sorted({*target.edges_days, target.horizon_days})
        risks = {f"{name}_risk_by_day_{day:.0f}": target.risk_by(scored.outputs[name], day).numpy() for day in days}
        columns = {column: _texts(mend(risk.astype(np.float64)) if mend else risk) for column, risk in risks.items()}
    else:
        columns = {f"{name}_probability": _texts(mend(raw) if mend else raw)}
    threshold = model.thresholds.get(name)
    if threshold is None:
        return columns
    shown = float(mend(np.array([threshold]))[0]) if mend else threshold
    decided = ["yes" if value >= threshold else "no" for value in raw]
    return columns | {f"{name}_threshold": [f"{shown:.6g}"] * len(raw), f"{name}_positive": decided}


def _texts(values: Array) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _remarks(scored: ScoredCohort, site: SiteConfig, model: TrainedModel) -> list[list[str]]:
    by_patient = remarks_of(scored.cohort, model)
    learned = trained_on(site, model) or ()
    for patient, remarks in zip(scored.cohort.patients, by_patient, strict=True):
        if patient in learned and NO_INPUT not in remarks:
            remarks.append(TRAINED_ON)
    return by_patient


def _about(
    site: SiteConfig, model: TrainedModel, scored: ScoredCohort, wanted: Wanted, fits: Mapping[str, Recalibrated]
) -> dict[str, Any]:
    horizons = {n: t.horizon_days for n, t in model.task.targets.items() if isinstance(t, TimeToEvent)}
    return {
        "use": RESEARCH_ONLY,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "site": site.site,
        "patients": len(scored.cohort.patients),
        "network": describe_model(model),
        "thresholds": dict(model.thresholds),
        "horizon_days": horizons,
        "warnings": [*scored.cohort.warnings, *withdrawal_warnings(model)],
        "recalibration": {name: _fit_facts(fitted) for name, fitted in fits.items()} if wanted.recalibrate else None,
        "conformal": None,
    }


def describe_model(model: TrainedModel) -> dict[str, Any]:
    """Which network it is."""
    facts = {"study": model.config.study, "task": model.task.name, "round": model.round}
    return {**facts, "sha256": model.sha256, "package_version": model.package_version}


def withdrawal_warnings(model: TrainedModel) -> Sequence[str]:
    """What must be known of a network of whose training sites one withdrew."""
    withdrew = "withdrew from the study, and the network was trained on its patients, too"
    return [f"{site} {withdrew} ({day})" for site, day in model.withdrawn.items()]


def _fit_facts(fitted: Recalibrated) -> dict[str, Any]:
    facts: dict[str, Any] = {"patients": fitted.patients, "few_patients": fitted.few, "why_not": fitted.why_not}
    if fitted.use:
        facts |= {"link": fitted.use.link, "intercept": fitted.use.intercept.tolist(), "slope": fitted.use.slope}
    return facts | {"before": _finite(fitted.before), "after": _finite(fitted.after)}


def _finite(measures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in measures.items()}
