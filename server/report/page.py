"""Page of a study's report, made of its results alone, and its figures as files."""

from __future__ import annotations

import logging
from pathlib import Path

from server.report.sections import sections
from server.report.study import Study
from server.report.verdict import verdict
from server.study.results.results_file import read_results
from server.study.results.results_folder import FIGURES, REPORT
from server.study.results.schema import Results
from shared_models.atomic_files import write_atomically
from shared_models.pages.drawing import DrawnFigure
from shared_models.pages.layout import Head, draw_figures, lay_out
from shared_models.pages.numbers import in_words
from shared_models.report_answers import Answers, parse_answers
from shared_models.study_file import read_study

log = logging.getLogger("server")
BANNER = ("Research only.", "Sums and counts of hospitals; no patient's record is on this page.")
FOOTER = (
    "Made from {}. The page holds sums and counts that left the hospitals, no row and no identifier. Figures for print "
    "are in the folder figures beside it."
)


def write_report(results: Results, folder: Path, answers: Answers | None = None) -> Path:
    """Writes `report.html` into a study's folder, and its figures for print into `figures` there.

    Args:
        results: What results.json holds; nothing else is read.
        folder: The study's.
        answers: Of the authors, in place of those that the study was started with.

    Returns:
        The page's path.
    """
    page, figures = draw_page(results, answers)
    for figure in figures:
        figure.save(folder / FIGURES)
    path = folder / REPORT
    write_atomically(path, page)
    return path


def draw_page(results: Results, answers: Answers | None = None) -> tuple[str, list[DrawnFigure]]:
    """The page, and its figures as they were drawn.

    Args:
        results: What results.json holds.
        answers: Of the authors, in place of those that the study was started with.
    """
    study = Study(results, answers if answers is not None else parse_answers(str(results.config.get("report", ""))))
    made = sections(study)
    figures = draw_figures(made)
    return lay_out(_head(study), made, figures), figures


def report_again(results: Path, answers: Path | None = None) -> Path:
    """Writes the report of a study that has ended beside its results.

    Args:
        results: Its `results.json`, or `unfinished.json` of one that failed.
        answers: A study's file whose `[report]` table replaces the answers that the study was started with.

    Raises:
        StudyError: If the results cannot be read.
        SettingsError: If the file cannot.
    """
    given = None if answers is None else parse_answers(read_study(answers).report)
    return write_report(read_results(results), results.parent, given)


def open_report(path: Path) -> None:
    """Shows the page in the browser of whoever started the program, where there is one."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        log.warning("no browser was found here; open %s in one", path.resolve())


def try_to_report(results: Results, folder: Path) -> Path | None:
    """Writes the report of a study that has just ended; a report that fails takes nothing from the study."""
    try:
        return write_report(results, folder)
    except Exception:  # results.json is written: whatever a drawing library says of it, the study is done
        log.exception("the report was not written; results.json was. Try: python -m server report %s", results.study)
        return None


def _head(study: Study) -> Head:
    results = study.results
    made_from = f"results.json (schema {results.schema_version}) by breast-federation {results.package_version}"
    line = f"Study report · {results.study} · {_subtitle(study)}"
    footer = FOOTER.format(made_from)
    return Head(study.title, "study report", line, verdict(study), bool(results.failure), BANNER, footer)


def _subtitle(study: Study) -> str:
    trained = f"{in_words(len(study.training), 'hospital')} trained"
    if not study.external:
        return trained
    return f"{trained}, {in_words(len(study.external), 'hospital')} only tested"
