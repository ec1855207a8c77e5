import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared_models.layers.fusion import FusionHead, Tokens

modalities = st.integers(1, 5)


def tokens_of(count: int, width: int) -> Tokens:
    tokens = Tokens({f"m{index}": nn.Linear(3 + index, width) for index in range(count)}, width)
    nn.init.normal_(tokens.absent.weight)
    return tokens


def inputs_of(count: int, rows: int) -> dict[str, torch.Tensor]:
    return {f"m{index}": torch.randn(rows, 3 + index) for index in range(count)}


@settings(max_examples=30, deadline=None)
@given(modalities, st.integers(0, 4), st.integers(1, 6), st.data())
def test_a_token_is_its_encoders_output_or_the_learned_one(
    count: int, rows: int, width: int, data: st.DataObject
) -> None:
    mask = data.draw(st.lists(st.lists(st.booleans(), min_size=count, max_size=count), min_size=rows, max_size=rows))
    present = torch.tensor(mask, dtype=torch.float32).reshape(rows, count)
    tokens, inputs = tokens_of(count, width), inputs_of(count, rows)
    found = tokens(inputs, present)
    assert found.shape == (rows, count, width)
    for index in range(count):
        encoded = tokens.encoders[f"m{index}"](inputs[f"m{index}"])
        for row in range(rows):
            expected = encoded[row] if present[row, index] else tokens.absent.weight[index]
            torch.testing.assert_close(found[row, index], expected)


def test_an_absent_input_is_never_looked_at() -> None:
    tokens, inputs = tokens_of(2, 4), inputs_of(2, 3)
    inputs["m1"][1] = float("nan")
    inputs["m1"][2] = float("inf")
    found = tokens(inputs, torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in tokens.parameters() if parameter.grad is not None)


def test_an_encoder_learns_nothing_where_its_modality_is_absent() -> None:
    tokens = tokens_of(2, 4)
    tokens(inputs_of(2, 3), torch.tensor([[1.0, 0.0]] * 3)).square().sum().backward()
    for parameter in tokens.encoders["m1"].parameters():
        assert parameter.grad is None or not parameter.grad.any()
    assert tokens.absent.weight.grad is not None
    assert tokens.absent.weight.grad.any(dim=1).tolist() == [False, True]
    assert any(name.startswith("encoders.m1.") for name, _ in tokens.named_parameters())


@settings(max_examples=30, deadline=None)
@given(modalities, st.integers(0, 4), st.integers(1, 6), st.integers(1, 3))
def test_a_head_joins_tokens_into_outputs(count: int, rows: int, width: int, outputs: int) -> None:
    head = FusionHead(count, width, outputs).eval()
    tokens = torch.randn(rows, count, width)
    found = head(tokens)
    assert found.shape == (rows, outputs)
    torch.testing.assert_close(found, head.linear(tokens.flatten(1)))
