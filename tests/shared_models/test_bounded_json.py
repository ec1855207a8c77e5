"""What another party may send as JSON."""

from __future__ import annotations

import json

import pytest

from shared_models.bounded_json import MAX_CHARACTERS, parse_json

TOO_MUCH = ["[" * 200_000, '{"a":' * 200_000, "[" * 2_000_000, '"' + "x" * MAX_CHARACTERS + '"', "9" * 10_000]
NO_JSON = ["NaN", "-Infinity", "", "{", "\x00", b"\xff\xfe", '{"a": 1', "[1,]", "'a'"]


@pytest.mark.parametrize("text", [*TOO_MUCH, *NO_JSON], ids=lambda text: repr(text[:6]))
def test_what_is_no_json_or_too_much_of_it_is_one_kind_of_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_plain_json_is_read():
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": []}}
    assert parse_json(json.dumps(value)) == parse_json(json.dumps(value).encode()) == value


def test_the_length_is_the_callers_choice():
    assert parse_json("[1, 2]", most=6) == [1, 2]
    with pytest.raises(ValueError, match="at most 5"):
        parse_json("[1, 2]", most=5)
