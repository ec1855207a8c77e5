"""A study as the report sees it: its results, the authors' answers, and what several sections ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from server.study.results.schema import Results
from server.study.results.sites_section import SiteResults
from server.study.results.targets_section import TargetResults
from shared_models.metrics.arrays import Metric
from shared_models.metrics.names import NAMES
from shared_models.pages.drawing import Role
from shared_models.pages.numbers import duration
from shared_models.report_answers import Answers

Kind = Literal["time-to-event", "binary", "classes", "number"]
MIN_OUTCOMES = 10
"""Fewest patients with and without the outcome of whom anything is judged (docs/study_settings.md: `minimum_count`)."""


@dataclass(frozen=True)
class Outcome:
    """A target as the report speaks of it.

    Attributes:
        name: As the task names it.
        results: Over all sites.
        kind: By the metrics it has.
        measure: The metric that judges it.
        measure_name: As people call that metric.
        alone: The metrics that the only external site tells of itself, where no sum of external sites is known.
    """

    name: str
    results: TargetResults
    kind: Kind
    measure: str
    measure_name: str
    alone: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name as text."""
        return self.name.replace("_", " ")

    @property
    def ranks(self) -> bool:
        """Whether patients are ranked by it, so that there is an AUC."""
        return self.kind in ("time-to-event", "binary")

    @property
    def within(self) -> str:
        """`within 5 years`, or nothing where there is no horizon."""
        days = self.results.horizon_days
        return f"within {duration(days)}" if days else ""

    @property
    def full_label(self) -> str:
        """Its name with its horizon."""
        return f"{self.label} {self.within}".strip()

    def metrics(self, role: Role) -> Mapping[str, Metric]:
        """The metrics of all sites of that role, which of a single external site may be those that it tells itself."""
        if role == "internal":
            return self.results.internal
        return self.results.external if self.results.external.get("patients") else self.alone or self.results.external

    def events(self, metrics: Mapping[str, Metric]) -> Metric:
        """How many of the patients have the outcome; None where it is withheld or has no meaning."""
        return metrics.get({"time-to-event": "events_by_horizon", "binary": "positives"}.get(self.kind, ""))

    def free(self, metrics: Mapping[str, Metric]) -> Metric:
        """How many are known not to have it."""
        if self.kind == "time-to-event":
            return metrics.get("free_at_horizon")
        patients, events = metrics.get("patients"), self.events(metrics)
        return patients - events if isinstance(patients, float) and isinstance(events, float) else None

    def primary(self, metrics: Mapping[str, Metric]) -> tuple[str, Metric]:
        """The metric that judges, and its value: pairs within sites where there are any, else all pairs."""
        within = f"{self.measure}_within_sites"
        name = within if metrics.get(within) is not None else self.measure
        return name, metrics.get(name)

    def share(self, metrics: Mapping[str, Metric]) -> float | None:
        """The share of the patients who have the outcome, at the horizon where there is one."""
        events, patients = self.events(metrics), metrics.get("patients")
        share = metrics.get("event_probability")
        if not isinstance(share, float) and isinstance(events, float) and isinstance(patients, float) and patients:
            share = events / patients
        return share if isinstance(share, float) else None

    def too_few(self, metrics: Mapping[str, Metric]) -> bool:
        """Whether too few patients have the outcome, or are free of it, to judge."""
        if not self.ranks:
            return not metrics.get("patients")
        counts = (self.events(metrics), self.free(metrics))
        return any(not isinstance(value, float) or value < MIN_OUTCOMES for value in counts)


_KINDS: tuple[tuple[str, Kind, str, str], ...] = (
    ("c_index", "time-to-event", "auc", NAMES["auc"]),
    ("auc", "binary", "auc", NAMES["auc"]),
    ("macro_f1", "classes", "macro_f1", NAMES["macro_f1"]),
    ("mae", "number", "r2", NAMES["r2"]),
)


@dataclass(frozen=True)
class Study:
    """All that a section may ask.

    Attributes:
        results: What `results.json` holds.
        answers: What the authors wrote in the study's `[report]` table.
    """

    results: Results
    answers: Answers

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The targets, in the task's order."""
        return tuple(_outcome(name, target, self.external) for name, target in self.results.targets.items())

    @property
    def training(self) -> tuple[SiteResults, ...]:
        """The sites that train."""
        return tuple(site for site in self.results.sites if site.role == "train")

    @property
    def external(self) -> tuple[SiteResults, ...]:
        """The sites that are only scored."""
        return tuple(site for site in self.results.sites if site.role != "train")

    @property
    def title(self) -> str:
        """What the page is called."""
        if self.answers.title:
            return self.answers.title
        outcomes = " and ".join(filter(None, [", ".join(o.full_label for o in self.outcomes[:-1]), *self._last()]))
        return f"{outcomes[:1].upper()}{outcomes[1:]}" if outcomes else self.results.study

    def _last(self) -> list[str]:
        return [outcome.full_label for outcome in self.outcomes[-1:]]

    def setting(self, name: str) -> bool | int | float | str:
        """A setting of the study; empty where its release had none of that name."""
        return self.results.config.get(name, "")


def _outcome(name: str, target: TargetResults, external: Sequence[SiteResults]) -> Outcome:
    alone = external[0].targets.get(name, {}) if len(external) == 1 else {}
    kinds = (kind for kind in _KINDS if kind[0] in target.pooled)
    _, kind, measure, measure_name = next(kinds, _KINDS[-1])
    return Outcome(name, target, kind, measure, measure_name, alone)
