"""Page of the report: sections laid out in one HTML file that loads and runs nothing, and its figures as files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from server.report.drawing import DrawnFigure, draw, share_styles
from server.report.elements import Figure, Section, Table
from server.report.numbers import in_words
from server.report.sections import sections
from server.report.study import Study
from server.report.verdict import Verdict, listed, verdict
from server.study.results.results_file import read_results
from server.study.results.results_folder import FIGURES, REPORT
from server.study.results.schema import Results
from shared_models.atomic_files import write_atomically
from shared_models.report_answers import Answers, parse_answers
from shared_models.study_file import read_study

log = logging.getLogger("server")
_HERE = Path(__file__).parent
_SHADE = "rgba(31,95,158,{:.2f})"


@dataclass(frozen=True)
class Head:
    """The head of a page.

    Attributes:
        title: Of the page.
        line: Under it.
        verdict: What is shown, what is not, and the figures.
        failed: Whether a study did not come to its end.
        made_from: What the footer names.
    """

    title: str
    line: str
    verdict: Verdict
    failed: bool
    made_from: str


@dataclass(frozen=True)
class Numbers:
    """Numbers of sections, figures and tables, in the page's order."""

    made: Mapping[str, Section]

    @cached_property
    def sections(self) -> dict[str, int]:
        """Of each section, by its name."""
        return {name: number for number, name in enumerate(self.made, start=1)}

    @cached_property
    def figures(self) -> dict[str, int]:
        """Of each figure, by its name."""
        elements = (element for section in self.made.values() for element in section.elements)
        figures = (element for element in elements if isinstance(element, Figure))
        return {figure.name: number for number, figure in enumerate(figures, start=1)}

    @cached_property
    def tables(self) -> dict[int, int]:
        """Of each table with a caption, by its identity."""
        elements = (element for section in self.made.values() for element in section.elements)
        captioned = [element for element in elements if isinstance(element, Table) and element.caption]
        return {id(table): number for number, table in enumerate(captioned, start=1)}


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
    elements = (element for section in made.values() for element in section.elements)
    figures = [draw(element) for element in elements if isinstance(element, Figure)]
    return lay_out(_head(study), made, {one.figure.name: one for one in figures}), figures


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


def lay_out(head: Head, made: Mapping[str, Section], figures: Mapping[str, DrawnFigure]) -> str:
    """The page; all that comes from settings, sites and authors is escaped.

    Args:
        head: Its head.
        made: Its sections.
        figures: Each figure, drawn, by its name.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((_HERE / "page.html.jinja").read_text(encoding="utf-8")).render(
        head=head,
        style=Markup((_HERE / "style.css.jinja").read_text(encoding="utf-8")),
        verdict=head.verdict,
        not_shown=listed(head.verdict.not_shown),
        sections=made,
        figures=figures,
        numbers=Numbers(made),
        shade=_shade,
        identity=id,
    )
    return share_styles(text)


def _head(study: Study) -> Head:
    results = study.results
    made_from = f"results.json (schema {results.schema_version}) by breast-federation {results.package_version}"
    line = f"Study report · {results.study} · {_subtitle(study)}"
    return Head(study.title, line, verdict(study), bool(results.failure), made_from)


def _subtitle(study: Study) -> str:
    trained = f"{in_words(len(study.training), 'hospital')} trained"
    if not study.external:
        return trained
    return f"{trained}, {in_words(len(study.external), 'hospital')} only tested"


def _shade(cell: str) -> str:
    """A background the darker the larger the share is; nothing for a cell that is no share."""
    from markupsafe import Markup

    digits = cell.rstrip("%\N{NO-BREAK SPACE}")
    if not digits.replace(".", "").isdigit():
        return ""
    share = min(float(digits) / 100, 1.0)
    return Markup(f' style="background:{_SHADE.format(0.6 * share)}"') if share >= 0.02 else ""
