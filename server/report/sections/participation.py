"""Section on participation: which site's update counted in which round, and why not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from server.report.study import Study
from server.study.results.rounds_section import RoundAttempt
from shared_models.pages.drawing import BLUE, INK, ORANGE, canvas, whole_numbers
from shared_models.pages.elements import Figure, Notice, Section
from shared_models.pages.numbers import in_words, names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

TITLE = "Participation by site and round"
COUNTED, CLIPPED, MISSING = "counted", "counted, clipped", "did not count"
COLOURS = {COUNTED: BLUE, CLIPPED: "#8fbbe3", MISSING: ORANGE}
MAX_ROWS = 40  # of the figure; sites that counted in every round are then listed in a sentence

Fates = dict[str, list[tuple[int, str]]]


def section(study: Study) -> Section:
    """Who counted in which round; who is named and did not take part."""
    results = study.results
    absent = [Notice(f"{site} is not enrolled.", why, "warning") for site, why in results.not_enrolled.items()]
    untested = [Notice(f"{site} gave no test scores.", why, "warning") for site, why in results.problems.items()]
    idle = [
        Notice(f"{site} is named by the study and missing.", why, "warning")
        for site, why in results.missing.items()
        if site not in {**results.not_enrolled, **results.problems}
    ]
    late = [
        Notice(f"{site.site} enrolled late.", f"It took part from round {site.since_round} on.", "note")
        for site in results.sites
        if site.since_round > 1
    ]
    notices = _shortened([*absent, *late, *untested, *idle])
    if results.folds and not results.rounds:
        lead = f"The study has {in_words(len(results.folds), 'fold')}; who counted in which round of each is in the "
        return Section(TITLE, f"{lead}results.json of the fold's own folder.", notices)
    if not results.rounds:
        return Section(TITLE, "No round of training was recorded.", notices, absent=True)
    fates = fates_of(results.rounds)
    missed = {site: [r for r, fate in rounds if fate == MISSING] for site, rounds in fates.items()}
    missed = {site: rounds for site, rounds in missed.items() if rounds}
    away = [
        Notice(f"{site} {_missed(rounds, fates[site])}.", why(results.rounds, site), "warning")
        for site, rounds in missed.items()
    ]
    return Section(TITLE, _lead(study, missed), [_figure(study, fates), *_shortened(away), *notices])


def fates_of(attempts: Sequence[RoundAttempt]) -> Fates:
    """What became of each site's update in each round; of a round's attempts the last one is the one that counts."""
    last = {attempt.round: attempt for attempt in attempts}
    fates: Fates = defaultdict(list)
    for number, attempt in sorted(last.items()):
        for site in attempt.asked:
            clipped = site in attempt.updates and attempt.updates[site].clipped
            fate = (CLIPPED if clipped else COUNTED) if site in attempt.counted else MISSING
            fates[site].append((number, fate))
    return dict(sorted(fates.items()))


def why(attempts: Sequence[RoundAttempt], site: str) -> str:
    """The reasons that were given for a site whose update did not count."""
    reasons = [attempt.problems[site] for attempt in attempts if site in attempt.problems]
    return "; ".join(dict.fromkeys(reasons)) or "no reason was recorded"


def _missed(rounds: list[int], fates: list[tuple[int, str]]) -> str:
    return f"did not count in {len(rounds)} of {len(fates)} rounds ({_runs(rounds)})"


def _runs(rounds: Sequence[int]) -> str:
    """Rounds as ranges: `3, 11 to 17`."""
    runs = [[r for _, r in run] for _, run in groupby(enumerate(rounds), key=lambda pair: pair[1] - pair[0])]
    ranges = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ", ".join(ranges[:6]) + (f" and {len(ranges) - 6} more" if len(ranges) > 6 else "")


def _lead(study: Study, missed: dict[str, list[int]]) -> str:
    best = study.results.best_round
    taken = f"Round {best} is the one taken. " if best and not study.results.failure else ""
    if not missed:
        return f"{taken}Every site that was asked counted in every round."
    also = f" and {in_words(len(missed) - 3, 'further site')}" if len(missed) > 3 else ""
    who = names(list(missed)[:3]) + also
    return f"{taken}{who} did not count in every round."


def _shortened(notices: list[Notice]) -> list[Notice]:
    if len(notices) <= 6:
        return notices
    others = names([notice.title.partition(" ")[0] for notice in notices[6:]], most=12)
    return [*notices[:6], Notice(f"{len(notices) - 6} more sites:", others, "warning")]


def _figure(study: Study, fates: Fates) -> Figure:
    full = [site for site, rounds in fates.items() if all(fate != MISSING for _, fate in rounds)]
    hidden = full if len(fates) > MAX_ROWS else []
    shown = [site for site in fates if site not in hidden][: 2 * MAX_ROWS]
    others = f" {in_words(len(hidden), 'further site')} counted in every round, and have no row." if hidden else ""
    rest = len(fates) - len(hidden) - len(shown)
    others += f" {in_words(rest, 'further site')} that did not are in the CSV." if rest else ""
    tests = [site.site for site in study.external]
    only = f" {names(tests)} {'is' if len(tests) == 1 else 'are'} only tested, once, at the end." if tests else ""
    return Figure(
        name="participation",
        draw=lambda: _draw({site: fates[site] for site in shown}, study.results.best_round),
        alt=f"Participation of {len(fates)} sites by round",
        caption="What became of each site's update in each round; a clipped one was scaled to the bound and counted."
        + others
        + only,
        columns=("site", "round", "fate"),
        values=[(site, *fate) for site, rounds in fates.items() for fate in rounds],
    )


def _draw(fates: Fates, best: int) -> Drawing:
    rows = max(len(fates), 1)
    drawing, (axes,) = canvas(0.9 + 0.26 * rows)
    last = max((r for rounds in fates.values() for r, _ in rounds), default=1)
    for row, rounds in enumerate(fates.values()):
        for fate, group in groupby(rounds, key=lambda pair: pair[1]):
            run = [r for r, _ in group]
            cells = [(r - 0.44, 0.88) for r in run] if last <= 60 else [(run[0] - 0.5, len(run))]
            hatch = "////" if fate == MISSING else None
            face = "white" if fate == MISSING else COLOURS[fate]
            edge = COLOURS[fate] if fate == MISSING else face
            axes.broken_barh(cells, (row - 0.4, 0.8), facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.6)
        counted = sum(fate != MISSING for _, fate in rounds)
        axes.annotate(
            f"{counted} of {len(rounds)}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    if best:
        axes.axvline(best - 0.5, color=INK, linewidth=0.9)
        axes.axvline(best + 0.5, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(fates)), labels=list(fates), color=INK)
    axes.set(xlim=(0.4, last + 0.6), ylim=(rows - 0.4, -0.6), xlabel="round")
    whole_numbers(axes)
    axes.grid(False)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    _key(axes, {fate for rounds in fates.values() for _, fate in rounds}, best)
    return drawing


def _key(axes: object, fates: set[str], best: int) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=COLOURS[f], label=f) for f in (COUNTED, CLIPPED) if f in fates]
    if MISSING in fates:
        handles.append(Patch(facecolor="white", edgecolor=ORANGE, hatch="////", label=MISSING))
    if best:
        handles.append(Patch(facecolor="none", edgecolor=INK, label=f"round taken ({best})"))
    axes.figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))  # type: ignore[attr-defined]
