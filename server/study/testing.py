"""Test of a study: the chosen round's weights, scored on every site's test patients."""

from __future__ import annotations

from pathlib import Path

from flwr.serverapp import Grid

from server.study import scoring
from server.study.evaluation import ask_to_evaluate, require_tested
from server.study.exchange import log_problems
from server.study.progress import progress_of
from server.study.results.contents import make_results
from server.study.results.finished_fold import store_tested
from server.study.results.importance_section import pool_importance
from server.study.results.patients_section import descriptions
from server.study.results.schema import Results
from server.study.results.subgroups_section import pool_subgroups
from server.study.results.target_results import Role
from server.study.secure_aggregation.secure_exchange import unverified_sites
from server.study.weights.checkpoint import BEST, Checkpoint, load_checkpoint, save_checkpoint
from server.study.weights.delivery import as_scored, deliver, frozen_hash, travelling
from shared_models.folds import fold_of
from shared_models.importance import Importance
from shared_models.messages import EvaluateTestRequest
from shared_models.score_ranges import with_score_ranges
from shared_models.study_settings import StudySettings
from shared_models.task import Task


def chosen_round(last: Checkpoint, config: StudySettings, folder: Path) -> Checkpoint:
    """The round that validation patients chose; without any, the last."""
    if last.best_value is None:
        save_checkpoint(as_scored(last, config), folder / BEST)
    return load_checkpoint(folder / BEST)


def evaluate(grid: Grid, task: Task, config: StudySettings, last: Checkpoint, folder: Path) -> Results:
    """Scores the best round's weights on every site's test patients, at thresholds from pooled validation patients.

    Without validation patients the last round counts as the best.

    Raises:
        StudyError: If too few sites that train gave test scores.
    """
    progress_of(grid).stage("testing")
    best = chosen_round(last, config, folder)
    task = with_score_ranges(task, best.score_ranges)
    validation = scoring.unpack(best.validation, task, config)
    thresholds = scoring.thresholds(validation, config.threshold)
    values = {name: value for name, (value, _) in thresholds.items()}
    deliver(grid, config, last)
    model = travelling(best, config)
    request = EvaluateTestRequest(
        round=best.round,
        model=model,
        statistics=best.statistics,
        frozen=frozen_hash(best, config),
        thresholds=values,
        score_ranges=best.score_ranges,
    )
    answers, parts = ask_to_evaluate(grid, task, sorted(last.enrolled), request, config, group="test")
    replies = {part.site: part.reply for part in parts if part.reply}
    inside = {site: reply.test for site, reply in replies.items()}
    outside = {site: reply.external for site, reply in replies.items()}
    tested = scoring.pool(inside, task, config), scoring.pool(outside, task, config)
    by_subgroup = pool_subgroups(inside, task, config), pool_subgroups(outside, task, config)
    problems, unverified = log_problems(answers, config), unverified_sites(grid)
    require_tested(parts, last.enrolled, problems, config)
    lost: dict[Role, Importance] = {
        "internal": pool_importance(inside, task, config),
        "external": pool_importance(outside, task, config),
    }
    if fold_of(config):
        late = {site: reply.all_folds for site, reply in replies.items() if reply.all_folds}
        late_by_subgroup = (*by_subgroup, pool_subgroups(late, task, config))
        store_tested((*tested, scoring.pool(late, task, config)), late_by_subgroup, lost, folder)
    described = descriptions(parts, task)
    return make_results(
        task, config, best, last, thresholds, answers, tested, problems, unverified, described, by_subgroup, lost
    )
