import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.features import parse_features
from shared_models.networks.tabular import KNOTS, Hinges, Shrunk, TabularEncoder, start_at_zero
from shared_models.task import Table

sizes = st.integers(1, 12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), sizes, sizes, st.integers(0, 8))
def test_a_table_becomes_its_outputs(rows: int, width: int, outputs: int, hidden: int) -> None:
    assert TabularEncoder(width, outputs, hidden)(torch.randn(rows, width)).shape == (rows, outputs)


@settings(max_examples=30, deadline=None)
@given(sizes, sizes, st.integers(1, 8))
def test_the_hidden_layer_adds_nothing_at_the_start_but_can_learn(width: int, outputs: int, hidden: int) -> None:
    encoder, table = TabularEncoder(width, outputs, hidden).eval(), torch.randn(4, width)
    assert torch.equal(encoder(table), encoder.linear(table))
    encoder(table).sum().backward()
    assert encoder.deep is not None
    last = list(encoder.deep.parameters())[-1]
    assert last.grad is not None
    assert last.grad.abs().sum() > 0


def test_without_hidden_units_it_is_linear() -> None:
    encoder = TabularEncoder(3, 2)
    one, other = torch.randn(2, 5, 3)
    torch.testing.assert_close(
        encoder(one + other) - encoder(torch.zeros(5, 3)), encoder(one) + encoder(other) - 2 * encoder.linear.bias
    )
    assert [name for name, _ in encoder.named_parameters()] == ["linear.weight", "linear.bias"]


@settings(max_examples=30, deadline=None)
@given(sizes, sizes, st.integers(0, 8))
def test_a_score_that_starts_at_zero_is_zero_for_everyone(width: int, outputs: int, hidden: int) -> None:
    encoder = start_at_zero(TabularEncoder(width, outputs, hidden)).eval()
    assert (encoder(torch.randn(3, width)) == 0).all()
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_of_equal_columns_a_shrunk_tables_score_steps_as_far_as_that_of_one_column() -> None:
    column = torch.randn(6, 1)
    moved = []
    for columns, divisor in ((1, 1.0), (9, 3.0)):
        linear = start_at_zero(TabularEncoder(columns, 1)).linear
        table = Shrunk(divisor)(column.expand(6, columns))
        linear(table)[:3].sum().backward()
        assert linear.weight.grad is not None
        moved.append(table @ linear.weight.grad.T)
    torch.testing.assert_close(*moved)


def test_hinges_are_of_the_numbers_alone_and_a_sum_of_them_bends() -> None:
    assert torch.equal(Hinges([])(torch.ones(3, 2)), torch.ones(3, 2))
    number = torch.linspace(-2, 2, 9)
    table = torch.stack([torch.full((9,), 5.0), number], dim=1)
    hinges = Hinges([1])(table)[:, 2:]
    assert hinges.shape == (9, len(KNOTS))
    torch.testing.assert_close(2 * hinges[:, KNOTS.index(0.0)] - number, number.abs())


def test_numbers_and_categories_are_told_apart() -> None:
    table = Table(parse_features("t: grade{1|2|3}, size_mm:log, side{left|right}, age_years")["t"])
    assert [table.columns[place] for place in table.numbers] == ["size_mm", "age_years"]
