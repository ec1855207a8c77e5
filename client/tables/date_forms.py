"""Ways of writing dates, and which of them a column of texts follows."""

from __future__ import annotations

from collections.abc import Sequence

from client.tables.dates import as_day

FORMS = (
    *("iso", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
)
_PLAUSIBLE = (690_000, 750_000)  # days since the year 1: 1890 to 2053


def date_form(texts: Sequence[str]) -> str:
    """The first of `FORMS` that all texts follow; empty where none does, or they are plain numbers.

    >>> date_form(["31.12.2020", "01.02.2021"]), date_form(["12/31/2020", "01/02/2021"]), date_form(["40100", "40200"])
    ('%d.%m.%Y', '%m/%d/%Y', '')
    """
    if not texts or all(text.isdigit() and len(text) != 8 for text in texts):
        return ""
    return next((form for form in FORMS if all(_is_date(text, form) for text in texts)), "")


def _is_date(text: str, form: str) -> bool:
    return _PLAUSIBLE[0] < as_day(text, form) < _PLAUSIBLE[1]
