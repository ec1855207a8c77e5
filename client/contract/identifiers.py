"""Patients' identifiers: one spelling of what looks the same, and a looser one that finds near misses."""

from __future__ import annotations

import functools
import re
import unicodedata

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"), "-")


# Greek and Cyrillic capitals and small letters, as casefold leaves them, that look like Latin ones
_LOOK_ALIKE = str.maketrans("αβεηικμνορτυχабвеікмнорстухјѕ", "abehikmnoptyxabbeikmhopctyxjs")


def normal_identifier(text: str) -> str:
    r"""An identifier without what cannot be seen: NFC, no invisible characters, one kind of hyphen and of blank.

    >>> normal_identifier("P\u20111\u200b")
    'P-1'
    """
    if text.isascii():
        return text.strip()
    composed = unicodedata.normalize("NFC", text).translate(_DASHES)
    kinds = {letter: unicodedata.category(letter) for letter in set(composed)}
    seen = (" " if kinds[letter] == "Zs" else letter for letter in composed if kinds[letter] != "Cf")
    return "".join(seen).strip()


@functools.lru_cache(maxsize=2**16)  # each site of a simulation that is a part of one table compares all of its rows
def loose_identifier(text: str) -> str:
    """What is left of an identifier without capitals, blanks, accents, leading zeros, and signs between no two numbers.

    Greek and Cyrillic letters that look like Latin ones count as these.

    Two identifiers that differ and leave the same are most likely one patient's, spelled by two programs: `0007`, `7`
    and `7.0`; `TCGA-AA-0001` and `tcga.aa.0001`.

    >>> loose_identifier("TCGA-AA-0001") == loose_identifier("tcga.aa.1") != loose_identifier("TCGA-AA-0010")
    True
    """
    plain = unicodedata.normalize("NFKC", text).casefold().strip()
    if not plain.isascii():
        apart = unicodedata.normalize("NFKD", plain.translate(_LOOK_ALIKE).replace("\u0131", "i"))
        plain = "".join(letter for letter in apart if not unicodedata.combining(letter))
    plain = re.sub(r"(?<=\d)\.0+$", "", plain)
    plain = re.sub(r"(?<=\d)[\W_]+(?=\d)", "-", plain)
    plain = re.sub(r"[\W_]+(?!\d)|(?<!\d)[\W_]+", "", plain)
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)
