"""Meanings of codes for `init`: `ER+`, `1:Recurred`, `G2`, `pT1c`, `ja`, and what HER2's scores stand for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from client.onboarding.category_words import category_of
from client.onboarding.vocabulary import words
from client.tables.number_formats import as_number
from client.tables.values import normal_code
from client.tables.words import is_missing_word

BINARY = ("negative", "positive")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NO = _words(
    """0 no n nein nee nao non neg negative negativ negativo negativa negatif negatieve negatief absent absente ausente
    false falsch faux benign diseasefree free living alive lebend lebt vivant vivante vivo viva vive levend leeft
    censored kein keine sans sin senza geen sem without not nicht unamplified"""
)
YES = _words(
    """1 yes y ja j oui si sim s pos positive positiv positivo positiva positif positieve positief present presente
    true wahr vrai malignant amplified overexpressed recurred relapsed progressed progression event ereignis dead
    deceased died verstorben gestorben tot decede decedee mort fallecido fallecida muerto exitus morto deceduto deceduta
    overleden falecido obito"""
)
# Between yes and no: a study has no category for them, and they are no patient's own words.
UNDECIDED = _words(
    """equivocal borderline indeterminate unclear fraglich grenzwertig equivoque limite equivoco dubbio twijfelachtig
    indeterminado indeterminate unknown unbekannt nx tx gx mx x"""
)
_HER2 = {"0": 0, "1": 0, "1+": 0, "+": 0, "2": None, "2+": None, "++": None, "3": 1, "3+": 1, "+++": 1}
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4}
_STEP = re.compile(
    r"(?:[a-z]+ )?(?:y?[cp]?[tngm]|grade|grad|stage)?\s*([0-4]|iv|i{1,3})(?:[a-d]?\d?|mi|is)?(?:\s*\(.*\))?"
)
_GOOD = ("surviv", "free", "alive", "ueberleb", "survie", "sobrevida", "superviv", "negativ", "response")
_GRADES = {"well": 1, "low": 1, "moderately": 2, "moderate": 2, "intermediate": 2, "poorly": 3, "poor": 3, "high": 3}
_PRE = re.compile(r"pre|prae|peri|vor")
_POST = re.compile(r"post|nach")


def binary_codes(name: str, distinct: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What each text of a yes-or-no column means, and the texts of which nothing is known.

    Args:
        name: The study's feature or target: of nodes, receptors in percent and HER2's scores, numbers mean more.
        distinct: The texts.
    """
    spelled = {normal_code(text) for text in distinct} - {"X"}
    one_two = spelled == {"1", "2"} and name != "her2"
    scored = name == "her2" and bool(spelled & {"3", "2+", "3+", "++", "+++"})
    counted = name == "nodes" or (name in {"er", "pr"} and bool({"0"} < spelled) and _are_numbers(spelled))
    codes: dict[str, str] = {}
    for text in distinct:
        code = normal_code(text)
        meaning = int(code) - 1 if one_two else _yes_no(text, counted)
        meaning = _HER2.get(code.lower(), meaning) if scored else meaning
        if meaning is not None:
            codes[text] = BINARY[meaning]
    return codes, [text for text in distinct if text not in codes]


def contradictory_codes(name: str, codes: Mapping[str | int | float, str | int | float]) -> str:
    """A code that means the contrary of what it is mapped to, as `no: 1` or `neg: positive`; empty where none does.

    A number alone says nothing, and neither does a word of an outcome that is good, as survival.

    Args:
        name: The study's feature or target.
        codes: The site's code: the study's category or number.
    """
    if any(stem in "".join(words(name)) for stem in _GOOD):
        return ""
    texts = [str(code) for code in codes if math.isnan(as_number(normal_code(code)))]
    meant = binary_codes(name, texts)[0]
    given = {str(code): binary_codes("", [str(to)])[0].get(str(to)) for code, to in codes.items()}
    return next((f"{code}: {codes[code]}" for code in meant if given[code] not in (None, meant[code])), "")


def _are_numbers(spelled: set[str]) -> bool:
    return all(as_number(text) >= 0 for text in spelled)


def _yes_no(text: str, counted: bool) -> int | None:
    code = normal_code(text).lower().strip(" .")
    if counted and (number := re.fullmatch(r"p?n?\s*(\d+)(?:[a-d]|mi)?(?:\s*\(.*\))?", code)):
        return int(int(number[1]) > 0)
    if counted and as_number(code) > 0:
        return 1
    if numbered := re.fullmatch(r"([01])\s*[:=-]\s*\S.*", code):  # `1:DECEASED`, as cBioPortal writes
        return int(numbered[1])
    if signed := re.fullmatch(r"(?:[a-z][a-z0-9/ ]{0,9}?)?\s*([+-]|\+{2,3})", code):
        return int("+" in signed[1])
    if staged := re.fullmatch(r"p?n\s*([0-3])[a-d]?(?:mi)?(?:\s*\(.*\))?", code):
        return int(staged[1] != "0")
    pieces = words(code) or (code,)
    for piece in (pieces[0], pieces[-1]):
        if piece in NO or piece in YES:
            return int(piece in YES)
    return None


def step_codes(name: str, distinct: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The number of each step of a grade or stage, `G2` or `pT1c`, and the texts that hold none."""
    codes: dict[str, int] = {}
    for text in distinct:
        plain = " ".join(text.lower().replace("_", " ").split())
        if step := _STEP.fullmatch(plain):
            codes[text] = _ROMAN.get(step[1]) or int(step[1])
        elif re.fullmatch(r"[cp]?tis.*", plain) and name == "t_stage":
            codes[text] = 0
        elif name == "grade" and (grades := set(words(plain)) & set(_GRADES)):
            codes[text] = _GRADES[min(grades)]
    return codes, [text for text in distinct if text not in codes]


def named_codes(distinct: Sequence[str], categories: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Which of a study's categories each text names, and the texts that name none."""
    codes = {text: name for text in distinct if (name := _named(text, categories))}
    return codes, [text for text in distinct if text not in codes]


def _named(text: str, categories: Sequence[str]) -> str:
    compact = "".join(words(text))
    if tuple(categories) == ("pre", "post"):
        return "post" if _POST.search(compact) else "pre" if _PRE.search(compact) else ""
    exact = [
        name
        for name in categories
        if compact in {"".join(words(part)) for part in (name, *name.split("_or_"))}
        or compact.removeprefix("brca") == "".join(words(name))
    ]
    return exact[0] if len(exact) == 1 else category_of(text, categories)


def is_unknown(text: str) -> bool:
    """Whether a text says that nothing, or nothing certain, is known."""
    return is_missing_word(text) or bool(set(words(text)) & UNDECIDED)
