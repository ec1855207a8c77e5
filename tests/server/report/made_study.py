"""A study whose statistics are counted from patients, by the code that a study runs, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from server.report.page import draw_page
from server.study.enrolment import Enrolment
from server.study.exchange import Answer
from server.study.results.contents import make_results
from server.study.results.schema import Results
from server.study.scoring import pack, pool, thresholds
from server.study.weights.checkpoint import Checkpoint
from shared_models.messages import EvaluateTestReply
from shared_models.metrics.summary import merge_small_cells, pack_summary, site_metrics, summarise
from shared_models.pages.drawing import DrawnFigure
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent
from shared_models.task import Table, Task

Scored = tuple[np.ndarray, np.ndarray]


def patients(target: Target, count: int, seed: int, strength: float, prevalence: float = 0.4) -> Scored:
    """Scores and labels of some patients; the scores say the more of the labels the larger `strength` is."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=count) < prevalence
    logit = strength * (truth - 0.4) + rng.normal(0, 0.7, count) - 0.4
    risk = 1 / (1 + np.exp(-logit))
    if isinstance(target, TimeToEvent):
        days = np.where(truth, rng.uniform(100, 1800, count), rng.uniform(900, 4000, count))
        return risk, np.stack([days, truth], axis=1).astype(float)
    if isinstance(target, Categorical):
        return rng.dirichlet(np.ones(3), count), rng.integers(0, 3, count).astype(float)
    if isinstance(target, Regression):
        return 100 * risk, 100 * risk + rng.normal(0, 9, count)
    return risk, truth.astype(float)


def attempt(number: int, sites: list[str], missing: Mapping[int, str]) -> dict[str, Any]:
    absent = missing.get(number, "")
    counted = [site for site in sites if site != absent]
    influence = {"norm": 2.0 / number, "cosine": 0.5, "clipped": number == 1}
    return {
        "round": number,
        "attempt": 1,
        "asked": sites,
        "counted": counted,
        "problems": {absent: "did not answer"} if absent else {},
        "updates": dict.fromkeys(counted, influence),
        "seconds": 2.5,
    }


def make(
    targets: Mapping[str, Target] | None = None,
    train: tuple[str, ...] = ("oak", "elm", "ash", "fir"),
    outside: tuple[str, ...] = ("yew", "box"),
    count: int = 120,
    rounds: int = 6,
    strength: float = 1.6,
    prevalence: float = 0.4,
    validated: bool = True,
    missing: Mapping[int, str] | None = None,
    **settings: Any,
) -> Results:
    """The results of a study whose statistics are counted from patients, by the code that a study runs."""
    targets = targets if targets is not None else {"er": Binary()}
    task = Task({"clinical": Table()}, targets, build_model=lambda *_: None, name="recurrence_clinical")  # type: ignore[arg-type, return-value]
    config = StudySettings(study=settings.pop("study", "elms"), rounds=rounds, **settings)
    parts: dict[str, dict[str, np.ndarray]] = {}
    validation: dict[str, dict[str, np.ndarray]] = {}
    least = 1 if uses_secure_aggregation(config) else 10
    answers = []
    for seed, site in enumerate((*train, *outside)):
        scored = {name: patients(target, count, seed, strength, prevalence) for name, target in targets.items()}
        parts[site] = {}
        for name, target in targets.items():
            parts[site] |= pack_summary(summarise(target, *scored[name]), name)
        validation[site] = {}
        for name, target in targets.items():
            others = summarise(target, *patients(target, count, seed + 50, strength, prevalence))
            part = others if least == 1 else merge_small_cells(target, others, least)
            validation[site] |= pack_summary(part, name)
        own = {name: site_metrics(target, *scored[name], 0.4) for name, target in targets.items()}
        merged: dict[str, np.ndarray] = {}
        for name, target in targets.items():
            merged |= pack_summary(merge_small_cells(target, summarise(target, *scored[name]), 10), name)
        test, external = (merged, {}) if site in train else ({}, merged)
        answers.append(Answer(site, EvaluateTestReply(test=test, external=external, metrics=own)))
    split = {"train": 4 * count, "validation": count, "test": count}
    enrolled = {s: Enrolment(True, split, {"clinical": 4 * count}, excluded=2) for s in train}
    enrolled |= {s: Enrolment(False, {"test": count}, {"clinical": 0}, excluded=0) for s in outside}
    history = tuple(attempt(n, sorted(train), missing or {}) for n in range(1, rounds + 1))
    values = tuple((n, 0.5 + 0.02 * n if validated else float("nan")) for n in range(rounds + 1))
    best = Checkpoint(
        {},
        rounds,
        {},
        {},
        enrolled,
        best_round=rounds,
        best_value=0.6 if validated else None,
        values=values,
        history=history,
        validation=pack(pool({s: validation[s] for s in train}, task, config)) if validated else {},
    )
    secure = {"secure_aggregation": "on"} if config.secure_aggregation != "off" else {}
    counting = config.model_copy(update=secure)  # statistics of all cells, as they leave in sums
    tested = tuple(pool({s: parts[s] for s in group}, task, counting) for group in (train, outside))
    cuts = thresholds(tested[0], "youden")
    return make_results(task, config, best, best, cuts, answers, tested, {})  # type: ignore[arg-type]


SEVERAL: Mapping[str, Target] = {
    "recurrence": TimeToEvent(),
    "er": Binary(),
    "subtype": Categorical(("a", "b", "c")),
    "ki67_percent": Regression(),
}
"""A target of each kind."""


@cache
def study() -> Results:
    """One with a target of each kind, and a site that missed two rounds."""
    return make(SEVERAL, count=80, missing={2: "elm", 3: "elm"})


@cache
def page_and_figures() -> tuple[str, list[DrawnFigure]]:
    """The page of `study`, and its figures."""
    return draw_page(study())
