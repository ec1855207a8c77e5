import math
import re
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.contract.cells import Cells
from client.contract.columns import Column
from client.errors import SiteError
from client.tables.dates import as_day
from client.tables.number_formats import as_number
from client.tables.values import categories, mask_out_of_range, normal_code, numbers, without_missing


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
    values, outside = mask_out_of_range(np.array([1.0, np.nan, 500.0]), Column(column="b", range=(0, 100)))
    np.testing.assert_array_equal(values, [1, np.nan, np.nan])
    assert outside == 1


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (
            lambda: numbers(cells("1", "x", *"yyyyyy"), Column(column="b")),
            ["'x', 'y' in rows 3, 4, 5, 6, 7 and 2 more", "a number"],
        ),
        (lambda: numbers(cells("1,5", "2"), Column(column="b")), ["'1,5' in row 2", "`decimal` to ','"]),
        (lambda: numbers(cells("1e999"), Column(column="b")), ["'1e999'"]),
        (
            lambda: numbers(cells("1", "4"), Column(column="b", codes={1: 0, 2: 1})),
            ["unmapped code", "'4' in row 3", "'1', '2'"],
        ),
        (
            lambda: numbers(cells("1"), Column(column="b", codes={1: "pre"})),
            ["a category where the study has a number", "name{a|b}"],
        ),
        (
            lambda: categories(cells("4"), Column(column="b", codes={1: "pre"}), ("pre", "post")),
            ["unmapped code", "'4'"],
        ),
        (
            lambda: categories(cells("2"), Column(column="b", codes={2: "peri"}), ("pre", "post")),
            ["not the study's", "pre, post"],
        ),
    ],
)
def test_bad_cells_of_a_column_are_one_message(read, message):
    with pytest.raises(SiteError) as caught:
        read()
    for part in [*message, "column 'b'"]:
        assert part in str(caught.value)
    assert "'" not in caught.value.public.replace("site's", "").replace("study's", "")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2020-02-29", "iso"),
        ("20200229", "iso"),
        ("2020-02-29T00:00:00", "iso"),
        ("2020-02-29 23:59:59+01:00", "iso"),
        ("29.02.2020", "%d.%m.%Y"),
        ("2020-02-29T00:00:00", "%d.%m.%Y"),
        ("02/29/20", "%m/%d/%y"),
        ("43890", "iso"),
        ("43890.5", "%d.%m.%Y"),
        ("43890,25", "%d.%m.%Y"),
    ],
)
def test_a_date_is_a_day_however_it_is_written(text, form):
    assert as_day(text, form) == date(2020, 2, 29).toordinal()


@given(st.dates(date(1930, 1, 1), date(2170, 1, 1)))
def test_excels_day_number_and_the_date_are_one_day(day):
    assert as_day(str((day - date(1899, 12, 30)).days), "iso") == as_day(day.isoformat(), "%d.%m.%Y") == day.toordinal()


@pytest.mark.parametrize("text", ["2021-02-29", "31.04.2020", "2020", "0000-00-00", "29.02.2020", "1.5", "unknown"])
def test_what_is_no_date(text):
    assert math.isnan(as_day(text, "iso"))


def since(*texts):
    return Cells("table 'a', column 'start'", texts, tuple(range(2, 2 + len(texts))))


def test_days_are_counted_from_another_column_before_the_scale():
    dated = Cells(**{**vars(cells("01.03.2020", "", "02.03.2021")), "since": since("1.3.2019", "1.3.2019", "")})
    column = Column(column="b", since="start", date="%d.%m.%Y", scale=1 / 366)
    np.testing.assert_array_equal(numbers(dated, column), [1, np.nan, np.nan])


def test_impossible_dates_of_either_column_are_one_message():
    column = Column(column="b", since="start", date="%d.%m.%Y")
    for texts, starts, where in ((("31.02.2020", "x"), ("", ""), "'b'"), (("", ""), ("30.02.2020", "x"), "'start'")):
        with pytest.raises(SiteError) as caught:
            numbers(Cells(**{**vars(cells(*texts)), "since": since(*starts)}), column)
        for part in ["a date cannot be read", where, "'x' in rows 2, 3", "as %d.%m.%Y", "`date`"]:
            assert part in str(caught.value)


def test_dates_without_since_say_what_to_set():
    with pytest.raises(SiteError, match="as `since`"):
        numbers(cells("2020-01-02T00:00:00", "03.04.2020"), Column(column="b"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"date": "%d.%m.%Y"}, "`since`"),
        ({"since": "a", "date": "%d.%m"}, "%d.%m.%Y"),
        ({"since": "a", "date": "%Q"}, "%d.%m.%Y"),
        ({"since": "a", "date": "day"}, "%d.%m.%Y"),
        ({"since": "a", "codes": {1: 2}}, "no `codes`"),
        ({"sinse": "a"}, "did you mean 'since'?"),
    ],
)
def test_a_date_that_cannot_be_meant(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Column(column="b", **settings)
