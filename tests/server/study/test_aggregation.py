import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.study.aggregation import Update, average, make_strategy, sort_updates, step
from server.study.enrolment import Enrolment
from server.study.exchange import Answer
from shared_models.messages import Arrays, TrainReply
from shared_models.study_settings import parse_study_settings

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


def answer(site: str, arrays: Arrays, patients: int) -> Answer[TrainReply]:
    return Answer(site, TrainReply(model=arrays, patients=patients, loss=0.5, validation={}))


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


def update(site: str, value: float, patients: float, mri: float) -> Update:
    return Update((site,), model(value), patients, {"mri": mri}, 0.0)


def test_an_encoder_is_averaged_over_its_owners_only() -> None:
    mean = average([update("a", 1.0, 100, 50), update("b", 2.0, 300, 0), update("c", 4.0, 100, 100)], REFERENCE)
    np.testing.assert_allclose(mean["head.weight"], (100 * 1 + 300 * 2 + 100 * 4) / 500)
    np.testing.assert_allclose(mean["tokens.encoders.mri.weight"], (50 * 1 + 100 * 4) / 150)


def test_an_encoder_that_nobody_owns_stays_as_it_was() -> None:
    mean = average([update("a", 1.0, 100, 0), update("b", 2.0, 300, 0)], model(9.0))
    np.testing.assert_array_equal(mean["tokens.encoders.mri.weight"], 9.0)
    np.testing.assert_allclose(mean["head.weight"], 1.75)


@given(st.lists(st.tuples(st.floats(-10, 10, width=32), st.integers(1, 1000)), min_size=1, max_size=6))
def test_the_mean_lies_between_the_updates(sites: list[tuple[float, int]]) -> None:
    mean = average([update(str(i), value, n, n) for i, (value, n) in enumerate(sites)], REFERENCE)
    expected = np.average([value for value, _ in sites], weights=[n for _, n in sites])
    for array in mean.values():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_an_adaptive_server_goes_on_from_its_moments_as_if_never_stopped(name: str) -> None:
    config = parse_study_settings({"strategy": name})

    def run(restart: bool) -> Arrays:
        strategy, weights, moments = make_strategy(config, {}), model(0.0), {}
        for number in (1, 2, 3):
            if restart:
                strategy = make_strategy(config, moments)
            weights, moments = step(strategy, number, [update("a", float(number), 100, 100)], weights)
        return weights

    for one, other in zip(run(False).values(), run(True).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fedavg_of_one_site_is_that_site() -> None:
    weights, moments = step(make_strategy(parse_study_settings({}), {}), 1, [update("a", 3.0, 10, 10)], REFERENCE)
    np.testing.assert_array_equal(weights["head.weight"], 3.0)
    assert moments == {}
