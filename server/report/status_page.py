"""Status page of a study that runs: one HTML file that loads and runs nothing, and reloads itself."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.study.status import Scored, SiteProgress, StudyProgress
from shared_models.pages.numbers import NONE, elapsed, in_words, number

AGAIN_S = 5  # between two looks of the browser
MAX_DONE = 12
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 220, 46, 28, 10, 14
QUESTIONS = {
    "query.prepare": "counting",
    "query.weights": "first weights",
    **dict.fromkeys(("query.enrol", "query.deal", "query.confirm", "query.open"), "secure aggregation"),
    "train": "training",
    "evaluate.validation": "validation",
    "evaluate.test": "test",
    "evaluate.external": "external validation",
    "evaluate.comparison": "comparison",
}
"""What a request is about, in a reader's words."""
HEADINGS = ("site", "now", "at the site", "on its way", "waiting", "counted", "norm", "ε spent", "last problem")
_HERE = Path(__file__).parent


def draw_status(state: StudyProgress) -> str:
    """The page; all that comes from settings and sites is escaped."""
    page: str = _template().render(
        state=state,
        headline=headline(state),
        rows=[site_row(name, site, state) for name, site in sorted(state.sites.items())],
        headings=HEADINGS,
        awaited=awaited(state),
        done=state.done[: -MAX_DONE - 1 : -1],
        curve=_curve(state.curve, state.best_round),
        best=next((one for one in state.curve if one.round == state.best_round), None),
        again_s=AGAIN_S,
        number=number,
        elapsed=elapsed,
        clock=clock,
    )
    return page


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((_HERE / "status.html.jinja").read_text(encoding="utf-8"))


def headline(state: StudyProgress) -> str:
    """Where the study is, in a sentence."""
    fold = f"Fold {state.fold_number} of {state.folds} ({state.fold}): " if state.fold else ""
    if state.state == "failed":
        return f"Failed after round {_done(state)} of {state.rounds}: {state.failure}"
    if state.state == "completed":
        lacks = f", without {', '.join(state.missing)}, which it names" if state.missing else ""
        return f"Done{lacks}. The results are in results.json and report.html beside this page."
    if state.stage != "training":
        return f"{fold}{state.stage[:1].upper()}{state.stage[1:]}."
    again = f", attempt {state.attempt}" if state.attempt > 1 else ""
    left = f", about {elapsed(state.left_s)} left" if state.left_s else ""
    return f"{fold}Round {state.round} of {state.rounds}{again}, since {clock(state.round_began)}{left}."


def awaited(state: StudyProgress) -> str:
    """Who has answered, and who is awaited since when."""
    if state.state != "running":
        return ""
    answered = sum(site.doing == "answered" for site in state.sites.values())
    asked = [(name, site) for name, site in state.sites.items() if site.doing == "working"]
    away = [f"{name} since {clock(site.since)}" for name, site in state.sites.items() if site.doing == "away"]
    parts = [f"{in_words(answered, 'site')} answered"] if answered or asked else []
    parts += [f"awaited: {_some([f'{name} since {clock(site.asked)}' for name, site in asked])}"] if asked else []
    parts += [f"not connected: {_some(away)}"] if away else []
    sentence = "; ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def site_row(name: str, site: SiteProgress, state: StudyProgress) -> tuple[str, ...]:
    """A site's cells, under `HEADINGS`."""
    about = QUESTIONS.get(site.message, site.message)
    words = {
        "away": f"not connected since {clock(site.since)}",
        "idle": "connected",
        "working": f"{about}: asked at {clock(site.asked)}",
        "answered": f"{about}: answered at {clock(site.since)}",
        "failed": f"failed at {clock(site.since)}",
    }
    rounds = site.counted + site.missed
    waits = (
        site.doing == "answered"
        and state.state == "running"
        and any(other.doing == "working" for other in state.sites.values())
    )
    return (
        name,
        words[site.doing],
        NONE if site.at_site_s is None else elapsed(site.at_site_s),
        NONE if site.back_s is None else elapsed(site.back_s),
        f"since {clock(site.since)}" if waits else NONE,
        f"{site.counted} of {rounds}" if rounds else NONE,
        "" if site.norm is None else f"{site.norm:.3g}{' clipped' if site.clipped else ''}",
        "" if site.epsilon is None else f"{number(site.epsilon)} at δ {site.delta:g}",
        site.problem,
    )


def clock(moment: str) -> str:
    """The time of a day in UTC, with the date where it is another day's."""
    if not moment:
        return NONE
    time = datetime.fromisoformat(moment)
    return f"{time:%H:%M:%S}" if time.date() == datetime.now(UTC).date() else f"{time:%Y-%m-%d %H:%M}"


def _done(state: StudyProgress) -> int:
    return max((one.round for one in state.done if one.counted), default=0)


def _some(words: list[str], most: int = 6) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _curve(points: list[Scored], best_round: int) -> dict[str, Any] | None:
    """Places of the curve of validation values and of its band; None before the first value."""
    known = [point for point in points if point.value is not None]
    if not known:
        return None
    ends = [end for point in known for end in (point.value, point.low, point.high) if end is not None]
    low, high = min(ends), max(ends)
    low, high = (low - 0.05, high + 0.05) if high - low < 0.02 else (low, high)
    first, last = known[0].round, max(known[-1].round, known[0].round + 1)

    def x(number: int) -> float:
        return round(LEFT + (number - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    banded = [(point.round, point.low, point.high) for point in known if point.low is not None]
    upper = [(x(number), y(top)) for number, _, top in banded if top is not None]
    lower = [(x(number), y(bottom)) for number, bottom, _ in banded if bottom is not None]
    line = [(x(point.round), y(point.value)) for point in known if point.value is not None]
    best = [(x(p.round), y(p.value)) for p in known if p.round == best_round and p.value is not None]
    return {
        "size": (WIDTH, HEIGHT),
        "line": _places(line),
        "band": _places([*upper, *reversed(lower)]),
        "dots": line if len(line) <= 60 else [],
        "best": best[:1],
        "ticks": [(LEFT - 6, y(value), number(value)) for value in (low, (low + high) / 2, high)],
        "rounds": [(x(first), HEIGHT - 8, str(first)), (x(last), HEIGHT - 8, str(last))],
        "frame": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
    }


def _places(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
