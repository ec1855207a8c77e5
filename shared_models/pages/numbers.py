"""Numbers as the report prints them: digits, intervals, shares, p values, lists of names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from shared_models.metrics.arrays import Metric

NONE, MINUS, NBSP = "–", "−", "\N{NO-BREAK SPACE}"
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
YEAR_DAYS = 365.25


def number(value: Metric | int, digits: int = 2, sign: bool = False) -> str:
    """A number with so many decimals and a true minus; a dash where there is none.

    >>> number(-0.0144, 3), number(None), number(0.5, 1, sign=True)
    ('−0.014', '–', '+0.5')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    zero = not float(text)
    return (text.lstrip("+-") if zero else text).replace("-", MINUS)


def count(value: Metric | int) -> str:
    """A count with commas in thousands; counts weighted for censoring are rounded.

    >>> count(2140.0)
    '2,140'
    """
    return f"{value:,.0f}" if isinstance(value, int | float) and math.isfinite(value) else NONE


def percent(value: Metric, digits: int = 0) -> str:
    r"""A share as a percentage.

    >>> percent(0.357)
    '36\xa0%'
    """
    return f"{number(100 * value, digits)}{NBSP}%" if isinstance(value, int | float) else NONE


def p_value(value: Metric) -> str:
    """A p value with two digits.

    >>> p_value(0.0183), p_value(2e-9), p_value(0.35)
    ('0.018', '< 0.001', '0.35')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def bounds(metrics: Mapping[str, Metric], name: str) -> tuple[float, float] | None:
    """The bounds of a metric's interval, where both are known."""
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return (low, high) if isinstance(low, float | int) and isinstance(high, float | int) else None


def span(ends: tuple[float, float] | None, digits: int = 2) -> str:
    """An interval's bounds in words; empty where there is none.

    >>> span((0.62, 0.751))
    '0.62 to 0.75'
    """
    return f"{number(ends[0], digits)} to {number(ends[1], digits)}" if ends else ""


def with_interval(metrics: Mapping[str, Metric], name: str, digits: int = 2) -> str:
    """A metric with its interval: `0.69 (0.62 to 0.75)`."""
    value, ends = metrics.get(name), bounds(metrics, name)
    estimate = number(value, digits)
    return f"{estimate} ({span(ends, digits)})" if ends and estimate != NONE else estimate


def in_words(value: int, noun: str) -> str:
    """A small count in words with its noun.

    >>> in_words(2, "hospital"), in_words(1, "round"), in_words(30, "round")
    ('two hospitals', 'one round', '30 rounds')
    """
    words = WORDS[value] if value < len(WORDS) else f"{value:,}"
    return f"{words} {noun}{'' if value == 1 else 's'}"


def names(words: Sequence[str], most: int = 8) -> str:
    """Names as a list in a sentence; of many only the first.

    >>> names(["A", "B", "C"]), names([str(i) for i in range(12)], most=3)
    ('A, B and C', '0, 1, 2 and 9 more')
    """
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def duration(days: float) -> str:
    """A time in years, months or days.

    >>> duration(1826.25), duration(548), duration(90)
    ('5 years', '18 months', '90 days')
    """
    years, months = days / YEAR_DAYS, 12 * days / YEAR_DAYS
    if abs(years - round(years)) < 0.01 and round(years):
        return f"{round(years)} year{'' if round(years) == 1 else 's'}"
    return f"{months:.0f} months" if months >= 6 else f"{days:g} days"


def elapsed(seconds: float) -> str:
    """How long something took.

    >>> elapsed(34800), elapsed(75), elapsed(3.2)
    ('9 h 40 min', '1 min 15 s', '3.2 s')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
