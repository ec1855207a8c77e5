import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.columns import Column
from client.errors import SiteError
from client.values import Cells, as_number, categories, normal_code, numbers, within, without_missing


def cells(*texts, decimal="."):
    return Cells("table 'a', column 'b'", texts, tuple(range(2, 2 + len(texts))), decimal)


@pytest.mark.parametrize(
    ("code", "normal"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1.0", "1"),
        ("01", "1"),
        ("1e0", "1"),
        (-1, "-1"),
        ("0.50", "0.5"),
        ("TRUE", "true"),
        (" G  1 ", "G 1"),
        ("nan", "nan"),
        ("8500/3", "8500/3"),
        ("12345678901234567890", "12345678901234567890"),
    ],
)
def test_a_code_has_one_spelling(code, normal):
    assert normal_code(code) == normal


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_number_is_read_back(value):
    assert as_number(repr(value)) == value
    assert as_number(repr(value).replace(".", ","), ",") == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1_000", "1,5", "1.5.2", "0x10", "١٢ a", "1e"])
def test_what_is_no_number(text):
    assert math.isnan(as_number(text))


def test_a_decimal_comma_refuses_points():
    assert as_number("1,5", ",") == 1.5
    assert math.isnan(as_number("1.234", ","))


def test_scale_comes_before_offset():
    values = numbers(cells("212", ""), Column(column="b", scale=0.5, offset=-6))
    np.testing.assert_array_equal(values, [100, np.nan])


def test_codes_give_numbers_and_categories():
    column = Column(column="b", codes={"<=20": 15, 20.0: 30})
    np.testing.assert_array_equal(numbers(cells("<=20", "20", ""), column), [15, 30, np.nan])
    column = Column(column="b", codes={1: "pre", 2: "post"})
    np.testing.assert_array_equal(categories(cells("1.0", "2", ""), column, ("post", "pre")), [1, 0, np.nan])
    np.testing.assert_array_equal(categories(cells("3", "1"), Column(column="b"), ("1", "2", "3")), [2, 0])


def test_missing_codes_match_however_they_are_written():
    assert without_missing(("99.0", "NA", "9", "na"), (99, "NA"), ".") == ("", "", "9", "na")
    assert without_missing(("99,0",), (99,), ",") == ("",)


def test_values_out_of_range_are_missing_and_counted():
    values, outside = within(np.array([1.0, np.nan, 500.0]), Column(column="b", range=(0, 100)))
    np.testing.assert_array_equal(values, [1, np.nan, np.nan])
    assert outside == 1


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (
            lambda: numbers(cells("1", "x", *"yyyyyy"), Column(column="b")),
            ["'x', 'y' in rows 3, 4, 5, 6, 7 and 2 more", "a number"],
        ),
        (lambda: numbers(cells("1,5", "2"), Column(column="b")), ["'1,5' in row 2", "`decimal` to ','"]),
        (lambda: numbers(cells("1e999"), Column(column="b")), ["'1e999'"]),
        (
            lambda: numbers(cells("1", "4"), Column(column="b", codes={1: 0, 2: 1})),
            ["a code is unknown", "'4' in row 3", "'1', '2'"],
        ),
        (
            lambda: numbers(cells("1"), Column(column="b", codes={1: "pre"})),
            ["a category where the study has a number", "name{a|b}"],
        ),
        (
            lambda: categories(cells("4"), Column(column="b", codes={1: "pre"}), ("pre", "post")),
            ["a code is unknown", "'4'"],
        ),
        (
            lambda: categories(cells("2"), Column(column="b", codes={2: "peri"}), ("pre", "post")),
            ["not the study's", "pre, post"],
        ),
    ],
)
def test_bad_cells_of_a_column_are_one_message(read, said):
    with pytest.raises(SiteError) as caught:
        read()
    for part in [*said, "column 'b'"]:
        assert part in str(caught.value)
    assert "'" not in caught.value.public.replace("site's", "").replace("study's", "")
