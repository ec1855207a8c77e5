import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from server.study.aggregation import Update, average, make_strategy, sort_updates, step
from server.study.exchange import Answer
from shared_models.messages import MODEL, NUMBERS, Arrays, reply
from shared_models.study_settings import parse_study_settings

REFERENCE: Arrays = {
    "tokens.encoders.mri.weight": np.zeros((2, 3), np.float32),
    "head.weight": np.zeros(4, np.float32),
}
ENROLLED = {"a": {"patients/train": 100.0, "modality/mri": 50.0}, "b": {"patients/train": 300.0, "modality/mri": 0.0}}


def model(value: float) -> Arrays:
    return {name: np.full_like(array, value) for name, array in REFERENCE.items()}


def answer(site: str, arrays: Arrays, weight: float) -> Answer:
    return Answer(site, reply(model=arrays, numbers={"num-examples": weight, "train-loss": 0.5}))


GOOD = model(1.0)
NAN = {**GOOD, "head.weight": np.array([1, np.nan, 1, 1], np.float32)}
INFINITE = {**GOOD, "head.weight": np.array([1, np.inf, 1, 1], np.float32)}
LONG = {**GOOD, "head.weight": np.ones(5, np.float32)}
DOUBLE = {**GOOD, "head.weight": np.ones(4, np.float64)}
EXTRA = {**GOOD, "backdoor": np.ones(1, np.float32)}
LACKING = {"head.weight": GOOD["head.weight"]}


@pytest.mark.parametrize(
    ("arrays", "weight", "reason"),
    [
        (NAN, 100.0, "head.weight holds NaN or infinity"),
        (INFINITE, 100.0, "head.weight holds NaN or infinity"),
        (LONG, 100.0, "head.weight is float32(5,), expected float32(4,)"),
        (DOUBLE, 100.0, "head.weight is float64(4,), expected float32(4,)"),
        (EXTRA, 100.0, "backdoor missing or unknown"),
        (LACKING, 100.0, "tokens.encoders.mri.weight missing or unknown"),
        (GOOD, 1e12, "claims 1000000000000.0 training patients, but counted 100"),
        (GOOD, -5.0, "claims -5.0"),
        (GOOD, 0.0, "claims 0.0"),
        (GOOD, float("nan"), "claims nan"),
    ],
)
def test_a_bad_update_is_left_out_by_site_and_reason_and_the_rest_counts(
    arrays: Arrays, weight: float, reason: str
) -> None:
    updates, rejected = sort_updates([answer("a", arrays, weight), answer("b", GOOD, 300.0)], REFERENCE, ENROLLED)
    assert [site for update in updates for site in update.sites] == ["b"]
    assert list(rejected) == ["a"]
    assert reason in rejected["a"]


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({MODEL: ConfigRecord(), NUMBERS: MetricRecord()}),
        RecordDict({NUMBERS: MetricRecord({"num-examples": [1.0, 2.0], "train-loss": 1.0})}),
    ],
)
def test_a_reply_of_another_form_is_left_out(content: RecordDict) -> None:
    updates, rejected = sort_updates([Answer("a", content)], REFERENCE, ENROLLED)
    assert not updates
    assert "a" in rejected


def test_a_weight_in_a_list_is_left_out() -> None:
    content = reply(model=GOOD)
    content[NUMBERS] = MetricRecord({"num-examples": [100.0], "train-loss": 1.0})
    assert "claims [100.0]" in sort_updates([Answer("a", content)], REFERENCE, ENROLLED)[1]["a"]


@pytest.mark.parametrize("loss", [[1.0, 2.0], None])
def test_a_loss_that_is_no_number_is_left_out(loss: list[float] | None) -> None:
    content = reply(model=GOOD)
    content[NUMBERS] = MetricRecord({"num-examples": 100.0} | ({} if loss is None else {"train-loss": loss}))
    updates, rejected = sort_updates([Answer("a", content), answer("b", GOOD, 300.0)], REFERENCE, ENROLLED)
    assert [site for update in updates for site in update.sites] == ["b"]
    assert "cannot be read" in rejected["a"]


def test_arrays_that_need_pickle_are_left_out() -> None:
    content = reply(model=GOOD)
    array = content[MODEL]["safetensors"]
    array.__dict__["data"] = b"not an array"
    assert "cannot be read" in sort_updates([Answer("a", content)], REFERENCE, ENROLLED)[1]["a"]


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
