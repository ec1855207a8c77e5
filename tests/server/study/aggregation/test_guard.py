import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from server.study.aggregation.guard import sort_updates
from server.study.exchange import Answer
from shared_models.messages import MODEL, NUMBERS, Arrays, reply

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
