"""Comparison of two finished networks at the center: asked for, added up over hospitals, and stored in the results."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from flwr.serverapp import Grid

from server.errors import ExitCode
from server.study.exchange import Answer, StudyError, log_problems, wait_for_sites
from server.study.results.comparison_section import ModelComparison, compared_row, corrected
from server.study.results.results_file import RESULTS, read_results
from server.study.results.schema import Results
from server.study.secure_aggregation.secure_exchange import exchange
from server.study.weights.checkpoint import BEST, LAST
from shared_models.comparison import targets_compared
from shared_models.messages import EvaluateComparisonReply, EvaluateComparisonRequest
from shared_models.messages.comparison import pair_of
from shared_models.metrics.compared import Compared
from shared_models.study_settings import StudySettings
from shared_models.trained_model import TrainedModel, read_model

log = logging.getLogger("server")


def find_networks(config: StudySettings) -> tuple[TrainedModel, TrainedModel]:
    """The two networks that a comparison names, of the studies' checkpoints.

    Raises:
        StudyError: If no two of the checkpoints are those networks.
    """
    results_dir = Path(config.results_dir)
    first, second = (
        [read_model(file) for name in (BEST, LAST) if (file := results_dir / study / name).exists()]
        for study in config.compares.split(", ")
    )
    for one in first:
        for other in second:
            if pair_of(one.sha256, other.sha256) == config.compares_sha256:
                return one, other
    msg = (
        f"{results_dir}: no checkpoints of {config.compares} are the networks that are compared, SHA-256 "
        f"{config.compares_sha256}. Restore them, or start another comparison."
    )
    raise StudyError(msg, exit_code=ExitCode.FILE)


def compare_at_sites(
    grid: Grid, config: StudySettings, first: TrainedModel, second: TrainedModel
) -> list[ModelComparison]:
    """Asks the sites of a comparison, adds up what they count, and gives a row for each outcome.

    Raises:
        StudyError: If no site answered, or there is no sum.
    """
    here = wait_for_sites(grid, config)
    request = EvaluateComparisonRequest(
        round=first.round,
        model=first.weights,
        statistics=first.statistics.pack(),
        thresholds=first.thresholds,
        score_ranges=first.score_ranges,
        second_round=second.round,
        second_model=second.weights,
        second_statistics=second.statistics.pack(),
        second_thresholds=second.thresholds,
        second_score_ranges=second.score_ranges,
    )
    answers, added = exchange(grid, here, request, config, group="compared")
    problems = log_problems(answers, config)
    counted = unpack(added, config)
    if not counted:
        reasons = "; ".join(f"{site}: {why}" for site, why in problems.items())
        msg = f"no site has compared the networks of {config.compares}. {reasons}"
        raise StudyError(msg)
    name = f"{second.config.study}, round {second.round}"
    return [compared_row(target, kind, name, counted) for target, kind in targets_compared(config).items()]


def unpack(answers: Sequence[Answer[EvaluateComparisonReply]], config: StudySettings) -> Mapping[str, Compared]:
    """What the sites counted, by site, or the sum of all under its name; what fails its check is left out."""
    targets, counted = targets_compared(config), {}
    for answer in answers:
        if answer.reply is None:
            continue
        try:
            counted[answer.site] = Compared.unpack(answer.reply.compared, targets)
        except ValueError as error:
            log.warning("%s: its comparison is left out: %s", answer.site, error)
    return counted


def add_rows(rows: Sequence[ModelComparison], study_folder: Path) -> Results:
    """The first study's results with these rows; earlier rows of the same network are replaced, Holm's are anew.

    Raises:
        StudyError: If there are no results, or they cannot be read.
    """
    results = read_results(study_folder / RESULTS)
    models = {row.model for row in rows}
    others = [row for row in results.comparisons if row.model not in models]
    return results.model_copy(update={"comparisons": corrected([*others, *rows])})
