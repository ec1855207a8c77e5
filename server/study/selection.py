"""Choice of the best round: by validation patients, and only among sites that scored both rounds.

Hospitals differ in how well their patients can be ranked. A round that only the easy ones scored would look better than
one that all of them scored, and would be chosen for who was away.

Of many rounds the best is often one that chance has lifted: with a dozen cases the first may be it. So the last round
is chosen unless the best is better by a quarter of a standard error, as where a network learns its patients by heart.
Values of rounds are of the same patients, and chance makes less of a difference between them than their error says.
Outside secure sums each site rounds its pairs, and what rounding alone may make is no difference either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from server.study import scoring
from server.study.exchange import Answer
from server.study.status import Scored
from server.study.weights.checkpoint import BEST, Checkpoint, save_checkpoint
from server.study.weights.delivery import as_scored, travelling
from shared_models.folds import fold_of
from shared_models.messages import Arrays, EvaluateValidationReply, TrainReply
from shared_models.messages.arrays import hash_arrays
from shared_models.metrics.summary import selection_error, selection_interval, selection_score, selection_step
from shared_models.score_ranges import ranges_from
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

TOLERANCE = 0.25


def validation_scores(parts: Sequence[Answer[TrainReply] | Answer[EvaluateValidationReply]]) -> dict[str, Arrays]:
    """What was counted of validation patients' scores, by site or, of a secure sum, by the sites that it is over."""
    return {"+".join(part.members) or part.site: part.reply.validation for part in parts if part.reply}


def store_best(
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
    state = replace(
        state,
        values=values,
        scored_by=scored_by,
        newest_scores=_packed(scores),
        newest_scored=hash_arrays(travelling(state, config)),
    )
    if state.round == 0 or np.isnan(value) or len(_sites(read)) < config.min_sites:
        return state
    if state.best_value is not None and not _is_better(read, state, task, config):
        return state
    return _chosen(state, read, pooled, config, folder)


def known_scores(state: Checkpoint, config: StudySettings) -> dict[str, Arrays] | None:
    """The scores of a study's weights where they are those of the round before, to the last place that travels.

    They are not asked for again: in secure sums a site gives the scores of the same weights for one kind of question.
    """
    if not state.newest_scores or state.newest_scored != hash_arrays(travelling(state, config)):
        return None
    return _unpacked(state.newest_scores)


def next_ranges(state: Checkpoint, scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> Arrays:
    """Where the next scores are likely to lie: where these do. All folds count in the ranges of the first one.

    Args:
        state: The study, with the ranges that these scores were counted in.
        scores: What `validation_scores` gave.
        task: The study's task, with these ranges.
        config: Its settings.
    """
    if (fold := fold_of(config)) and fold.number > 1:
        return state.score_ranges
    return {**state.score_ranges, **ranges_from(scoring.pool(scores, task, config))}


def settle(
    state: Checkpoint, scores: Mapping[str, Arrays], task: Task, config: StudySettings, folder: Path
) -> Checkpoint:
    """Chooses the last round in place of the best one, unless that is clearly better at the sites that scored both.

    Args:
        state: The study after its last round, which `store_best` has seen.
        scores: As for `store_best`.
        task: The study's task.
        config: Its settings.
        folder: Of the study.
    """
    read = scoring.readable(scores, task, config)
    if state.best_round in (0, state.round) or len(_sites(read)) < config.min_sites:
        return state
    last, best = _at_sites_in_common(read, state, task, config)
    value, error = selection_score(last.values()), selection_error(last.values())
    if np.isnan(value) or is_clearly_better(selection_score(best.values()), value, error, _step(read, state, config)):
        return state
    return _chosen(state, read, scoring.total(read.values(), task, config), config, folder)


def _chosen(
    state: Checkpoint,
    read: Mapping[str, scoring.Summaries],
    pooled: scoring.Summaries,
    config: StudySettings,
    folder: Path,
) -> Checkpoint:
    """The study with its latest weights as the choice, which are then on disk."""
    own = _packed({part: scoring.pack(one) for part, one in read.items()})
    value = selection_score(pooled.values())
    state = replace(state, best_round=state.round, best_value=value, best_scores=own)
    save_checkpoint(replace(as_scored(state, config), validation=scoring.pack(pooled)), folder / BEST)
    return state


def is_clearly_better(best: float, last: float, standard_error: float, step: float = 0.0) -> bool:
    """Whether the best round's value is higher than the last one's by more than patients or rounding leave open.

    Args:
        best: The best round's value.
        last: The last one's.
        standard_error: Of a value.
        step: What rounding at the sites may make of the difference.
    """
    return not best - last <= max(TOLERANCE * standard_error, step * (1 + 1e-9))


def _step(read: Mapping[str, scoring.Summaries], state: Checkpoint, config: StudySettings) -> float:
    """What rounding at the sites that scored both rounds may make of their difference; secure sums are exact."""
    if uses_secure_aggregation(config):
        return 0.0
    both = _sites(key.partition("/")[0] for key in state.best_scores)
    return selection_step([list(one.values()) for part, one in read.items() if part in both])


def newest_score(state: Checkpoint, scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> Scored:
    """The newest validation value with its interval; `scores` are those that it is of."""
    number, value = state.values[-1]
    ends = selection_interval(scoring.total(scoring.readable(scores, task, config).values(), task, config).values())
    values = [None if np.isnan(one) else float(one) for one in (value, *ends)]
    return Scored(round=number, value=values[0], low=values[1], high=values[2])


def scored_by_others(state: Checkpoint) -> list[int]:
    """The rounds that were scored by other sites than the best one."""
    best = _sites(state.scored_by.get(state.best_round, ()))
    return [number for number, parts in state.scored_by.items() if number > 0 and _sites(parts) != best]


def _is_better(read: Mapping[str, scoring.Summaries], state: Checkpoint, task: Task, config: StudySettings) -> bool:
    """Whether a round's scores are higher than the best one's at the sites that scored both.

    Where no difference can be seen in what both were scored on, as of two secure sums over different sites, the best
    round is one of those that the most frequent sites scored.
    """
    new, old = (selection_score(one.values()) for one in _at_sites_in_common(read, state, task, config))
    if not np.isnan(new) and not np.isnan(old):
        return new > old
    same = [sorted(parts) for number, parts in state.scored_by.items() if number > 0]
    return same.count(sorted(read)) > same.count(sorted({key.partition("/")[0] for key in state.best_scores}))


def _at_sites_in_common(
    read: Mapping[str, scoring.Summaries], state: Checkpoint, task: Task, config: StudySettings
) -> tuple[scoring.Summaries, scoring.Summaries]:
    """A round's statistics and the best one's, of those sites or sums that scored both."""
    best = _unpacked(state.best_scores)
    before = scoring.readable({part: best[part] for part in read if part in best}, task, config)
    new, old = (scoring.total([one[part] for part in before], task, config) for one in (read, before))
    return new, old


def _packed(scores: Mapping[str, Arrays]) -> Arrays:
    return {f"{part}/{name}": array for part, one in scores.items() for name, array in one.items()}


def _unpacked(scores: Arrays) -> dict[str, Arrays]:
    parts: dict[str, Arrays] = {}
    for key, array in scores.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = array
    return parts


def _sites(parts: Iterable[str]) -> set[str]:
    return {site for part in parts for site in part.split("+")}
