"""Choice of the best round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.study.results.contents import make_results
from server.study.scoring import pack
from server.study.selection import settle, store_best
from server.study.weights.checkpoint import BEST, LAST, Checkpoint, load_checkpoint, save_checkpoint
from shared_models.messages import Arrays
from shared_models.metrics.summary import merge_small_cells, summarise
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task

TASK = Task({"clinical": Table()}, {"er": Binary()}, build_model=lambda *_: None, name="er")  # type: ignore[arg-type, return-value]
PLAIN = StudySettings(min_sites=1, secure_aggregation="off")
SECURE = StudySettings(min_sites=3, secure_aggregation="on")


def scores(auc: float, merged: bool = True) -> Arrays:
    """Statistics of a patient without the outcome, and of ten with it: so many above as the AUC says."""
    above = round(auc * 10)
    values = np.r_[0.5, np.full(above, 0.9), np.full(10 - above, 0.1)]
    summary = summarise(Binary(), values, np.r_[0.0, np.ones(10)])
    return pack({"er": merge_small_cells(Binary(), summary, 1) if merged else summary})


def after(server_round: int) -> Checkpoint:
    return Checkpoint({}, server_round, {"w": np.full(2, float(server_round))}, {}, {})


def best_of(rounds: list[dict[str, Arrays]], folder: Path, config: StudySettings = PLAIN) -> Checkpoint:
    """The study after these scores of rounds 1, 2 and so on; from a checkpoint each time, as one that is resumed."""
    state = after(0)
    for number, scored in enumerate(rounds, start=1):
        state = store_best(replace(state, round=number), scored, TASK, config, folder)
        save_checkpoint(state, folder / LAST)
        state = load_checkpoint(folder / LAST)
    return state


@pytest.mark.parametrize("labels", [[1.0, 1.0], [0.0, 0.0], [float("nan")] * 2])
def test_validation_patients_of_one_class_choose_no_round(tmp_path: Path, labels: list[float]) -> None:
    one = pack({"er": merge_small_cells(Binary(), summarise(Binary(), np.array([0.2, 0.3]), np.array(labels)), 1)})
    state = best_of([{"a": one}], tmp_path)
    assert (state.best_round, state.best_value) == (0, None)
    assert np.isnan(state.values[0][1])
    assert not (tmp_path / BEST).exists()


def test_of_rounds_that_tie_the_first_is_the_best(tmp_path: Path) -> None:
    assert best_of([{"a": scores(0.5)}, {"a": scores(0.5)}], tmp_path).best_round == 1
    assert load_checkpoint(tmp_path / BEST).round == 1
    state = best_of([{"a": scores(0.5)}, {"a": scores(0.5)}, {"a": scores(1.0)}], tmp_path)
    assert (state.best_round, state.best_value, load_checkpoint(tmp_path / BEST).round) == (3, 1.0, 3)


def settled(values: list[float], folder: Path) -> int:
    """The round that is chosen of these AUCs of a hundred patients with the outcome, and is on disk, after the last."""
    scored = []
    for value in values:
        above = round(value * 100)
        risk = np.r_[np.full(100, 0.5), np.full(above, 0.9), np.full(100 - above, 0.1)]
        scored.append({"a+b+c": pack({"er": summarise(Binary(), risk, np.repeat([0.0, 1.0], 100))})})
    state = settle(best_of(scored, folder, SECURE), scored[-1], TASK, SECURE, folder)
    assert load_checkpoint(folder / BEST).round == state.best_round
    return state.best_round


def test_the_last_round_is_chosen_unless_another_is_clearly_better(tmp_path: Path) -> None:
    assert settled([0.71, 0.7, 0.7, 0.7], tmp_path / "a") == 4  # a first round that chance has lifted
    assert settled([0.5, 0.5, 0.5, 0.9], tmp_path / "b") == 4  # a network that starts late
    assert settled([0.5, 0.7, 0.8, 0.7], tmp_path / "c") == 3  # one that learns its patients by heart
    assert settled([0.6, 0.6], tmp_path / "d") == 2


@pytest.mark.parametrize(("first", "chosen"), [((0.8, 0.75), 2), ((0.85, 0.85), 1)])
def test_what_rounding_at_a_site_may_have_made_is_no_difference(
    first: tuple[float, float], chosen: int, tmp_path: Path
) -> None:
    """A site of 40 patients with the outcome and 40 without tells its AUC in steps of 1/20."""
    config, truth, scored = PLAIN.model_copy(update={"min_sites": 2}), np.repeat([0.0, 1.0], 40), []
    for aucs in (first, (0.75, 0.75)):
        parts = {}
        for site, auc in zip("ab", aucs, strict=True):
            above = round(auc * 40)
            risk = np.r_[np.full(40, 0.5), np.full(above, 0.9), np.full(40 - above, 0.1)]
            parts[site] = pack({"er": merge_small_cells(Binary(), summarise(Binary(), risk, truth), 5)})
        scored.append(parts)
    state = best_of(scored, tmp_path, config)
    assert (state.best_round, settle(state, scored[-1], TASK, config, tmp_path).best_round) == (1, chosen)


def test_where_no_site_scored_both_the_best_round_stays(tmp_path: Path) -> None:
    state = best_of([{"a": scores(0.9)}, {"b": scores(0.8)}], tmp_path)
    assert settle(state, {"b": scores(0.8)}, TASK, PLAIN, tmp_path).best_round == state.best_round


def test_untrained_weights_are_never_the_best(tmp_path: Path) -> None:
    state = store_best(after(0), {"a": scores(1.0)}, TASK, PLAIN, tmp_path)
    assert (state.best_value, state.values) == (None, ((0, 1.0),))


def test_a_round_is_not_chosen_because_a_hard_site_was_away(tmp_path: Path) -> None:
    easy, hard = scores(0.9), scores(0.5)
    improved = {"a": scores(0.8), "hard": scores(0.6)}
    assert best_of([{"a": easy, "hard": hard}, {"a": scores(0.8)}], tmp_path).best_round == 1
    assert best_of([{"a": easy, "hard": hard}, {"a": scores(1.0)}], tmp_path).best_round == 2
    assert best_of([{"a": easy}, improved], tmp_path).best_round == 1
    assert best_of([{"a": easy, "hard": hard}, {"hard": scores(0.6)}, improved], tmp_path).best_round == 2


def test_sums_over_other_sites_are_compared_once_most_rounds_have_them(tmp_path: Path) -> None:
    """A site that is lost for good must not leave the study with the rounds that it was in."""
    four = {"a+b+c+d": scores(0.6, merged=False)}
    three = [{"a+b+c": scores(auc, merged=False)} for auc in (0.9, 0.7, 0.8)]
    assert best_of([four, three[0]], tmp_path, SECURE).best_round == 1
    state = best_of([four, *three], tmp_path, SECURE)
    assert (state.best_round, state.best_value) == (4, 0.8)
    results = make_results(TASK, SECURE, state, state, {}, [], ({"er": {}}, {"er": {}}), {})
    assert results.selected_by.endswith(
        "; 1 of 4 scored rounds had other sites, and only those of the same were compared"
    )


def test_weights_that_too_few_sites_scored_are_no_candidate(tmp_path: Path) -> None:
    config = PLAIN.model_copy(update={"min_sites": 2})
    state = best_of([{"a": scores(0.9), "b": scores(0.6)}, {"a": scores(1.0)}], tmp_path, config)
    assert (state.best_round, state.scored_by) == (1, {1: ["a", "b"], 2: ["a"]})
