"""No small cell of one site leaves it outside of secure aggregation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.config.policy import Policy
from client.governance.disclosure import (
    counts_without_small_cells,
    disclose,
    features_in_steps,
    features_without_small_cells,
)
from shared_models.description import Description, one_site_counts
from shared_models.features import Feature, FeatureStatistics, expand
from shared_models.messages import EvaluateTestReply, EvaluateValidationReply, PrepareReply, TrainReply
from shared_models.metrics.summary import pack_summary, summarise
from shared_models.study_settings import parse_study_settings
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import load_task

LEAST = 10
EDGES = (365.0, 730.0, 1461.0, 2922.0)
STUDY = parse_study_settings({"features": "clinical: age_years, grade{1|2|3}"})


@given(st.integers(0, 10**6), st.integers(0, 200), st.floats(300, 20_000))
def test_counts_of_intervals_have_no_few_failures_and_nobody_lost_among_few(seed, patients, mean_days):
    rng, target = np.random.default_rng(seed), TimeToEvent(EDGES)
    days, censored = rng.exponential(mean_days, patients), rng.uniform(0, 4000, patients)
    counts = target.counts(np.stack([np.minimum(days, censored), (days < censored).astype(float)], axis=1))
    sent = counts_without_small_cells(target, counts, LEAST)
    survived, failed = sent
    lost = np.append(survived[:-1] - survived[1:] - failed[1:], survived[-1])
    for cells in (survived, failed, lost):
        assert ((cells == 0) | (cells >= LEAST)).all()
    assert sent.sum() == 0 or survived[0] + failed[0] == counts[:, 0].sum()
    assert sent.sum() == 0 or failed.sum() == counts[1].sum()


@pytest.mark.parametrize(
    ("target", "counts", "sent"),
    [
        (Binary(), [40, 12], [40, 12]),
        (Binary(), [40, 3], [43, 0]),
        (Binary(), [4, 3], [0, 0]),
        (Categorical(("a", "b", "c")), [3, 40, 8], [0, 40, 11]),
        (Regression(), [9, 120.5], [0, 0]),
        (Regression(), [10, 120.5], [10, 120]),
        (Regression(scale=20.0), [60, 37], [60, 0]),  # 59 have 0: the sum is the number of the one who has another
    ],
)
def test_counts_of_outcomes(target, counts, sent):
    assert counts_without_small_cells(target, np.array(counts, dtype=float), LEAST).tolist() == sent


@pytest.mark.parametrize("target", [Binary(), Categorical(("a", "b", "c")), Regression(), TimeToEvent(EDGES)])
def test_counts_of_a_folds_outcomes_tell_nobody_by_their_differences(target):
    """With each patient left out in turn, as in a fold of one: whose outcome it is must not follow."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3 if isinstance(target, Categorical) else 2, 80).astype(float)
    if isinstance(target, TimeToEvent):
        truth = np.stack([rng.uniform(1, 4000, 80), truth], axis=1)
    exact = target.counts(truth)
    sent = counts_without_small_cells(target, exact, LEAST, in_fold=True)
    smaller = np.delete(sent, np.argmax(sent)) if sent.ndim == 1 else sent[1]
    smaller = sent[1:] if isinstance(target, Regression) else smaller
    assert smaller.any()
    assert (smaller % 5 == 0).all()
    if not isinstance(target, Regression | TimeToEvent):
        assert sent.sum() == exact.sum()
        assert np.abs(sent - exact).max() <= 5
    if isinstance(target, TimeToEvent):
        assert sent[0, 0] + sent[1, 0] == exact[:, 0].sum()
        assert abs(sent[1].sum() - exact[1].sum()) <= 5


def test_sums_of_a_feature_that_few_have_and_of_a_rare_category_are_not_told():
    features = (Feature("age_years"), Feature("ki67"), Feature("grade", ("1", "2", "3")))
    values = np.stack([np.linspace(30, 80, 40), np.where(np.arange(40) < 9, 7.0, np.nan), np.arange(40) % 3], axis=1)
    values[:, 2] = np.where(np.arange(40) < 4, 2, np.arange(40) % 2)
    exact = FeatureStatistics.of(expand(features, values))
    sent = features_without_small_cells(features, exact, LEAST)
    assert sent.known.tolist() == [40, 0, 40, 40, 40]
    assert sent.total.tolist() == [exact.total[0], 0, 22, 18, 0]
    assert sent.squares.tolist() == [exact.squares[0], 0, 22, 18, 0]
    assert (
        features_without_small_cells(features, FeatureStatistics.of(expand(features, values[:9])), LEAST).patients == 0
    )


