"""Table of `phantom_studies.py` in a page: what each network reads of its phantoms, beside a plain network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from paper_lines import Line
from scipy.stats import t as student

BEGIN, END = "<!-- phantom studies -->", "<!-- end of phantom studies -->"
CHANCE = 0.6  # below it a run has hardly learned anything


def with_table(text: str, names: Sequence[str], lines: Sequence[Line]) -> str:
    """The page's text with the table between its marks renewed.

    Raises:
        ValueError: If the page has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"the page has no lines {BEGIN} and {END}; expected both, around the table"
        raise ValueError(msg)
    return "\n".join([f"{before}{BEGIN}", *table(names, lines), f"{end}{after}"])


def table(names: Sequence[str], lines: Sequence[Line]) -> Iterator[str]:
    """A row for each target of each phantom."""
    yield f"| phantom | target | cohorts | federated | plain | difference | runs below {CHANCE} |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        own = [line for line in lines if line.table == name]
        for target in dict.fromkeys(line.target for line in own):
            ours, plain = (
                {line.seed: line.value for line in own if line.row == model and line.target == target}
                for model in ("federated", "plain")
            )
            both = sorted(ours.keys() & plain.keys())
            gaps = [ours[seed] - plain[seed] for seed in both]
            error = any(line.metric == "mae" for line in own if line.target == target)
            low = "-" if error else f"{_low(ours)}, {_low(plain)}"
            cells = (target, str(len(ours)), _mean(ours.values()), _mean(plain.values()), _mean(gaps, sign="+"), low)
            yield f"| `{name}` | {' | '.join(cells)} |"


def _low(values: dict[int, float]) -> int:
    return sum(value < CHANCE for value in values.values())


def _mean(values: Sequence[float] | object, sign: str = "") -> str:
    """The mean over cohorts and its 95 % interval by Student's t, where there are two cohorts or more."""
    array = np.array(list(values))  # type: ignore[call-overload]
    if not len(array):
        return "-"
    digits = 3 if np.abs(array).max() < 2 else 2
    mean = f"{array.mean():{sign}.{digits}f}"
    if len(array) < 2:
        return mean
    reach = student.ppf(0.975, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5
    return f"{mean} (±{reach:.{digits}f})"
