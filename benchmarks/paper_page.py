"""Page of `papers.py`: each table with means over cohorts or splits, the papers' figures, and what the image adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from paper_lines import Line
from paper_rows import Row, Table

HEAD = """\
# The papers' tables

Written by `python benchmarks/papers.py --write docs/papers.md` from `docs/papers.csv`, which has a line for each row,
target and seed. Networks are trained federated, with every setting at its default except what the row says;
classifiers learn from the pooled tables of all sites. Each figure is the mean over seeds, with the mean 95 % interval
over test patients; each seed is another synthetic cohort, or another split of real patients. The papers' figures are
not targets: they are of other patients, and some of them of splits by lesion or view. "-": the row does not predict
this target or was not run, or the paper has no figure for it. System D's eight models with their tests, and what drives
them, are in [paper_d.md](paper_d.md).
"""
GAIN = 0.01  # of an AUC: less is nothing


def page(tables: Sequence[Table], lines: Sequence[Line]) -> str:
    """The page, of the tables that have lines."""
    parts = [HEAD]
    for table in tables:
        own = [line for line in lines if line.table == table.key]
        parts.append("\n".join(section(table, own) if own else [f"## {table.key}", "", "Not run."]))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def section(table: Table, lines: Sequence[Line]) -> Iterator[str]:
    """A table, and a sentence on what its image adds."""
    targets = list(dict.fromkeys(line.target for line in lines))
    seeds = len({line.seed for line in lines})
    patients = sorted({line.patients for line in lines})
    span = f"{patients[0]:,}" if len(patients) == 1 else f"{patients[0]:,} to {patients[-1]:,}"
    yield f"## {table.key}"
    yield ""
    yield f"`{table.task}`; {seeds} {'seed' if seeds == 1 else 'seeds'}; {span} test patients. {table.note}".strip()
    yield ""
    yield f"| | {' | '.join(targets)} | paper | minutes |"
    yield "|" + "---|" * (len(targets) + 3)
    for row in table.rows:
        own = [line for line in lines if line.row == row.name]
        minutes = f"{np.mean([line.minutes for line in own]):.1f}" if own else ""
        cells = [_cell([line for line in own if line.target == target]) for target in targets]
        name = f"**{row.name}**" if row.full else row.name
        yield f"| {name} | {' | '.join(cells)} | {row.paper or '-'} | {minutes or 'not run'} |"
    yield from _gain(table, lines, targets)


def _cell(lines: Sequence[Line]) -> str:
    if not lines:
        return "-"
    value, low, high = (np.mean([getattr(line, name) for line in lines]) for name in ("value", "low", "high"))
    metric = {"c_index": "C ", "mae": "error "}.get(lines[0].metric, "")
    return f"{metric}{value:.3f}" + ("" if np.isnan(low) else f" ({low:.2f}-{high:.2f})")


def _gain(table: Table, lines: Sequence[Line], targets: Sequence[str]) -> Iterator[str]:
    """What the full network has over the best row that sees no image; the same seeds of both."""
    full = next((row for row in table.rows if row.full and row.sees_image), None)
    blind = [row for row in table.rows if not row.sees_image]
    if full is None or not blind:
        return
    sentences = []
    for target in targets:
        ours, best = _by_seed(lines, full, target), _best(lines, blind, target)
        shared = sorted(ours.keys() & best[1].keys())
        if not shared:
            continue
        gains = np.array([ours[seed] - best[1][seed] for seed in shared])
        word = "nothing is gained from the image" if gains.mean() <= GAIN else "the image adds to it"
        spread = f" ({gains.min():+.3f} to {gains.max():+.3f})" if len(gains) > 1 else ""
        sentences.append(f"{target}: {word}, {gains.mean():+.3f}{spread} over {best[0]}")
    if sentences:
        yield ""
        yield f"{'; '.join(sentences)}."


def _best(lines: Sequence[Line], rows: Sequence[Row], target: str) -> tuple[str, dict[int, float]]:
    known = {row.name: by_seed for row in rows if (by_seed := _by_seed(lines, row, target))}
    if not known:
        return "", {}
    name = max(known, key=lambda one: float(np.mean(list(known[one].values()))))
    return name, known[name]


def _by_seed(lines: Sequence[Line], row: Row, target: str) -> dict[int, float]:
    return {line.seed: line.value for line in lines if line.row == row.name and line.target == target}
