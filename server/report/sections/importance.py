"""Section on what the model uses: what its scores lose with a modality or a feature shuffled between patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from server.report.study import Outcome, Study
from server.study.results.importance_section import ImportanceResults, shuffled_modalities
from shared_models.metrics.names import NAMES
from shared_models.pages.drawing import ROLES, Role
from shared_models.pages.elements import Element, Figure, Row, Section, Table, not_recorded
from shared_models.pages.forest import Line, draw_forest
from shared_models.pages.numbers import NBSP, count, names, number, span

TITLE = "What the model uses"
MAX_FEATURES = 25  # in the figure, those that lose most; the CSV has all
COLUMNS = ("role", "modality", "feature", "change", "patients", "drop", "low", "high", "all_pairs", "low", "high")


def section(study: Study) -> Section:
    """A figure for each target, and in words which modalities the scores depend on."""
    shown_roles = [(outcome, role) for outcome in study.outcomes for role in ROLES if _rows(outcome, role)]
    if not shown_roles:
        return not_recorded(
            TITLE,
            "the results of this study hold no metric with a modality or a feature shuffled between patients; the "
            "setting importance asks for it, of networks of several modalities or of features of tables.",
        )
    shown = [outcome for outcome in study.outcomes if any(_rows(outcome, role) for role in ROLES)]
    elements: list[Element] = [_figure(outcome) for outcome in shown]
    elements += [_shapley(outcome) for outcome in shown if any(_explained(outcome, role) for role in ROLES)]
    return Section(TITLE, " ".join(_lead(outcome, role) for outcome, role in shown_roles), elements)


def _rows(outcome: Outcome, role: Role) -> Sequence[ImportanceResults]:
    return outcome.results.importance.get(role, [])


def _explained(outcome: Outcome, role: Role) -> list[ImportanceResults]:
    """The features with a mean absolute Shapley value, largest first."""
    return sorted((row for row in _rows(outcome, role) if row.mean_shap is not None), key=lambda row: -_shap(row))


def _shap(row: ImportanceResults) -> float:
    return row.mean_shap or 0.0


def _shapley(outcome: Outcome) -> Table:
    rows = [
        Row(f"{role.capitalize()}: {_words(row.modality)}: {row.feature}", [count(row.explained), f"{_shap(row):.4f}"])
        for role in ROLES
        for row in _explained(outcome, role)[:MAX_FEATURES]
    ]
    caption = (
        f"{outcome.full_label}: mean absolute Shapley value of each feature (SHAP), by which it moves a score "
        "either way, test patients; a feature that is left out has its mean over training patients. It says what the "
        f"network uses, and not what is right. The {MAX_FEATURES} largest; results.json has all."
    )
    return Table(["Feature", "patients", "mean |SHAP|"], rows, caption)


def _lead(outcome: Outcome, role: Role) -> str:
    """Which modalities are used, which are not, and the features that cost most."""
    rows = _rows(outcome, role)
    whole = shuffled_modalities(rows)
    features = sorted((row for row in rows if row.feature), key=lambda row: -(row.drop or 0.0))
    measure = NAMES[rows[0].measure]
    parts = []
    if used := [f"{_words(row.modality)} {_interval(row)}" for row in whole if row.used]:
        parts.append(f"the {measure} loses, shuffled between patients of a hospital: {names(used)}")
    if unused := [_words(row.modality) for row in whole if not row.used]:
        parts.append(f"no use of {names(unused)} is shown")
    if of_features := [f"{_words(row.feature)} {_interval(row)}" for row in features[:3] if row.used]:
        parts.append(f"the features whose shuffling costs most are {names(of_features)}")
    elif features:
        parts.append("no use of any single feature is shown")
    return f"{outcome.full_label}, {role} test patients: {'; '.join(parts) or 'too few patients to tell'}."


def _words(name: str) -> str:
    return name.replace("_", " ")


def _interval(row: ImportanceResults) -> str:
    ends = (row.drop_low, row.drop_high)
    known = (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None
    return number(row.drop) + (f" ({span(known)})" if known else "")


def _figure(outcome: Outcome) -> Figure:
    lines = [line for role in ROLES for line in _lines(outcome, role)]
    rows = next(rows for role in ROLES if (rows := _rows(outcome, role)))
    measure = NAMES[rows[0].measure]
    axis = f"loss of the {measure} of pairs within hospitals (0: not used)"
    return Figure(
        name=f"importance_{outcome.name}",
        draw=lambda: draw_forest(lines, ["input", "patients"], axis, 0.0, f"loss (95{NBSP}% interval)"),
        alt=f"What the {measure} of {outcome.full_label} loses without each modality or feature",
        caption=_caption(outcome, measure, len(rows)),
        columns=COLUMNS,
        values=[list(_values(role, row)) for role in ROLES for row in _rows(outcome, role)],
    )


def _caption(outcome: Outcome, measure: str, rows: int) -> str:
    sentences = [
        f"{measure} of {outcome.full_label} lost by a change of the input, test patients, pairs of patients of the "
        "same hospital. Shuffled: each patient has that of another one there, five times, so that it still looks as "
        "it did. Absent: hidden, as of patients who lack it; a network trained with modality dropout has met that.",
        "Intervals are DeLong's of paired scores, for a C-index the jackknife; the shuffles are taken as given. What "
        "two inputs tell alike is lost by neither alone.",
    ]
    apart = [row for row in (*_rows(outcome, "internal"), *_rows(outcome, "external")) if row.pooled_drop is not None]
    if apart:
        sentences.append(
            "The CSV has the loss over pairs of all hospitals' patients, too: where it is larger, the input tells the "
            "hospital."
        )
    if rows > MAX_FEATURES:
        sentences.append(f"Of features, the {MAX_FEATURES} that cost most are drawn; the CSV has all.")
    return " ".join(sentences)


def _lines(outcome: Outcome, role: Role) -> Iterator[Line]:
    rows = _rows(outcome, role)
    for change, heading in (("shuffled", "shuffled between patients"), ("absent", "absent")):
        whole = [row for row in rows if not row.feature and row.change == change]
        if whole:
            yield Line(f"{role.capitalize()}: {heading}", kind="heading")
            yield from (_line(row, _words(row.modality), role) for row in whole)
    features = sorted((row for row in rows if row.feature), key=lambda row: -(row.drop or 0.0))[:MAX_FEATURES]
    if features:
        yield Line(f"{role.capitalize()}: features shuffled", kind="heading")
        yield from (_line(row, f"{_words(row.modality)}: {row.feature}", role) for row in features)


def _line(row: ImportanceResults, label: str, role: Role) -> Line:
    if row.drop is not None and row.drop_low is None:  # no patient's place changes
        return Line(label, [count(row.patients)], row.drop, None, f"{number(row.drop)}, no place changes", role=role)
    ends = (row.drop_low, row.drop_high)
    known = (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None
    estimate = _interval(row) if row.drop is not None else "too few patients to tell"
    return Line(label, [count(row.patients)], row.drop, known, estimate, role=role)


def _values(role: Role, row: ImportanceResults) -> Iterator[object]:
    yield from (role, row.modality, row.feature, row.change, row.patients, row.drop, row.drop_low, row.drop_high)
    yield from (row.pooled_drop, row.pooled_drop_low, row.pooled_drop_high)
