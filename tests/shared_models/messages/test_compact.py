from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from shared_models.fingerprint import fingerprint
from shared_models.messages import TrainRequest
from shared_models.messages.compact import COMPACT, MAX_BYTES, compact, expand


def request(weights: int) -> TrainRequest:
    model = {f"layer{number}.weight": np.full(weights, 0.3, np.float32) for number in range(3)}
    return TrainRequest(round=2, model=model, statistics={"features.clinical.known": np.ones(4)})


def test_a_small_message_is_two_objects_on_the_way_and_what_it_was_after_it() -> None:
    sent = request(100).pack()
    packed = compact(sent)
    assert len(get_all_nested_objects(packed)) == 2 < len(get_all_nested_objects(sent))
    received = expand(packed)
    assert fingerprint(received) == fingerprint(sent)
    assert compact(packed) is packed
    unpacked = TrainRequest.unpack(received)
    assert unpacked.round == 2
    np.testing.assert_array_equal(unpacked.model["layer2.weight"], np.float32(0.3))


def test_a_large_message_goes_as_it_is() -> None:
    sent = request(MAX_BYTES // 12).pack()
    assert compact(sent) is sent
    assert expand(sent) is sent


def test_an_empty_text_and_an_empty_list_travel_like_others() -> None:
    sent = RecordDict({"values": ConfigRecord({"text": "", "bytes": b"", "list": [], "zero": 0})})
    assert fingerprint(expand(compact(sent))) == fingerprint(sent)


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({COMPACT: ConfigRecord({COMPACT: b"\xff\xff no protobuf"})}),
        RecordDict({COMPACT: ConfigRecord({COMPACT: bytes.fromhex("0a0a0a016122050a030a0178")})}),  # a value of no kind
        RecordDict({COMPACT: ConfigRecord({COMPACT: "text"})}),
        RecordDict({COMPACT: ConfigRecord({"other": b""})}),
        RecordDict({COMPACT: ArrayRecord()}),
        RecordDict({COMPACT: ConfigRecord({COMPACT: b""}), "values": ConfigRecord({"round": 1})}),
    ],
)
def test_what_is_not_compact_is_refused_like_any_record_that_no_message_has(content: RecordDict) -> None:
    with pytest.raises(ValueError, match=r"compact|round is missing"):
        TrainRequest.unpack(expand(content))
