"""Results and report of an external validation, written beside those of the study whose network it is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from server.report.page import try_to_report, write_report
from server.study.external_validation import add_to_study, results_of, validation_results
from server.study.results.csv_file import write_csv
from server.study.results.results_file import RESULTS, write_results
from server.study.results.results_folder import REPORT
from server.study.results.schema import Results
from shared_models.external_validation import read_validation, validation_settings
from shared_models.folds import fold_of
from shared_models.trained_model import TrainedModel


def finish_validation(model: TrainedModel, results_dir: Path, problems: Mapping[str, str]) -> Results:
    """Writes the results of all answers, and adds them to the study's own results and report.

    Raises:
        StudyError: If an answer, or the study's results, cannot be used.
    """
    folder, study = results_dir / validation_settings(model, []).study, results_dir / model.config.study
    validated = validation_results(model, folder, problems)
    write_csv(validated, folder)
    write_results(validated, folder)
    try_to_report(validated, folder)
    if whole := add_to_study(validated, model, study / RESULTS):
        write_results(whole, study)
        if fold_of(model.config) is None:
            try_to_report(whole, study)
    return validated


def report_of_file(file: Path, model: TrainedModel) -> Path:
    """Writes the report of one hospital's file beside it, as at a hospital of its own exact figures.

    Raises:
        ModelFileError: If the file cannot be used.
        StudyError: If it is of another network.
    """
    results = results_of([read_validation(file)], model, {}, str(file))
    write_report(results, file.parent)
    return file.parent / REPORT
