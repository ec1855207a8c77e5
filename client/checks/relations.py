"""Suspicions of features beside each other: what goes together in every hospital.

Rows that were shuffled, columns that were exchanged and scales that were turned round leave each column plausible; only
that oestrogen receptor and ESR1 no longer go together shows them. So all tables of a site are judged at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from client.checks.arithmetic import arithmetic_warnings
from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.outcome_counts import EVENT_OF
from client.checks.suspicion import Suspicion
from client.onboarding.vocabulary import KNOWN, plain

MIN_PATIENTS = 30
MANY_PATIENTS = 100  # of whom one pair says enough
ERRORS = 3.3  # standard errors: one in a thousand columns that are right lies farther out
_AFTER_MENOPAUSE = frozenset({"postmenopausal", "post menopausal", "postmenopause", "menopausal"})
_HIGH, _LOW = re.compile(r"pos|yes|high|post|1|true"), re.compile(r"neg|no|low|pre|0|false")


@dataclass(frozen=True)
class Pair:
    """Two features, the higher one the higher the other.

    Attributes:
        one: By its name in the vocabulary, or a gene's symbol; the patients are divided by it.
        other: Likewise.
        least: Area under the curve of `other` for the higher half of `one` that real hospitals exceed; 0.5 where only
            the contrary is suspicious.
        inverse: Whether the other is the lower instead.
    """

    one: str
    other: str
    least: float
    inverse: bool = False


# Receptors agree with their own genes in 93 % (ER), 83 % (PR) and 96 % (HER2) of tumours (Roepman 2009,
# 10.1158/1078-0432.CCR-09-0449). Genes of the luminal, HER2 and proliferation clusters rise together (Perou 2000,
# 10.1038/35021093). Age and menopause, ER and PR in Rotterdam and GBSG: areas of .92 and .89, .76 and .77.
# Stages follow from sizes and nodes by definition (AJCC). Larger tumours have more positive nodes: areas of .77 in
# Rotterdam, .63 in GBSG, whose patients all have some, .75 of T and N in Duke. Higher grades have
# less of the receptors: .54 to .74 (ER), .62 to .71 (PR) in these three.
PAIRS = (
    *(Pair("er", "ESR1", 0.8), Pair("pr", "PGR", 0.7), Pair("her2", "ERBB2", 0.7), Pair("her2", "HER2", 0.7)),
    *(Pair("er", "pr", 0.65), Pair("er", "GATA3", 0.7), Pair("er", "FOXA1", 0.7), Pair("ki67_percent", "MKI67", 0.5)),
    *(Pair("ESR1", "GATA3", 0.7), Pair("ESR1", "FOXA1", 0.7), Pair("ERBB2", "GRB7", 0.7), Pair("KRT5", "KRT14", 0.7)),
    *(Pair("MKI67", gene, 0.7) for gene in ("BIRC5", "CCNB1", "CENPF", "UBE2C", "AURKA", "TOP2A")),
    *(Pair("size_mm", "t_stage", 0.75), Pair("nodes_positive", "n_stage", 0.75), Pair("age_years", "menopause", 0.75)),
    *(Pair("size_mm", "nodes_positive", 0.6), Pair("t_stage", "n_stage", 0.6)),
    *(Pair("grade", "er", 0.5, inverse=True), Pair("grade", "pr", 0.5, inverse=True)),
    *(Pair("grade", "ki67_percent", 0.6), Pair("t_stage", "stage", 0.5), Pair("n_stage", "stage", 0.5)),
)


# Patients with the event have more positive nodes: areas of .67 in Rotterdam, .65 in GBSG, .60 of N in Duke.
EVENT = "event"
WITH_EVENT = (Pair(EVENT, "nodes_positive", 0.6), Pair(EVENT, "n_stage", 0.5), Pair(EVENT, "stage", 0.5))
# PAM50's classes are those of these genes (Parker 2009, 10.1200/JCO.2008.18.1370).
OF_CLASS = {
    **dict.fromkeys(
        ("basal", "basal like", "triple negative"),
        (Pair("basal", "ESR1", 0.7, inverse=True), Pair("basal", "FOXA1", 0.7, inverse=True)),
    ),
    **dict.fromkeys(("her2", "her2 enriched"), (Pair("her2", "ERBB2", 0.7), Pair("her2", "GRB7", 0.7))),
    **dict.fromkeys(("luma", "luminal a"), (Pair("luminal a", "ESR1", 0.6), Pair("luminal a", "FOXA1", 0.6))),
}


def relation_warnings(columns: Sequence[FeatureColumn], labels: Mapping[str, Values]) -> list[Suspicion]:
    """What does not go together, each with what to do about it.

    Args:
        columns: The features of all of the site's tables, each of the cohort's R rows.
        labels: `(R,)` of each outcome by its name for messages.
    """
    by_thing: dict[str, FeatureColumn] = {}
    for one in columns:
        by_thing.setdefault(thing_of(one.feature.name), one)
    areas = [area for pair in PAIRS if (area := _of_features(pair, by_thing))]
    events = [name for name in labels if name.startswith(EVENT_OF)]
    areas += [area for name in events for pair in WITH_EVENT if (area := _of_label(pair, by_thing, name, labels[name]))]
    for name, label in labels.items():
        pairs = _of_name(name, by_thing)
        areas += [area for pair in pairs if (area := _of_label(pair, by_thing, name, label))]
    texts = [*_contrary(areas), *_unrelated(areas), *_exchanged_receptors(by_thing)]
    return [*map(Suspicion, texts), *arithmetic_warnings(by_thing, columns)]


def thing_of(name: str) -> str:
    """What the vocabulary calls a feature; its own name where it does not know it, as that of a gene.

    >>> thing_of("ER status"), thing_of("ESR1"), thing_of("menopausal")
    ('er', 'ESR1', 'menopause')
    """
    if name in KNOWN:
        return name
    if plain(name) in _AFTER_MENOPAUSE:
        return "menopause"
    return next((thing for thing, known in KNOWN.items() if plain(name) in known.names), name)


@dataclass(frozen=True)
class _Area:
    """How well two features of a site go together.

    Attributes:
        pair: What they are.
        names: The features' own.
        area: Area under the curve of the second for the higher half of the first.
        upper: Its upper limit of confidence.
        patients: Who have both.
        where: Their columns.
    """

    pair: Pair
    names: str
    area: float
    upper: float
    patients: int
    where: str


def _of_features(pair: Pair, by_thing: Mapping[str, FeatureColumn]) -> _Area | None:
    """None where a site lacks one of them, or has too few patients."""
    if pair.one not in by_thing or pair.other not in by_thing:
        return None
    one, other = by_thing[pair.one], by_thing[pair.other]
    where = f"{one.cells.where}; {other.cells.where}"
    return _area(pair, (_ordered(one), _ordered(other)), f"{one.feature.name} and {other.feature.name}", where)


def _of_name(label: str, by_thing: Mapping[str, FeatureColumn]) -> Sequence[Pair]:
    """Genes of an outcome: of a receptor that is no feature, or of a class, as `pam50 Basal`."""
    receptor = [pair for pair in PAIRS if pair.one == label not in by_thing and pair.other.isupper()]
    return receptor or OF_CLASS.get(plain(label.partition(" ")[2]), ())


def _of_label(pair: Pair, by_thing: Mapping[str, FeatureColumn], name: str, label: Values) -> _Area | None:
    """Of an outcome and a feature."""
    if pair.other not in by_thing:
        return None
    other = by_thing[pair.other]
    return _area(pair, (label, _ordered(other)), f"{name} and {other.feature.name}", other.cells.where)


def _area(pair: Pair, values: tuple[Values, Values], names: str, where: str) -> _Area | None:
    """None where too few patients have both."""
    first, second = values[0], -values[1] if pair.inverse else values[1]
    known = ~np.isnan(first) & ~np.isnan(second)
    first, second = first[known], second[known]
    if len(first) < MIN_PATIENTS or np.ptp(second) == 0:
        return None
    upper = first > (np.median(first) if np.median(first) < first.max() else first.min())
    sizes = int(upper.sum()), int((~upper).sum())
    if min(sizes) < FEW:
        return None
    area = float(rankdata(second)[upper].sum() / sizes[0] - (sizes[0] + 1) / 2) / sizes[1]
    error = math.sqrt((sum(sizes) + 1) / (12 * sizes[0] * sizes[1]))
    return _Area(pair, names, area, area + ERRORS * error, len(first), where)


def _contrary(areas: Sequence[_Area]) -> Iterator[str]:
    for one in areas:
        if one.upper < 0.5:
            yield (
                f"{one.names}: go together the contrary way to what every hospital sees (AUC {one.area:.2f} in "
                f"{one.patients} patients); check their codes, their scale and their columns ({one.where})"
            )


def _unrelated(areas: Sequence[_Area]) -> Iterator[str]:
    """Pairs that have nothing to do with each other: several, or one of many patients."""
    absent = [one for one in areas if 0.5 <= one.upper < one.pair.least]
    if len(absent) > 1 or any(one.patients >= MANY_PATIENTS for one in absent):
        listed = "; ".join(f"{one.names} (AUC {one.area:.2f})" for one in absent)
        yield (
            f"{listed}: hardly go together, as they do in every hospital; check that the rows of both are of the same "
            f"patients, and that no columns were exchanged ({absent[0].where})"
        )


def _ordered(one: FeatureColumn) -> Values:
    """`(R,)` values that rise with what the column means; NaN where its categories have no order that is known."""
    if not one.feature.categories:
        return one.values
    order = [_step(category) for category in one.feature.categories]
    values = np.full(len(one.values), np.nan)
    known = ~np.isnan(one.values)
    values[known] = np.array(order)[one.values[known].astype(np.int64)]
    return values


def _step(category: str) -> float:
    """`positive` as 1, `pre` as 0, `t2` as 2, `10-20` as 10; NaN where no order is known.

    >>> [_step(category) for category in ("positive", "pre", "t2", "5-10", "10-20", "lobular")]
    [1.0, 0.0, 2.0, 5.0, 10.0, nan]
    """
    text = category.lower()
    if number := re.search(r"\d+", text):
        return float(number.group())
    return 1.0 if _HIGH.match(text) else 0.0 if _LOW.match(text) else math.nan


def _exchanged_receptors(by_thing: Mapping[str, FeatureColumn]) -> Iterator[str]:
    """More patients with the progesterone receptor alone than with the oestrogen receptor alone, which is rare."""
    if not {"er", "pr"} <= by_thing.keys():
        return
    er, pr = (_ordered(by_thing[name]) for name in ("er", "pr"))
    if not {0.0, 1.0} >= {*er[~np.isnan(er)], *pr[~np.isnan(pr)]}:
        return
    er_alone, pr_alone = int(((er == 1) & (pr == 0)).sum()), int(((er == 0) & (pr == 1)).sum())
    if pr_alone - er_alone > ERRORS * math.sqrt(pr_alone + er_alone):
        names = f"{by_thing['er'].feature.name} and {by_thing['pr'].feature.name}"
        yield (
            f"{names}: {pr_alone} patients are positive for the progesterone receptor alone, and {er_alone} for the "
            "oestrogen receptor alone, of which there are more in every hospital; were the columns exchanged?"
        )
