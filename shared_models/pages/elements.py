"""Elements of a page: its verdict, and the tables, figures, pictures, notices and checklists of its sections.

A study's report makes them in `server/report/sections`, a site's own result in `client/site_result`; `layout.py` lays
them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Cell = str


@dataclass(frozen=True)
class Card:
    """A figure at the head of the page."""

    value: str
    what: str
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """The head of the page: sentences of what is shown, clauses of what is not, and the figures."""

    says: tuple[str, ...]
    not_shown: tuple[str, ...]
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        head: Its first cell.
        cells: The others.
        kind: `sub` for one under the row before, `chosen` for the one that counts, `group` for a heading of rows,
            `head` for one with empty cells.
        tag: A word in a coloured box after the head.
    """

    head: str
    cells: Sequence[Cell] = ()
    kind: Literal["", "sub", "chosen", "group", "head"] = ""
    tag: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a heading for each column; numbers are aligned right.

    Attributes:
        headings: Of the first column and of the others.
        rows: From the first on.
        caption: How it was computed, and of how many patients; numbered on the page.
        text_columns: How many columns after the first are text, and are aligned left.
        title: Above it, where tables are side by side.
        shaded: Whether cells that are shares are shaded by their value, as in a map of missing values.
    """

    headings: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""
    text_columns: int = 0
    title: str = ""
    shaded: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure, which is drawn when the page is written.

    Attributes:
        name: Of its files, `NAME.svg`, `NAME.pdf` and `NAME.csv`.
        draw: Draws it.
        alt: What it shows, for who does not see it.
        caption: How it was computed, and of how many patients; numbered on the page.
        columns: Of the CSV.
        values: The CSV's rows: what is drawn.
    """

    name: str
    draw: Callable[[], Drawing]
    alt: str
    caption: str
    columns: Sequence[str]
    values: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Pictures:
    """Planes of a patient's image, which only a page that stays at the hospital has.

    Attributes:
        title: What is seen.
        planes: The name of each, and its PNG as a `data:` URI.
    """

    title: str
    planes: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Facts:
    """Terms, each with what is to be said of it; None stands for what is not recorded or not filled."""

    rows: Sequence[tuple[str, str | None]]
    missing: str = "not recorded"


@dataclass(frozen=True)
class Notice:
    """A sentence in a box: `warning` for what a reader must know before using the figures."""

    title: str
    text: str
    kind: Literal["warning", "note", "apart"] = "note"
    big: str = ""
    small: str = ""


@dataclass(frozen=True)
class Panels:
    """Lists or tables side by side."""

    panels: Sequence[tuple[str, Sequence[str]] | Table]
    caption: str = ""


@dataclass(frozen=True)
class Item:
    """An item of a checklist: `where` names the section that answers it, else the state says who is to."""

    number: str
    text: str
    state: Literal["section", "author", "unfilled"]
    where: str


@dataclass(frozen=True)
class Checklist:
    """A reporting checklist, item by item."""

    title: str
    items: Sequence[Item]


Element = Table | Figure | Pictures | Facts | Notice | Panels | Checklist


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: Its heading.
        lead: Its finding in a sentence or two; empty where the elements say all.
        elements: In their order.
        absent: Whether the results hold nothing for it; the lead then says so.
    """

    title: str
    lead: str = ""
    elements: Sequence[Element] = field(default_factory=tuple)
    absent: bool = False


def not_recorded(title: str, what: str) -> Section:
    """The section of which the results hold nothing.

    Args:
        title: Its heading.
        what: What the results do not hold, after "Not recorded: ".
    """
    return Section(title, f"Not recorded: {what}", absent=True)
