"""Runs of a sweep in their order: all of a grid, or what a search asks for; what is done is read again."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared_models.settings import SettingsError
from simulation.splits import Sites
from simulation.sweeps.plan import Point, Range, Sweep, Value
from simulation.sweeps.trial import Outcome, Show, Trial, run_trial

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("simulation")
Done = Callable[[Sequence[Outcome]], None]
SEARCH_SEED = 0
"""Of the search: one that starts again asks for the same settings, and what is trained is not trained again."""


def run_sweep(sweep: Sweep, sites: Sites, folder: Path, show: Show, done: Done) -> list[Outcome]:
    """Trains all that the sweep asks for, and returns it in that order.

    Args:
        sweep: The sweep.
        sites: The sites' settings.
        folder: The sweep's.
        show: Told what is being done, and after how many rounds.
        done: Told all outcomes so far after each.
    """
    outcomes: list[Outcome] = []

    def at(point: Point) -> list[Outcome]:
        for seed in sweep.seeds:
            outcomes.append(run_trial(Trial(point, seed), sweep.name, sites, folder, show))
            done(outcomes)
        return outcomes[-len(sweep.seeds) :]

    for point in sweep.points:
        at(point)
    if sweep.search:
        _search(sweep, at)
    return outcomes


def require_search(sweep: Sweep) -> None:
    """Refuses a search where its library is not installed.

    Raises:
        SettingsError: If so.
    """
    if sweep.search and importlib.util.find_spec("optuna") is None:
        msg = "[search] needs Optuna, which is not installed: pip install 'breast-federation[sweeps]', or give [[grid]]"
        raise SettingsError(msg)


def _search(sweep: Sweep, at: Callable[[Point], list[Outcome]]) -> None:
    """Tree-structured Parzen estimator (Bergstra 2011, Algorithms for hyper-parameter optimization), by Optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEARCH_SEED))
    for _ in range(sweep.trials):
        asked = study.ask()
        settings = {key: _suggest(asked, key, one) for key, one in sweep.search.items()}
        try:
            values = [outcome.value for outcome in at(sweep.point(settings)) if outcome.value is not None]
        except SettingsError as error:  # both ends are right, and not together
            log.warning("%s is not tried: %s", settings, error.public)
            values = []
        if values:
            study.tell(asked, sum(values) / len(values))
        else:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)


def _suggest(asked: optuna.Trial, key: str, one: Range | list[Value]) -> Value:
    if not isinstance(one, Range):
        return one[int(asked.suggest_categorical(key, list(range(len(one)))))]
    if isinstance(one.low, int) and isinstance(one.high, int):
        return int(asked.suggest_int(key, one.low, one.high, log=one.log))
    return asked.suggest_float(key, one.low, one.high, log=one.log)
