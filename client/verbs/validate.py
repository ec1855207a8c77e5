"""External validation of a finished network by hand: exact figures for the hospital, a small file for the center."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from client.external_validation import Validated, validate_by_hand, write_to_send
from client.governance.disclosure import tested_without_small_cells
from client.inference.predictions import withdrawal_warnings
from client.private_files import write_private
from shared_models.external_validation import write_validation
from shared_models.trained_model import RESEARCH_ONLY, TrainedModel, read_model

if TYPE_CHECKING:
    from rich.console import Console

RATES = ("sensitivity", "specificity", "accuracy", "macro_f1", "r2")
SHOWN = ("patients", "positives", "events", "auc", "c_index", *RATES)


def validate(
    site: SiteConfig,
    checkpoint: Path,
    out: Path,
    console: Console,
    *,
    overwrite: bool,
    config_file: Path,
    data_root: Path | None,
) -> None:
    """Scores a network on the site's patients, and writes the exact figures, their report, and the file to send.

    Raises:
        ModelFileError: If the checkpoint cannot be used.
        SiteError: If the data cannot be used, the network was trained here, or a file is there already.
    """
    if out.exists() and not overwrite:
        raise SiteError(
            what="the file to send cannot be written there",
            where=f"--out {out}",
            found="a file already",
            fix="choose another name, or add --overwrite",
            exit_code=ExitCode.USAGE,
        )
    model = read_model(checkpoint)
    with console.status("reading and scoring the patients"):
        validated = validate_by_hand(site, model, config_file, data_root)
        exact = _write_exact(site, model, validated)
        write_to_send(site, model, validated, out)
    for name, metrics in validated.exact.metrics.items():
        console.print(f"{name}: {_figures(metrics)}", soft_wrap=True, highlight=False, markup=False)
    for line in (*withdrawal_warnings(model), *_written(exact, out, checkpoint), RESEARCH_ONLY):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _write_exact(site: SiteConfig, model: TrainedModel, validated: Validated) -> Path:
    """All digits, which stay here: in a file of the form that the report is drawn from."""
    reply = validated.exact
    whole = replace(reply, external=tested_without_small_cells(reply.external, model.task, model.config, 1))
    path = site.state_dir / "validations" / model.config.study / "exact.json"
    write_private(path, write_validation(replace(validated.file, reply=whole)))
    return path


def _figures(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4g}" for name in SHOWN if name in metrics)


def _written(exact: Path, out: Path, checkpoint: Path) -> list[str]:
    """Where everything is; the report is drawn by the program that draws a study's."""
    words = ["report", "--file", str(exact), "--checkpoint", str(checkpoint)]
    completed = subprocess.run([sys.executable, "-P", "-m", "server", *words], capture_output=True, check=False)
    page = exact.with_name("report.html")
    report = f"report, stays here: {page}"
    if completed.returncode:
        report = f"the report was not drawn; try: python -m server {' '.join(words)}"
    return [f"exact figures, stay here: {exact}", report, f"to send to the center: {out}"]
