"""Section on comparisons: other models on the same test patients, and each site's own model at every site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from server.report.study import Study
from server.study.results.comparison_section import MatrixCell, ModelComparison
from shared_models.metrics.names import NAMES
from shared_models.pages.elements import Element, Figure, Row, Section, Table, not_recorded
from shared_models.pages.forest import Line, draw_forest
from shared_models.pages.numbers import NBSP, NONE, count, number, p_value, span

TITLE = "Comparisons"
MAX_COLUMNS = 8
CALLS = ("only study's right", "only other right", "of patients", "McNemar's p", "after Holm")
MCNEMAR = (
    "McNemar's exact test is of right calls, each model at its own threshold, of patients at hospitals that may tell "
    "how many are right."
)
COLUMNS = ("model", "patients", "value", "low", "high", "difference", "low", "high", "p", "p after Holm")


def section(study: Study) -> Section:
    """A figure and a table for each target, and the matrix of sites."""
    rows, cells = study.results.comparisons, study.results.matrix
    if not rows and not cells:
        return not_recorded(TITLE, "the results of this study hold no other model on the same patients.")
    elements: list[Element] = []
    for target in dict.fromkeys(row.target for row in rows):
        own = [row for row in rows if row.target == target]
        elements += [_figure(target, own), _table(target, own)]
    for target in dict.fromkeys(one.target for one in cells):
        elements.append(_matrix(target, [one for one in cells if one.target == target]))
    return Section(TITLE, _lead(rows), elements)


def _lead(rows: Sequence[ModelComparison]) -> str:
    """How many of the other models differ after correction, in which direction."""
    if not rows:
        return ""
    shown = [row for row in rows if row.p_holm is not None and row.p_holm < 0.05]
    better = sum((row.difference or 0.0) > 0 for row in shown)
    few = sum(row.p_holm is None for row in rows)
    untested = f" {count(few)} of them could not be tested." if few else ""
    return (
        f"Of {count(len(rows))} comparisons with the study's network {count(better)} show the other model better and "
        f"{count(len(shown) - better)} show it worse (paired tests, p < 0.05 after Holm). The others show no "
        f"difference, which is not the same as showing that there is none.{untested}"
    )


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    return (low, high) if low is not None and high is not None else None


def _triple(row: ModelComparison, name: str) -> list[float | None]:
    return [getattr(row, f"{name}{end}") for end in ("", "_low", "_high")]


def _estimate(value: float | None, low: float | None, high: float | None, sign: bool = False) -> str:
    ends = _ends(low, high)
    return number(value, 2, sign) + (f" ({span(ends)})" if ends and value is not None else "")


def _figure(target: str, rows: Sequence[ModelComparison]) -> Figure:
    measure = NAMES[rows[0].measure]
    lines = [
        Line(
            row.model,
            [count(row.patients)],
            row.difference,
            _ends(row.difference_low, row.difference_high),
            _estimate(row.difference, row.difference_low, row.difference_high, sign=True)
            if row.difference is not None
            else "too few patients to tell",
        )
        for row in rows
    ]
    axis = f"{measure} less that of the study's network, pairs within hospitals"
    return Figure(
        name=f"comparisons_{target}",
        draw=lambda: draw_forest(lines, ["model", "patients"], axis, 0.0, f"difference (95{NBSP}% interval)"),
        alt=f"{measure} of {target} of other models less that of the study's network",
        caption=f"{target.replace('_', ' ')}: {measure} of other models less that of the study's network, of the same "
        "test patients, pairs within hospitals. Intervals are paired (DeLong's, of a C-index the jackknife).",
        columns=COLUMNS,
        values=[
            [row.model, row.patients, *_triple(row, "value"), *_triple(row, "difference"), row.p, row.p_holm]
            for row in rows
        ],
    )


def _table(target: str, rows: Sequence[ModelComparison]) -> Table:
    measure = NAMES[rows[0].measure]
    with_calls = any(row.mcnemar_p is not None for row in rows)
    return Table(
        [
            "Model",
            "patients",
            measure,
            "p",
            "after Holm",
            *(CALLS if with_calls else []),
        ],
        [Row(row.model, list(_cells(row, with_calls))) for row in rows],
        f"{target.replace('_', ' ')}, test patients whom both models score. p: of no difference from the study's "
        f"network, {'DeLong' if rows[0].measure == 'auc' else 'jackknife'}, paired, by hospital. "
        + (f"{MCNEMAR} " if with_calls else "")
        + "Holm's correction is over all tests of a kind in this study.",
    )


def _cells(row: ModelComparison, with_calls: bool) -> Iterator[str]:
    yield count(row.patients)
    yield _estimate(row.value, row.value_low, row.value_high)
    yield from (p_value(row.p), p_value(row.p_holm))
    if with_calls:
        tested = None if row.only_study_right is None else row.mcnemar_patients or row.patients
        numbers = (row.only_study_right, row.only_other_right, tested)
        yield from (NONE if one is None else count(one) for one in numbers)
        yield from (p_value(row.mcnemar_p), p_value(row.mcnemar_p_holm))


def _matrix(target: str, cells: Sequence[MatrixCell]) -> Table:
    """A row a model and a column a site; of many sites a row a cell."""
    sites = list(dict.fromkeys(one.tested_on for one in cells))
    measure = NAMES[cells[0].measure]
    caption = (
        f"{target.replace('_', ' ')}: {measure} of each hospital's own model, and of the study's network, at every "
        "hospital's test patients."
    )
    if len(sites) > MAX_COLUMNS:
        rows = [
            Row(
                one.trained_on,
                [one.tested_on, count(one.patients), _estimate(one.value, one.value_low, one.value_high)],
            )
            for one in cells
        ]
        return Table(["Trained at", "tested at", "patients", measure], rows, caption, text_columns=1)
    rows = []
    for model in dict.fromkeys(one.trained_on for one in cells):
        own = {one.tested_on: one for one in cells if one.trained_on == model}
        known = [own.get(site) for site in sites]  # where each hospital is left out in turn, none is tested by its own
        rows.append(Row(model, [_estimate(one.value, one.value_low, one.value_high) if one else NONE for one in known]))
    return Table(["Trained at", *sites], rows, caption)
