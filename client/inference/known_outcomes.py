"""Outcomes of a site's own patients at which a finished network is recalibrated, as weighted rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from client.inference.scored_cohort import ScoredCohort, score, trained_on
from shared_models.metrics.censoring import at_horizon
from shared_models.targets import Categorical, Regression, Target, TimeToEvent
from shared_models.trained_model import TrainedModel

Array = np.ndarray[Any, Any]
NO_SPLIT = "the split of the study, which says on which patients the network was trained, is not in state_dir"


@dataclass(frozen=True, eq=False)
class KnownOutcomes:
    """M patients whose outcome of one target is known, and on whom the network was not trained.

    Attributes:
        scores: What the network predicts, `(M,)` or `(M, K)`: a probability, a risk by the horizon, a number.
        outcome: `(M,)`: 0 or 1, the class, or the number.
        weights: `(M,)` how many patients each counts for; those followed to the horizon count for those who were lost.
    """

    scores: Array
    outcome: Array
    weights: Array

    def __len__(self) -> int:
        return len(self.outcome)

    def of(self, chosen: Array) -> KnownOutcomes:
        """Some of the patients."""
        return KnownOutcomes(self.scores[chosen], self.outcome[chosen], self.weights[chosen])


def read_outcomes(site: SiteConfig, model: TrainedModel) -> dict[str, KnownOutcomes]:
    """The known outcomes of a site's patients by target, without those on whom the network was trained.

    Raises:
        SiteError: If the data cannot be used, or the site cannot say on whom the network was trained.
    """
    learned = trained_on(site, model)
    if learned is None:
        raise SiteError(
            what="it cannot be told on which of this site's patients the network was trained",
            where=str(site.state_dir / "splits"),
            found=f"no split of the study {model.config.study}, in which {site.site} trained",
            expected="the split that was drawn for it",
            fix="restore state_dir from a backup, or predict without --recalibrate and --coverage",
            exit_code=ExitCode.STUDY,
        )
    scored = score(site, model, outcomes=True)
    usable = scored.has_input & ~np.isin(np.asarray(scored.cohort.patients), sorted(learned))
    return {name: known_outcomes(scored, name, target, usable) for name, target in model.task.targets.items()}


def known_outcomes(scored: ScoredCohort, name: str, target: Target, usable: Array) -> KnownOutcomes:
    """The known outcomes of one target, of those patients who are usable `(N,)`."""
    truth, scores = scored.cohort.truths[name], target.predict(scored.outputs[name]).numpy().astype(np.float64)
    known = usable & ~np.isnan(truth.reshape(len(truth), -1)).any(axis=1)
    if not isinstance(target, TimeToEvent):
        return KnownOutcomes(scores[known], truth[known].astype(np.float64), np.ones(int(known.sum())))
    days, event = truth[known, 0].astype(np.float64), truth[known, 1] == 1
    at = at_horizon(days, event, target.horizon_days)
    status_known = at.event | at.free
    return KnownOutcomes(
        scores[known][status_known], at.event[status_known].astype(np.float64), at.weights[status_known]
    )


def class_names(target: Target) -> Sequence[str]:
    """The outcomes of a target with classes, in the order of their numbers; none of a continuous one."""
    if isinstance(target, Regression):
        return ()
    return target.classes if isinstance(target, Categorical) else ("no", "yes")
