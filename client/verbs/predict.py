"""Predictions of a finished network on the terminal: progress, what was found, and recalibration before and after."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from client.config.site import SiteConfig
from client.inference.dicom_report import require_dicom, write_reports
from client.inference.predictions import Predictions, Wanted, predict_patients, require_free, write_predictions
from client.inference.recalibration import Recalibrated
from client.inference.remarks import FAR, NO_INPUT
from client.verbs.saliency_page import write_page
from shared_models.trained_model import RESEARCH_ONLY, read_model

if TYPE_CHECKING:
    from rich.console import Console

_HOW_FAR = re.compile(r"[\d.]+ standard deviations")


def predict(site: SiteConfig, checkpoint: Path, wanted: Wanted, console: Console) -> None:
    """Predicts for a site's patients, and writes the CSV and the file beside it.

    Raises:
        ModelFileError: If the checkpoint cannot be used.
        SiteError: If the data cannot be used, or a file is there already. Then nothing is written.
    """
    require_free(wanted)
    model = read_model(checkpoint)
    if wanted.dicom:
        require_dicom(wanted.site(site), model, wanted.dicom)
    with console.status("reading and scoring the patients"):
        predictions = predict_patients(site, model, wanted)
        write_predictions(predictions, wanted)
        if wanted.maps:
            write_page(predictions.maps, model, wanted.page)
        reports, problems = 0, list[str]()
        if wanted.dicom:
            reports, problems = write_reports(wanted.site(site), model, predictions.columns, wanted.dicom)
    for line in (*problems, *_summary(predictions, wanted, reports)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _summary(predictions: Predictions, wanted: Wanted, reports: int) -> list[str]:
    columns, about = predictions.columns, predictions.about
    # patients differ in how far a number lies: on the terminal they are one line
    texts = (_HOW_FAR.sub(f"{FAR:g} standard deviations or more", text) for text in columns["warnings"])
    remarks = Counter(part for text in texts for part in text.split("; ") if part)
    network = about["network"]
    lines = [f"{about['patients']} patients, network of {network['study']}, round {network['round']}"]
    lines += [f"  {count} patient{'s' if count > 1 else ''}: {remark}" for remark, count in remarks.most_common(10)]
    lines += [f"  and {len(remarks) - 10} other warnings"] if len(remarks) > 10 else []
    lines += [f"  {warning}" for warning in about["warnings"]]
    for name, fitted in predictions.recalibrated.items():
        lines += _recalibration(name, fitted)
    without = remarks[NO_INPUT]
    lines += [
        f"wrote {wanted.out} and {wanted.about}" + (f"; {without} patients have no prediction" if without else "")
    ]
    if wanted.maps:
        lines.append(
            f"wrote {wanted.page}: {len(predictions.maps)} maps of saliency and attention, which stay at the hospital"
        )
    if wanted.dicom:
        rest = about["patients"] - reports
        without_exam = f"; {rest} patients have no DICOM exam, no prediction, or no report" if rest else ""
        lines.append(f"wrote {reports} DICOM structured reports to {wanted.dicom}{without_exam}")
    return [*lines, RESEARCH_ONLY]


def _recalibration(name: str, fitted: Recalibrated) -> list[str]:
    """Of one target: how many patients, and each measure before and after."""
    if fitted.use is None:
        return [f"{name}: not recalibrated: {fitted.why_not}"]
    counts = ", ".join(f"{outcome} {count}" for outcome, count in fitted.patients.items())
    few = "; few for a recalibration: treat it with caution" if fitted.few else ""
    lines = [f"{name}: recalibrated by {counts}{few}"]
    for measure, value in fitted.before.items():
        after = f"{fitted.after[measure]:.3f}" if fitted.after else "not measurable"
        lines.append(f"  {measure.replace('_', ' '):<26}{value:.3f} before, {after} after")
    return lines
