"""Section of results.json on one target: metrics by role and subgroup, how they differ between sites, importance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from server.study.results.importance_section import importance_section
from server.study.results.rounding import finite, rounded
from server.study.results.subgroups_section import subgroup_results
from server.study.results.targets_section import BetweenSites, TargetResults
from server.study.scoring import Summaries
from shared_models.importance import Importance
from shared_models.messages import Arrays
from shared_models.metrics.arrays import Number
from shared_models.metrics.heterogeneity import MIN_SITES, random_effects_of_shares
from shared_models.metrics.interval import Interval
from shared_models.metrics.risk_groups import survival_by_risk
from shared_models.metrics.summary import pooled_metrics, total_summary
from shared_models.study_settings import StudySettings
from shared_models.task import Task

Thresholds = Mapping[str, tuple[float, str]]
Role = Literal["internal", "external"]


@dataclass(frozen=True)
class TestStatistics:
    """Statistics of the test patients, of all targets.

    Attributes:
        thresholds: Each target's, and where it comes from.
        cutoffs: Where the risk groups of each time-to-event target part.
        summed: Those of the sites that train, and of those that do not.
        by_subgroup: The same by subgroup.
        lost: What scores lose with a part of the input changed, by role.
    """

    thresholds: Thresholds
    cutoffs: Mapping[str, Sequence[float]]
    summed: tuple[Summaries, Summaries]
    by_subgroup: tuple[Arrays, Arrays]
    lost: Mapping[Role, Importance]


def target_results(
    name: str,
    task: Task,
    config: StudySettings,
    test: TestStatistics,
    own: Mapping[str, Mapping[str, Number]],
    trained: Collection[str],
) -> TargetResults:
    """One target's results.

    Args:
        name: The target's.
        task: The study's.
        config: Its settings.
        test: The statistics of all targets.
        own: The target's metrics by site, as each tells them.
        trained: The sites that train.
    """
    target = task.targets[name]
    threshold, source = test.thresholds.get(name, (None, ""))
    cut = 0.5 if threshold is None else threshold
    cutoffs = test.cutoffs.get(name, ())
    internal, external = (summaries[name] for summaries in test.summed)
    return TargetResults(
        threshold=threshold,
        threshold_source=source,
        horizon_days=getattr(target, "horizon_days", None),
        internal=rounded(pooled_metrics(internal, cut)),
        external=rounded(pooled_metrics(external, cut)),
        pooled=rounded(pooled_metrics(total_summary([internal, external]), cut)),
        classes=list(getattr(target, "classes", ())),
        survival={
            "internal": survival_by_risk(target, internal, threshold, cutoffs),
            "external": survival_by_risk(target, external, threshold, cutoffs),
        },
        subgroups=subgroup_results(test.by_subgroup, task, config, name, cut),
        between_sites=between_sites(own, trained),
        importance={role: importance_section(name, one, task, config) for role, one in test.lost.items()},
    )


def between_sites(own: Mapping[str, Mapping[str, Number]], trained: Collection[str]) -> dict[str, BetweenSites]:
    """How the AUC or C-index that sites tell of themselves differs between them, by metric.

    Args:
        own: One target's metrics by site, as each tells them.
        trained: The sites that trained the networks they tell of.
    """
    summaries = {}
    for metric in ("auc", "c_index"):
        estimates = {}
        for site, metrics in own.items():
            values = [finite(metrics.get(f"{metric}{end}")) for end in ("", "_low", "_high")]
            if None not in values:
                estimates[site] = Interval(*(value for value in values if value is not None))
        if len(estimates) >= MIN_SITES:
            summary = random_effects_of_shares([*estimates.values()])
            numbers = {name: finite(value) for name, value in asdict(summary).items()}
            summaries[metric] = BetweenSites(
                sites=len(estimates), trained=len(estimates.keys() & {*trained}), **numbers
            )
    return summaries
