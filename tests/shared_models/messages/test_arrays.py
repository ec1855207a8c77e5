from __future__ import annotations

import pickle

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

from shared_models.messages.arrays import PACKED, hash_arrays, pack_arrays, unpack_arrays

kinds = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_])
any_array = kinds.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, min_side=0, max_side=4)))


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=20), any_array, max_size=4))
def test_arrays_arrive_as_they_were_sent(sent: dict[str, np.ndarray]) -> None:
    received = unpack_arrays(pack_arrays(sent))
    assert set(received) == set(sent)
    for name, array in sent.items():
        assert received[name].dtype == array.dtype
        assert received[name].shape == array.shape
        np.testing.assert_array_equal(received[name], array)


def test_numbers_without_axes_and_arrays_that_do_not_lie_in_a_row_arrive() -> None:
    sent = {"zero": np.array(3.5), "turned": np.arange(6.0).reshape(2, 3).T, "every second": np.arange(10)[::2]}
    received = unpack_arrays(pack_arrays(sent))
    assert received["zero"].shape == ()
    for name, array in sent.items():
        np.testing.assert_array_equal(received[name], array)


GOOD = save({"weight": np.ones(3)})
HEADER = len(GOOD) - 24
HOSTILE = {
    "nothing": b"",
    "text": b"weights",
    "cut short": GOOD[:-1],
    "cut in the header": GOOD[: HEADER - 4],
    "longer than it says": GOOD + b"x",
    "an endless header": (2**62).to_bytes(8, "little") + GOOD[8:],
    "a huge array": GOOD.replace(b"[3]", b"[9]"),
    "an unknown kind of number": GOOD.replace(b"F64", b"F99"),
    "pickle": pickle.dumps({"weight": 1}),
    "NumPy's format with pickle in it": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_bytes_that_are_no_safetensors_are_a_value_error(content: bytes) -> None:
    record = ArrayRecord({PACKED: Array("uint8", (len(content),), "safetensors", content)})
    with pytest.raises(ValueError, match="the arrays are not in safetensors"):
        unpack_arrays(record)


def test_a_record_of_other_arrays_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="the arrays are not in safetensors"):
        unpack_arrays(ArrayRecord({"weight": Array(np.ones(3))}))


def test_one_array_travels_however_many_there_are() -> None:
    assert list(pack_arrays({str(number): np.ones(2) for number in range(50)})) == [PACKED]
    assert unpack_arrays(pack_arrays({})) == {}


def test_a_hash_is_of_names_types_shapes_and_bytes_and_not_of_an_order() -> None:
    one, other = np.arange(4.0), np.ones(2, np.float32)
    same = hash_arrays({"a": one, "b": other})
    assert same == hash_arrays({"b": other.copy(), "a": one[::1]})
    for changed in (
        {"a": one, "c": other},
        {"a": one.reshape(2, 2), "b": other},
        {"a": one.view(np.int64), "b": other},
    ):
        assert hash_arrays(changed) != same
    assert hash_arrays({"a": one, "b": np.nextafter(other, 2)}) != same


def _file(header, data=b""):
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ab",
        (2**63).to_bytes(8, "little"),
        _file(b"[" * 10**5),
        _file(b'{"a":' * 10**5),
        _file(b" " * 2_000_000),
        _file(b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}', b"ab"),
        _file(b'{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}'),
        _file(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
    ],
)
def test_bytes_that_are_no_arrays_or_too_many_are_one_kind_of_error(content):
    with pytest.raises(ValueError, match="the arrays are not in safetensors"):
        unpack_arrays(ArrayRecord({PACKED: Array("uint8", (len(content),), "safetensors", content)}))
