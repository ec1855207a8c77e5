"""Words for the categories that this release's tasks have, in the languages of `vocabulary`.

A text names a category if it holds all words of its name or of another name; an ending may differ, as of `asymmetry`
and `asymmetric`, or be cut off, as of `spic`, and initials will do, as `TN`. A text that names two, or denies one,
names none: `init` then lists it as missing, to be checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from client.onboarding.vocabulary import category_name, words

# Other names of a category, of any feature that has it, separated by commas.
CATEGORY_WORDS = {
    "left": "l, li, links, linke, gauche, izquierda, izquierdo, sinistra, sinistro, esquerda, esquerdo, sx",
    "right": "r, re, rechts, rechte, rechter, droite, droit, derecha, derecho, destra, destro, direita, direito, dx",
    "cerebellum": "cerebellar, kleinhirn, cervelet, cerebelo, cervelletto, cerebeloso, kleine hersenen",
    "brainstem": "brain stem, hirnstamm, tronc cerebral, tronco encefalico, tronco cerebral, hersenstam, pons",
    "deep": "tief, profond, profondo, profundo, diep, basal ganglia, basalganglien, thalamus",
    "oval": "ovale, ovalado, ovoid, ovaal",
    "round_or_irregular": "rund, rond, ronde, redondo, redonda, rotondo, rotonda, irregolare",
    "asymmetric": "asimetria, asimetrico, asimmetria, asimmetrico, assimetria, assimetrico",
    "distorted": "architekturstoerung, architectural distortion, distorsione architetturale, distorcao arquitetural",
    "circumscribed": "well defined, well circumscribed, scharf, glatt, umschrieben, circonscrit, bien defini, "
    "circunscrito, bien definido, circoscritto, ben definito, scherp, scherp begrensd, circunscrita, bem definido",
    "obscured_or_microlobulated": "ueberlagert, verdeckt, mikrolobuliert, masque, microlobule, oscurecido, "
    "microlobulado, microlobulada, oscurato, microlobulato, obscuur, gemicrolobuleerd, obscurecido",
    "ill_defined": "ill defined, poorly defined, indistinct, unscharf, mal defini, flou, mal definido, indistinto, "
    "indistincto, mal definito, onscherp, onscherp begrensd, indistinta",
    "spiculated": "spikuliert, spicule, spiculaire, espiculado, espiculada, gespiculeerd, stellate, sternfoermig",
    # with the quarters of BI-RADS' fourth edition
    "fatty": "a, 1, i, below 25, up to 25, 0 25, fat, fettreich, lipomatoes, graisseux, graisseuse, graso, grasa, "
    "adiposo, adiposa, vettig, gordurosa",
    "scattered": "b, 2, ii, 25 50, 26 50, scattered fibroglandular, fibroglandular, fibroglandulaer, fibroglandulaire, "
    "dispersa, verspreid",
    "heterogeneous": "c, 3, iii, 50 75, 51 75, heterogeneously dense, heterogen dicht, heterogene, heterogenea, "
    "eterogeneo, eterogenea",
    "extremely_dense": "d, 4, iv, above 75, from 75, 75 100, 76 100, extrem dicht, sehr dicht, extremement dense, "
    "extremadamente densa, estremamente densa, zeer dicht, extremamente densa",
    "luminal_a": "luma, lum a, luminal a like",
    "luminal_b": "lumb, lum b, luminal b like, luminal b her2 negative, luminal b her2 positive, luminal b her2 neg, "
    "luminal b her2 pos, luminal her2",
    "her2": "her2 enriched, her2 positive, her2 pos, her2 positiv, her2 type, her2 overexpressing, her2neu",
    "triple_negative": "tnbc, triple neg, triple negativ, tripel negativ, triplo negativo, triplo negativa, "
    "triple negatif",
}
_DENIALS = frozenset(
    re.findall(r"\w+", "no non not nicht kein keine sin sans sem senza geen niet ohne without negative negativ neg")
)
_COMMON = 5  # letters that two endings of a word have in common, at least


def category_of(text: str, categories: Sequence[str]) -> str:
    """The one of a study's categories that a text names; empty where it names none, or two.

    >>> shapes = ("oval", "round_or_irregular", "asymmetric", "distorted")
    >>> [category_of(text, shapes) for text in ("Asymmetrie", "round/irregular", "dist", "not oval", "oval, distorted")]
    ['asymmetric', 'round_or_irregular', 'distorted', '', '']
    """
    spoken = words(category_name(text)) + ("negative",) * text.rstrip().endswith("-")
    named = {name: held for name in categories if (held := _most_words(name, spoken))}
    if not named and len(spoken) == 1 and len(spoken[0]) > 1:
        short = [name for name in categories if any(_short(words(one), spoken[0]) for one in _names(name))]
        return short[0] if len(short) == 1 else ""
    most = [one for one in named.values() if not any(one < other for other in named.values())]
    if len(most) != 1 or (set(spoken) - most[0]) & _DENIALS:
        return ""
    return next(name for name, one in named.items() if one == most[0])


def _short(name: Sequence[str], text: str) -> bool:
    """Whether a text is a name's beginning, or its initials."""
    return bool(name) and (name[0].startswith(text) or "".join(word[0] for word in name) == text)


def _most_words(category: str, spoken: Sequence[str]) -> frozenset[str]:
    """The words of a text that name a category, by that of its names which has most; none where it is not named."""
    held = (_held(words(name), spoken) for name in _names(category))
    return max(held, key=len, default=frozenset())


def _names(category: str) -> Iterable[str]:
    yield from (category.replace("_", " "), *category.split("_or_"))
    yield from filter(None, CATEGORY_WORDS.get(category, "").split(","))


def _held(name: Sequence[str], spoken: Sequence[str]) -> frozenset[str]:
    """The spoken words that are a name's, where it holds all of it; a letter or digit is a name in short texts only."""
    if not name or (len(name[0]) == 1 and len(name) == 1 and len(spoken) > 2):
        return frozenset()
    matches = [next((one for one in spoken if _alike(word, one)), "") for word in name]
    return frozenset(matches) if all(matches) else frozenset()


def _alike(word: str, other: str) -> bool:
    """Whether two words are the same but for their endings."""
    common = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    return word == other or (common >= _COMMON and common >= 0.6 * max(len(word), len(other)))
