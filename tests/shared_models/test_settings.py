from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from shared_models.settings import Settings, SettingsError, nearest, parse_settings


class Inner(Settings):
    depth_mm: float = 1.0


class Outer(Settings):
    rounds: int = Field(3, ge=1)
    learning_rate: float = 0.1
    inner: Inner = Inner()


def test_keys_may_be_written_with_either_sign() -> None:
    for values in ({"learning-rate": 0.5}, {"learning_rate": 0.5}):
        assert parse_settings(Outer, values, "x").learning_rate == 0.5
    assert parse_settings(Outer, {"inner": {"depth-mm": 2}}, "x").inner.depth_mm == 2.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning-rat": 1}, "x.toml: (top level): unknown key 'learning_rat': did you mean 'learning_rate'?"),
        ({"inner": {"dept": 1}}, "x.toml: inner: unknown key 'dept': did you mean 'depth_mm'?"),
        ({"qqq": 1}, "x.toml: (top level): unknown key 'qqq': choose from: inner, learning_rate, rounds"),
        ({"rounds": 0}, "x.toml: rounds: Input should be greater than or equal to 1 (found 0)"),
        ({"learning_rate": float("inf")}, "x.toml: learning_rate: Input should be a finite number (found inf)"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place_and_cure(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(Outer, values, "x.toml")
    assert str(error.value) == message


def test_every_mistake_has_a_line_of_its_own() -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(Outer, {"rounds": 0, "learning-rate": "fast", "inner": 3}, "x.toml")
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("x.toml: ") for line in lines)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Outer().rounds = 5  # type: ignore[misc]


def test_the_nearest_name_is_offered_or_all_of_them() -> None:
    assert nearest("recurence", ["recurrence", "subtype"]) == "did you mean 'recurrence'?"
    assert nearest("zzz", ["b", "a"]) == "choose from: a, b"
    assert nearest("measured", ["table", "extracted"]) == "'measured' is now called 'extracted'"


class One(Settings):
    reader: Literal["table"]


class Other(Settings):
    reader: Literal["extracted"]
    images: str


class Site(Settings):
    modality: Annotated[One | Other, Field(discriminator="reader")]
    rounds: int = Field(1, ge=1)


@pytest.mark.parametrize(
    ("word", "hint"), [("measured", "'measured' is now called 'extracted'"), ("tabel", "did you mean 'table'?")]
)
def test_a_word_that_chooses_a_kind_of_settings_gets_the_nearest_or_what_it_is_called_now(word: str, hint: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(Site, {"modality": {"reader": word}}, "x.yaml")
    assert str(error.value) == f"x.yaml: modality.reader: there is no {word!r}; {hint}"


def test_a_misspelt_key_is_told_with_what_else_is_wrong() -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(Site, {"modality": {"reader": "extracted", "image": "mri"}, "rounds": 0, "round": 3}, "x.yaml")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    for sentence in (
        "unknown key 'round': did you mean 'rounds'?",
        "unknown key 'image'",
        "images is missing, and has no default",
        "rounds: In",
    ):
        assert sum(sentence in line for line in lines) == 1, sentence