@pytest.mark.parametrize("patients", [30, 200])
def test_sums_of_two_folds_tell_no_patient_by_their_difference(patients):
    """Exact ones would: a fold leaves out few, and of many folds each row follows."""
    features = (Feature("size_mm"), Feature("er", ("no", "yes")))
    rng = np.random.default_rng(patients)
    values = np.stack([rng.gamma(4, 6, patients), rng.integers(0, 2, patients).astype(float)], axis=1)
    exact = [FeatureStatistics.of(expand(features, np.delete(values, out, axis=0))) for out in [[], *range(patients)]]
    sent = [features_in_steps(features, one) for one in exact]
    everyone, *without = sent
    moved = np.array([everyone.total - one.total for one in without])
    step = 5 * 2 ** np.ceil(np.log2(exact[0].deviation[0]))
    assert np.isin(np.abs(moved[:, 0]), [0, step]).all()
    assert np.isin(np.abs(moved[:, 1:]), [0, 5]).all()
    for one, other in zip(exact, sent, strict=True):
        assert (np.abs(one.mean - other.mean) <= 5 * np.maximum(one.deviation, 0.5) / one.known).all()
        assert (np.abs(np.log(other.deviation / one.deviation)) < 20 / patients).all()


@pytest.fixture
def task():
    return load_task(STUDY)


def replies(task):
    """What a hospital of 80 patients would send of all kinds."""
    rng, (name, target) = np.random.default_rng(0), next(iter(task.targets.items()))
    truth = np.stack([rng.uniform(1, 4000, 80), (rng.uniform(size=80) < 0.4).astype(float)], axis=1)
    scores = pack_summary(summarise(target, rng.uniform(size=80), truth), name)
    table = np.stack([rng.uniform(30, 80, 80), np.minimum(np.arange(80), 2)], axis=1)
    features = {"clinical": FeatureStatistics.of(expand(task.tables["clinical"].features, table))}
    few = FeatureStatistics.of(expand(task.tables["clinical"].features, table[:9]))
    described = Description(
        outcomes={
            name: {
                "train": one_site_counts([30, 41, 9, 0]),
                "validation": one_site_counts([0, 12, 11, 0]),
                "test": one_site_counts([3, 60, 17, 0]),
            }
        },
        left_out={"no_known_outcome": one_site_counts([9]), "no_modality": one_site_counts([10])},
        excluded={"clinical": one_site_counts([0])},
        tables={"train": {"clinical": features["clinical"]}, "test": {"clinical": few}},
    )
    tested = scores | described.pack()
    facts = {"trains": True, "patients": {"train": 80}, "modalities": {"clinical": 80}, "excluded": 0}
    prepare = PrepareReply(**facts, features=features, counts={name: target.counts(truth)})
    train = TrainReply(model={}, patients=80, loss=0.5, validation=scores)
    return (
        prepare,
        train,
        EvaluateValidationReply(validation=scores),
        EvaluateTestReply(test=tested, external=tested, metrics={}),
    )


def test_no_statistic_of_a_reply_has_a_small_cell(task):
    policy = Policy()
    prepare, *others = (disclose(reply, task, STUDY, policy, summed=False) for reply in replies(task))
    assert prepare.features["clinical"].total[1:].tolist() == [0, 0, 80]
    counts = prepare.counts["recurrence"]
    assert ((counts == 0) | (counts >= LEAST)).all()
    for reply in others:
        scores = reply.test if isinstance(reply, EvaluateTestReply) else reply.validation
        pairs = "recurrence.within_site."
        assert scores[f"{pairs}concordant"] % 40 == scores[f"{pairs}comparable"] % 80 == 0
        cells = np.concatenate(
            [array.ravel() for name, array in scores.items() if name.startswith("recurrence.") and pairs not in name]
        )
        assert cells[cells > 0].min() >= LEAST
        assert scores["recurrence.concordance.events"].sum() + scores["recurrence.concordance.censored"].sum() == 80


def test_of_the_patients_described_no_small_cell_is_told_nor_one_that_gives_it_away(task):
    sent = Description.unpack(disclose(replies(task)[-1], task, STUDY, Policy(), summed=False).test, task)
    assert {part: counts.tolist() for part, counts in sent.outcomes["recurrence"].items()} == {
        "train": [0, 0, 0, 0, 0],
        "validation": [1, 0, 12, 11, 0],
        "test": [0, 0, 0, 0, 0],
    }
    assert [counts.tolist() for counts in sent.left_out.values()] == [[0, 0], [1, 10]]
    assert sent.tables["train"]["clinical"].total[1:].tolist() == [0, 0, 80]
    assert sent.tables["test"]["clinical"].known.tolist() == [0, 0, 0, 0]


def test_inside_a_secure_sum_nothing_is_merged(task):
    for reply in replies(task):
        assert disclose(reply, task, STUDY, Policy(), summed=True).to_sum().keys() == reply.to_sum().keys()
        for field, arrays in disclose(reply, task, STUDY, Policy(), summed=True).to_sum().items():
            for key, array in arrays.items():
                assert np.array_equal(array, reply.to_sum()[field][key])
