import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared_models.networks.cross_attention import CrossAttention, MutualAttention

counts = st.integers(1, 6)


def torchs_own(attention: CrossAttention, width: int) -> nn.MultiheadAttention:
    """nn.MultiheadAttention with the same weights, and some bias of its keys, which softmax cancels."""
    own = nn.MultiheadAttention(width, attention.heads, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        own.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        own.in_proj_bias.copy_(torch.cat([attention.query.bias, torch.randn(width), attention.value.bias]))
        own.out_proj.weight.copy_(attention.project.weight)
        own.out_proj.bias.copy_(attention.project.bias)
    return own


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), counts, counts, st.sampled_from([(8, 1), (8, 2), (12, 4), (16, 8)]))
def test_it_equals_torchs_own_attention(rows: int, count: int, others: int, size: tuple[int, int]) -> None:
    width, heads = size
    attention = CrossAttention(width, heads)
    tokens, context = torch.randn(rows, count, width), torch.randn(rows, others, width)
    expected, _ = torchs_own(attention, width)(tokens, context, context, need_weights=False)
    torch.testing.assert_close(attention(tokens, context), expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_what_is_read_does_not_matter() -> None:
    attention, tokens, context = CrossAttention(8, 2), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    torch.testing.assert_close(attention(tokens, context.flip(1)), attention(tokens, context))
    torch.testing.assert_close(attention(tokens.flip(1), context), attention(tokens, context).flip(1))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3), counts, counts)
def test_both_sets_keep_their_shape_and_read_the_other(rows: int, count: int, others: int) -> None:
    layer, first, second = MutualAttention(8, 2), torch.randn(rows, count, 8), torch.randn(rows, others, 8)
    one, other = layer(first, second)
    assert one.shape == first.shape
    assert other.shape == second.shape
    torch.testing.assert_close(one - first, layer.first(first, second), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other - second, layer.second(second, first), rtol=1e-4, atol=1e-5)
