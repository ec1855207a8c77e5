"""Section on training: validation by round, and the norm of each site's update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.report.sections.design import epochs
from server.report.study import Study
from shared_models.pages.drawing import BLUE, ORANGE, canvas, whole_numbers
from shared_models.pages.elements import Element, Facts, Figure, Section
from shared_models.pages.numbers import elapsed, in_words, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

MAX_LINES = 40  # of single sites' updates


def section(study: Study) -> Section:
    """Validation and norms by round, and how the network was trained."""
    results = study.results
    elements: list[Element] = []
    if _validation(study) or _norms(study):
        elements.append(_figure(study))
    elements.append(Facts(_facts(study)))
    if results.folds:
        lead = f"Each of {in_words(len(results.folds), 'fold')} was trained on its own, and took its own best round."
        return Section("Training", lead, elements)
    if not _validation(study):
        lead = results.unscored or "No round was judged." if results.rounds else "No round was completed."
        return Section("Training", lead, elements)
    values = dict(_validation(study))
    best = values.get(results.best_round)
    last = f"Round {results.best_round} of {results.rounds_completed} is taken"
    lead = f"{last}, with a validation value of {number(best)}, which is optimistic by choice and is no result."
    return Section("Training", lead, elements)


def _validation(study: Study) -> list[tuple[int, float]]:
    return [(round_, value) for round_, value in study.results.validation if value is not None]


def _norms(study: Study) -> list[tuple[str, int, float, bool]]:
    """Site, round, norm and whether it was clipped, of each update that was seen."""
    return [
        (site, attempt.round, update.norm, update.clipped)
        for attempt in study.results.rounds
        for site, update in attempt.updates.items()
    ]


def _figure(study: Study) -> Figure:
    norms = _norms(study)
    seen = (
        "b: a line for each site, as its update came; crosses were clipped."
        if norms
        else "With secure aggregation no single update is seen, so that no norm is recorded."
    )
    return Figure(
        name="training",
        draw=lambda: _draw(study),
        alt="Validation value and update norms by round",
        caption=f"{'a: validation' if norms else 'Validation'} value, mean over targets; the round is chosen by: "
        f"{study.results.selected_by}. {seen}",
        columns=("series", "round", "value"),
        values=[
            *(("validation", *pair) for pair in _validation(study)),
            *((f"norm {site}", round_, norm) for site, round_, norm, _ in norms),
        ],
    )


def _draw(study: Study) -> Drawing:
    norms = _norms(study)
    drawing, all_axes = canvas(2.9, 2) if norms else canvas(2.9, share=0.5)
    _draw_validation(all_axes[0], study, "a  Validation" if norms else "Validation")
    if norms:
        _draw_norms(all_axes[1], norms)
    return drawing


def _draw_validation(axes: Axes, study: Study, title: str) -> None:
    values, best = _validation(study), study.results.best_round
    if values:
        axes.plot(*zip(*values, strict=True), color=BLUE, marker="." if len(values) < 40 else None)
    if taken := dict(values).get(best):
        axes.plot([best], [taken], "o", color=ORANGE)
        axes.annotate(
            f"round {best}: {number(taken)}",
            (best, taken),
            (0, 7),  # above: the round taken is the highest, or nearly
            textcoords="offset points",
            color=ORANGE,
            ha="center",
            fontweight="bold",
        )
        axes.margins(y=0.2)
    axes.set(xlabel="round", ylabel="validation value", title=title)
    whole_numbers(axes)


def _draw_norms(axes: Axes, norms: list[tuple[str, int, float, bool]]) -> None:
    ends: dict[str, tuple[int, float]] = {}
    for site in sorted({site for site, *_ in norms})[:MAX_LINES]:
        line = [(round_, norm) for name, round_, norm, _ in norms if name == site]
        axes.plot(*zip(*line, strict=True), color=BLUE, alpha=0.7, linewidth=1)
        ends[site] = line[-1]
    _label(axes, ends, max(norm for _, _, norm, _ in norms))
    if clipped := [(round_, norm) for _, round_, norm, was in norms if was]:
        axes.plot(*zip(*clipped, strict=True), "x", color=ORANGE)
    axes.set(xlabel="round", ylabel="L2 norm of the update", title="b  Norm of each site's update")
    axes.set_ylim(bottom=0)
    whole_numbers(axes)


def _label(axes: Axes, ends: dict[str, tuple[int, float]], top: float) -> None:
    """Names at the ends of the lines, moved apart where they would lie on each other; of many sites none."""
    if len(ends) > 12:
        return
    last = -1.0
    for site, (round_, norm) in sorted(ends.items(), key=lambda item: item[1][1]):
        last = max(norm, last + 0.06 * top)
        axes.annotate(site, (round_, last), (4, 0), textcoords="offset points", va="center", fontsize=8, color=BLUE)


def _facts(study: Study) -> list[tuple[str, str | None]]:
    setting, results = study.setting, study.results
    steps = (
        f"{setting('optimizer')}, learning rate {setting('learning-rate')} ({setting('learning-rate-schedule')}), "
        f"{epochs(study)}, batches of {setting('batch-size')}, "
        f"weight decay {setting('weight-decay')}"
    )
    seconds = [attempt.seconds for attempt in results.rounds]
    rounds = in_words(len(seconds), "round")
    time = f"{elapsed(sum(seconds))} for {rounds}; the longest {elapsed(max(seconds))}" if seconds else None
    return [
        ("Optimiser and schedule", steps),
        ("Aggregation", f"{results.strategy}. {results.aggregation.said}"),
        ("Chosen on validation", "round and decision threshold; nothing else" if _validation(study) else "nothing"),
        ("Class weights, oversampling", f"{setting('class-weights')}, {setting('oversampling')}"),
        ("Time", time),
    ]
