"""Drawing of the report's figures with matplotlib: their style, and as inline SVG, SVG, PDF and CSV files."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared_models.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

    from shared_models.pages.elements import Figure

INK, SOFT, LINE, BACK, NAVY = "#1b2733", "#55636f", "#d9e0e6", "#e9eef2", "#14324d"
BLUE, ORANGE, HOLLOW, PALE = "#1f5f9e", "#b5440b", "#8a97a3", "#c5ced6"
Role = Literal["internal", "external"]
ROLES: tuple[Role, ...] = ("internal", "external")
"""Whether patients are of hospitals that train, or of others."""
COLOUR = {"internal": BLUE, "external": ORANGE}
MARKER = {"internal": "s", "external": "o"}
DASH = {"internal": "-", "external": (0, (5, 2))}
WIDTH_INCHES = 9.4

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a site may be called $x$
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": HOLLOW,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": BACK,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@contextmanager
def styled(name: str = "figure") -> Iterator[None]:
    """The report's style, and identifiers in the SVG that no other figure of the page has."""
    from matplotlib import rc_context

    with rc_context({**_STYLE, "svg.hashsalt": name, "svg.id": name}):
        yield


def canvas(
    height_inches: float, columns: int = 1, share: float = 1.0, same_y: bool = False
) -> tuple[Drawing, list[Axes]]:
    """A drawing of the page's width, or a share of it, with so many axes side by side."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(share * WIDTH_INCHES, height_inches), layout="constrained")
    axes = drawing.subplots(1, columns, squeeze=False, sharey=same_y)
    return drawing, list(axes[0])


def grid(height_inches: float, rows: int, columns: int, share: float = 1.0) -> tuple[Drawing, list[list[Axes]]]:
    """A drawing with rows of axes that have the same scales."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(share * WIDTH_INCHES, height_inches), layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False, sharex="row", sharey="row")
    return drawing, [list(row) for row in axes]


def over_under(
    above_inches: float, below_inches: float, columns: int, share: float = 1.0
) -> tuple[Drawing, tuple[list[Axes], list[Axes]]]:
    """Axes side by side, and under each a lower one that has its x axis: for what belongs to the values there.

    Args:
        above_inches: Height of the upper axes.
        below_inches: Of the lower ones.
        columns: How many of each.
        share: Of the page's width.
    """
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(share * WIDTH_INCHES, above_inches + below_inches + 0.5), layout="constrained")
    heights = (above_inches, below_inches)
    axes = drawing.subplots(2, columns, squeeze=False, sharex="col", height_ratios=heights)
    return drawing, (list(axes[0]), list(axes[1]))


def narrow_title(name: str) -> str:
    r"""A site's name in lines that fit above axes a fifth of the page wide.

    >>> narrow_title("A"), narrow_title("university-hospital-north")
    ('A', 'university-\nhospital-north')
    """
    return textwrap.fill(name, 16, max_lines=3, placeholder=" …")


def whole_numbers(axes: Axes) -> None:
    """Ticks at whole numbers, as of rounds."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


@dataclass(frozen=True)
class DrawnFigure:
    """A figure that is drawn.

    Attributes:
        figure: What was to be drawn.
        drawing: As matplotlib's.
        svg: As a file's contents.
    """

    figure: Figure
    drawing: Drawing
    svg: str

    def save(self, folder: Path) -> None:
        """Writes `NAME.svg`, `NAME.pdf` and `NAME.csv` for a paper."""
        folder.mkdir(parents=True, exist_ok=True)
        pdf = io.BytesIO()
        with styled(self.figure.name):
            self.drawing.savefig(pdf, format="pdf", metadata={"CreationDate": None})
        write_atomically(folder / f"{self.figure.name}.svg", self.svg)
        write_atomically(folder / f"{self.figure.name}.pdf", pdf.getvalue())
        write_atomically(folder / f"{self.figure.name}.csv", table_text(self.figure.columns, self.figure.values))

    @property
    def narrow(self) -> bool:
        """Whether it takes half of the page's width."""
        return bool(self.drawing.get_figwidth() < 0.75 * WIDTH_INCHES)

    def inline(self) -> str:
        """The SVG as an element of the page."""
        return _tidy(self.svg, self.figure)


def draw(figure: Figure) -> DrawnFigure:
    """Draws a figure in the report's style; its layout is then as it stays."""
    with styled(figure.name):
        drawing = figure.draw()
        text = io.StringIO()
        drawing.savefig(text, format="svg", metadata=_NO_METADATA, transparent=True)
        drawing.set_layout_engine("none")
    return DrawnFigure(figure, drawing, text.getvalue())


def table_text(columns: Sequence[str], values: Sequence[Sequence[object]]) -> str:
    """A CSV; an empty cell where there is no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if cell is None else cell for cell in row] for row in values)
    return text.getvalue()


_NUMBER = re.compile(r"(?<!opacity: )(?<![\w#.-])-?\d+\.\d{2,}")
_REFERENCE = re.compile(r'url\(#([^)]+)\)|href="#([^"]+)"')
_TAG = re.compile(r"<[^>]*>")  # what is between tags is text, whose numbers keep their digits


def _tidy(svg: str, figure: Figure) -> str:
    """Only the `svg` element, one decimal, no rule for the whole page, a width that the page gives, and a label."""
    from xml.sax.saxutils import quoteattr

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _TAG.sub(lambda tag: _NUMBER.sub(_one_decimal, re.sub(r"\s+", " ", tag.group())), svg)
    svg = re.sub(r"font: (?:(bold|700) )?([\d.]+)px 'DejaVu Sans'(?:, sans-serif)?", _font, svg)
    svg = re.sub(r">\s+<", "><", svg)
    used = {"".join(pair) for pair in _REFERENCE.findall(svg)}
    svg = re.sub(r' id="([^"]*)"', lambda match: match.group() if match.group(1) in used else "", svg)
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size, "matplotlib writes a viewBox"
    head = f'<svg class="plot" role="img" {size.group()} aria-label={quoteattr(figure.alt)}>'
    return re.sub(r"^<svg[^>]*>", lambda _: head, svg)


def _one_decimal(match: re.Match[str]) -> str:
    return f"{float(match.group()):.1f}".removesuffix(".0")


def _font(match: re.Match[str]) -> str:
    weight = "font-weight: 700; " if match.group(1) else ""
    return f"{weight}font-size: {match.group(2)}px"


_STYLED = re.compile(r'(<(?:path|g|text|use|rect|line|polyline|circle|tspan)\b[^>]*?) style="([^"]*)"([^>]*>)')
_OFTEN = 3


def share_styles(page: str) -> str:
    """The page with styles that several elements of its figures have written once, as classes: some 15 % less."""
    uses = Counter(match.group(2) for match in _STYLED.finditer(page))
    names = {style: f"g{number}" for number, (style, times) in enumerate(uses.most_common()) if times >= _OFTEN}

    def short(match: re.Match[str]) -> str:
        head, style, rest = match.groups()
        return f'{head} class="{names[style]}"{rest}' if style in names else match.group()

    rules = "\n".join(f"svg.plot .{name} {{ {style} }}" for style, name in names.items())
    return _STYLED.sub(short, page).replace("</style>", f"{rules}\n</style>", 1)
