import numpy as np
import pytest

from server.study.aggregation.guard import sort_updates
from server.study.enrolment import Enrolment
from server.study.exchange import Answer
from shared_models.messages import Arrays, TrainReply

REFERENCE: Arrays = {
    "tokens.encoders.mri.weight": np.zeros((2, 3), np.float32),
    "head.weight": np.zeros(4, np.float32),
}
ENROLLED = {
    "a": Enrolment(True, {"train": 100}, {"mri": 50}, 0),
    "b": Enrolment(True, {"train": 300}, {"mri": 0}, 0),
}


def model(value: float) -> Arrays:
    return {name: np.full_like(array, value) for name, array in REFERENCE.items()}


def answer(site: str, arrays: Arrays, patients: int, **rule: Arrays) -> Answer[TrainReply]:
    return Answer(site, TrainReply(model=arrays, patients=patients, loss=0.5, validation={}, **rule))


GOOD = model(1.0)
LONG = {**GOOD, "head.weight": np.ones(5, np.float32)}
DOUBLE = {**GOOD, "head.weight": np.ones(4, np.float64)}
EXTRA = {**GOOD, "backdoor": np.ones(1, np.float32)}
LACKING = {"head.weight": GOOD["head.weight"]}


@pytest.mark.parametrize(
    ("arrays", "patients", "reason"),
    [
        (LONG, 100, "head.weight is float32(5,), expected float32(4,)"),
        (DOUBLE, 100, "head.weight is float64(4,), expected float32(4,)"),
        (EXTRA, 100, "backdoor missing or unknown"),
        (LACKING, 100, "tokens.encoders.mri.weight missing or unknown"),
        (GOOD, 5_000_000, "claims 5000000 training patients, but counted 100"),
        (GOOD, 0, "claims 0"),
    ],
)
def test_a_bad_update_is_left_out_by_site_and_reason_and_the_rest_counts(
    arrays: Arrays, patients: int, reason: str
) -> None:
    updates, rejected = sort_updates([answer("a", arrays, patients), answer("b", GOOD, 300)], REFERENCE, ENROLLED)
    assert [site for update in updates for site in update.sites] == ["b"]
    assert list(rejected) == ["a"]
    assert reason in rejected["a"]


@pytest.mark.parametrize(
    ("change", "at_sites"), [({}, True), (LONG, True), (DOUBLE, True), (EXTRA, True), (GOOD, False)]
)
def test_what_a_rule_adds_must_be_a_number_for_each_weight_or_nothing(change: Arrays, at_sites: bool) -> None:
    good = GOOD if at_sites else {}
    answers = [answer("a", GOOD, 100, rule_change=change), answer("b", GOOD, 300, rule_change=good)]
    updates, rejected = sort_updates(answers, REFERENCE, ENROLLED, at_sites)
    assert [(update.sites, update.rule_change) for update in updates] == [(("b",), good)]
    assert "the rule's change" in rejected["a"] or "expected float32" in rejected["a"]
