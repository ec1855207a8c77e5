"""Choice of the best round: by validation patients, and only among sites that scored both rounds.

Hospitals differ in how well their patients can be ranked. A round that only the easy ones scored would look better than
one that all of them scored, and would be chosen for who was away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from server.study import scoring
from server.study.checkpoint import BEST, Checkpoint, save_checkpoint
from server.study.exchange import Answer
from server.study.status import Scored
from shared_models.messages import Arrays, EvaluateValidationReply, TrainReply
from shared_models.metrics.summary import selection_interval, selection_score
from shared_models.study_settings import StudySettings
from shared_models.task import Task


def validation_scores(parts: Sequence[Answer[TrainReply] | Answer[EvaluateValidationReply]]) -> dict[str, Arrays]:
    """What was counted of validation patients' scores, by site or, of a secure sum, by the sites that it is over."""
    return {"+".join(part.members) or part.site: part.reply.validation for part in parts if part.reply}


def keep_best(
    state: Checkpoint, scores: Mapping[str, Arrays], task: Task, config: StudySettings, folder: Path
) -> Checkpoint:
    """Keeps the weights of `state` on disk if no earlier ones scored as high on validation patients.

    Untrained weights are no candidate: with few validation patients chance would sometimes prefer them. Nor are weights
    that fewer than `min-sites` scored.

    Args:
        state: The study after the round whose weights were scored.
        scores: What `validation_scores` gave of these weights.
        task: The study's task.
        config: Its settings.
        folder: Of the study.
    """
    read = scoring.readable(scores, task, config)
    pooled = scoring.total(read.values(), task, config)
    value = selection_score(pooled.values())
    values = (*(entry for entry in state.values if entry[0] != state.round), (state.round, value))
    scored_by = {**state.scored_by, state.round: sorted(read)}
    state = replace(state, values=values, scored_by=scored_by)
    if state.round == 0 or np.isnan(value) or len(_sites(read)) < config.min_sites:
        return state
    if state.best_value is not None and not _is_better(read, state, task, config):
        return state
    packed = {f"{part}/{name}": array for part, one in read.items() for name, array in scoring.pack(one).items()}
    state = replace(state, best_round=state.round, best_value=value, best_scores=packed)
    save_checkpoint(replace(state, validation=scoring.pack(pooled)), folder / BEST)
    return state


def newest_score(state: Checkpoint, scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> Scored:
    """The newest validation value with its interval; `scores` are those that it is of."""
    number, value = state.values[-1]
    ends = selection_interval(scoring.total(scoring.readable(scores, task, config).values(), task, config).values())
    told = [None if np.isnan(one) else float(one) for one in (value, *ends)]
    return Scored(round=number, value=told[0], low=told[1], high=told[2])


def scored_by_others(state: Checkpoint) -> list[int]:
    """The rounds that were scored by other sites than the best one."""
    best = _sites(state.scored_by.get(state.best_round, ()))
    return [number for number, parts in state.scored_by.items() if number > 0 and _sites(parts) != best]


def _is_better(read: Mapping[str, scoring.Summaries], state: Checkpoint, task: Task, config: StudySettings) -> bool:
    """Whether a round's scores are higher than the best one's at the sites that scored both.

    Where nothing can be told apart of what both were scored on, as of two secure sums over different sites, the best
    round is one of those that the most frequent sites scored.
    """
    best: dict[str, Arrays] = {}
    for key, array in state.best_scores.items():
        part, _, name = key.partition("/")
        best.setdefault(part, {})[name] = array
    before = scoring.readable({part: best[part] for part in read if part in best}, task, config)
    new, old = (
        selection_score(scoring.total([one[part] for part in before], task, config).values()) for one in (read, before)
    )
    if not np.isnan(new) and not np.isnan(old):
        return new > old
    same = [sorted(parts) for number, parts in state.scored_by.items() if number > 0]
    return same.count(sorted(read)) > same.count(sorted(best))


def _sites(parts: Iterable[str]) -> set[str]:
    return {site for part in parts for site in part.split("+")}
