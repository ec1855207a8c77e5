"""Layout of a page: sections in one HTML file that loads and runs nothing, for a study's report and a site's result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shared_models.pages.drawing import DrawnFigure, draw, share_styles
from shared_models.pages.elements import Figure, Section, Table, Verdict

_HERE = Path(__file__).parent
_SHADE = "rgba(31,95,158,{:.2f})"


@dataclass(frozen=True)
class Head:
    """The head of a page, and its foot.

    Attributes:
        title: Of the page.
        kind: What page it is, for the window's title.
        line: Under the title.
        verdict: What is shown, what is not, and the figures.
        failed: Whether a study did not come to its end.
        banner: What every reader must know, in two or three words and in a sentence.
        footer: At the end of the page.
    """

    title: str
    kind: str
    line: str
    verdict: Verdict
    failed: bool
    banner: tuple[str, str]
    footer: str


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


def draw_figures(made: Mapping[str, Section]) -> list[DrawnFigure]:
    """All figures of some sections, drawn."""
    elements = (element for section in made.values() for element in section.elements)
    return [draw(element) for element in elements if isinstance(element, Figure)]


def lay_out(head: Head, made: Mapping[str, Section], figures: list[DrawnFigure]) -> str:
    """The page; all that comes from settings, sites and authors is escaped.

    Args:
        head: Its head.
        made: Its sections.
        figures: Theirs, drawn.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((_HERE / "page.html.jinja").read_text(encoding="utf-8")).render(
        head=head,
        style=Markup((_HERE / "style.css.jinja").read_text(encoding="utf-8")),
        verdict=head.verdict,
        not_shown="; ".join(head.verdict.not_shown),
        sections=made,
        figures={one.figure.name: one for one in figures},
        numbers=Numbers(made),
        shade=_shade,
        identity=id,
    )
    return share_styles(text)


def _shade(cell: str) -> str:
    """A background the darker the larger the share is; nothing for a cell that is no share."""
    from markupsafe import Markup

    digits = cell.rstrip("%\N{NO-BREAK SPACE}")
    if not digits.replace(".", "").isdigit():
        return ""
    share = min(float(digits) / 100, 1.0)
    return Markup(f' style="background:{_SHADE.format(0.6 * share)}"') if share >= 0.02 else ""
