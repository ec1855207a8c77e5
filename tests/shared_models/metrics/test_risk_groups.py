"""Risk groups in results.json, of test patients parted at cut-offs that others chose."""

from __future__ import annotations

import numpy as np

from shared_models.metrics.risk_groups import survival_by_risk
from shared_models.metrics.scores import left_edges
from shared_models.metrics.summary import summarise
from shared_models.targets import TimeToEvent


def test_a_group_of_few_test_patients_is_joined_with_the_next() -> None:
    rng = np.random.default_rng(1)
    risk = np.concatenate([np.full(5, 0.1), rng.uniform(0.3, 0.9, 120)])
    truth = np.stack([rng.uniform(100, 3000, 125), rng.integers(0, 2, 125)], axis=1).astype(float)
    edges = left_edges(256)
    cutoffs = [float(edges[np.searchsorted(edges, risk)]) for risk in (0.2, 0.6)]
    section = survival_by_risk(TimeToEvent(), summarise(TimeToEvent(), risk, truth), 0.5, cutoffs)
    assert section is not None
    assert section.cutoffs == [round(cutoffs[1], 6)]
    assert [group.patients for group in section.groups] == [
        int((risk < cutoffs[1]).sum()),
        int((risk >= cutoffs[1]).sum()),
    ]
