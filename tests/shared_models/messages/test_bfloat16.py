"""Rounding of weights on the way, held against PyTorch's own bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

from server.study.weights.delivery import advanced
from shared_models.messages.arrays import PACKED, pack_arrays, unpack_arrays
from shared_models.messages.bfloat16 import change_of, changed_by, fits, rounded

LARGEST = 2.0**127
numbers = st.floats(-LARGEST, LARGEST, width=32)
float32 = arrays(np.float32, array_shapes(min_dims=0, min_side=0, max_side=4), elements=numbers)


@given(float32)
def test_a_number_is_rounded_as_pytorch_rounds_it_and_half_of_it_travels(array: np.ndarray) -> None:
    expected = torch.from_numpy(array.copy()).bfloat16().float().numpy()
    as_bfloat16 = rounded(array)
    np.testing.assert_array_equal(as_bfloat16, expected)
    np.testing.assert_array_equal(rounded(as_bfloat16), as_bfloat16)
    np.testing.assert_array_equal(unpack_arrays(pack_arrays({"w": as_bfloat16}))["w"], as_bfloat16)


def test_weights_that_were_rounded_take_half_the_bytes_and_all_others_are_as_they_were() -> None:
    weights = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    whole, half = (pack_arrays({"w": one}).count_bytes() for one in (weights, rounded(weights)))
    assert half / whole < 0.51
    mixed = {"n": np.array(7), "d": np.array([0.5]), "h": np.ones(2, np.uint16), "w": weights}
    received = unpack_arrays(pack_arrays(mixed))
    assert {name: array.dtype for name, array in received.items()} == {n: a.dtype for n, a in mixed.items()}
    np.testing.assert_array_equal(received["w"], weights)


@pytest.mark.parametrize(
    "sent",
    [
        {"bfloat16:w": np.ones(2, np.float32)},
        {"bfloat16:w": np.ones(2, np.uint16), "w": np.ones(2, np.float32)},
    ],
)
def test_a_half_that_is_none_or_beside_its_whole_is_refused(sent: dict[str, np.ndarray]) -> None:
    content = save(sent)
    record = ArrayRecord({PACKED: Array("uint8", (len(content),), "safetensors", content)})
    with pytest.raises(ValueError, match="w is there twice, or is"):
        unpack_arrays(record)


def test_steps_below_the_last_place_of_a_weight_add_up_over_rounds() -> None:
    """A weight of 1 has a last place of 1/128 as bfloat16: steps of a thousandth would never move it."""
    model, step = {"w": np.ones(3, np.float32)}, np.float32(0.001)
    for _ in range(50):
        sent = {"w": rounded(model["w"])}
        change = change_of({"w": sent["w"] + step}, sent)
        assert fits(change["w"])
        model = advanced(model, sent, changed_by(sent, change))
    np.testing.assert_allclose(model["w"], 1.05, atol=1e-3)


def test_a_change_that_fits_no_weight_stays_as_it_came_for_the_guard_to_refuse() -> None:
    change = {"w": np.ones(3, np.float32), "extra": np.ones(1, np.float32)}
    assert changed_by({"w": np.ones(2, np.float32)}, change).keys() == change.keys()
