"""Suspicions of features that follow from each other: body mass, nodes, and what PyRadiomics measures of one lesion.

A column in another unit, moved by a row or exchanged with another one is plausible by itself, and breaks these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.suspicion import Suspicion, suspicion
from client.onboarding.vocabulary import words

LEAST, SHARE = 3, 0.02  # patients in whom a rule does not hold
NEARLY = 0.01  # a share, by which numbers that were rounded differ
RECEPTORS_APART = 100.0  # between the highest amounts of both, which are measured alike
UNITS_APART = 20.0  # between a tumour's volume and that of a ball of its size, as the median of the patients
_CUBIC = frozenset({"mm3", "cu", "cubic"})
_GROUPS = ("shape", "firstorder", "glcm", "glrlm", "glszm")
_WHOLE = _CUBIC | {"volume", "vol", "tumor", "tumour", "lesion", "mm"}  # a part's volume has more words

# pyradiomics.readthedocs.io/en/latest/features.html; a body of a diameter has at most a ball's volume
_AT_MOST = (
    *(("shape_LeastAxisLength", "shape_MinorAxisLength"), ("shape_MinorAxisLength", "shape_MajorAxisLength")),
    *(("firstorder_Minimum", "firstorder_10Percentile"), ("firstorder_10Percentile", "firstorder_Median")),
    *(("firstorder_Median", "firstorder_90Percentile"), ("firstorder_90Percentile", "firstorder_Maximum")),
    *(("firstorder_Minimum", "firstorder_Mean"), ("firstorder_Mean", "firstorder_Maximum")),
)
_OF_TWO: tuple[tuple[str, str, str, Callable[[Values, Values], Values]], ...] = (
    ("shape_SurfaceVolumeRatio", "shape_SurfaceArea", "shape_MeshVolume", np.divide),
    ("shape_Elongation", "shape_MinorAxisLength", "shape_MajorAxisLength", np.divide),
    ("shape_Flatness", "shape_LeastAxisLength", "shape_MajorAxisLength", np.divide),
    ("firstorder_Range", "firstorder_Maximum", "firstorder_Minimum", np.subtract),
    ("shape_Sphericity", "shape_MeshVolume", "shape_SurfaceArea", lambda v, a: (36 * math.pi * v**2) ** (1 / 3) / a),
)
# of any distribution: Pearson's inequality of its moments, that of the mean and the squared deviation, and Renyi's of
# its entropies, in bits
_AT_LEAST: tuple[tuple[str, str, Callable[[Values], Values]], ...] = (
    ("firstorder_Kurtosis", "firstorder_Skewness", lambda skewness: 1 + skewness**2),
    ("firstorder_Variance", "firstorder_MeanAbsoluteDeviation", np.square),
    ("firstorder_Entropy", "firstorder_Uniformity", lambda uniformity: -np.log2(uniformity)),
    ("glcm_JointEntropy", "glcm_JointEnergy", lambda energy: -np.log2(energy)),
)
_UP_TO_ONE = (
    *("shape_Sphericity", "shape_Elongation", "shape_Flatness", "firstorder_Uniformity", "glcm_JointEnergy"),
    *("glcm_Id", "glcm_Idm", "glcm_Idn", "glcm_Idmn", "glcm_Imc2", "glcm_MCC", "glcm_MaximumProbability"),
    *("glcm_Correlation", "glrlm_RunPercentage", "glszm_ZonePercentage"),
)


def arithmetic_warnings(by_thing: Mapping[str, FeatureColumn], columns: Sequence[FeatureColumn]) -> list[Suspicion]:
    """What does not add up, each with what to do about it.

    Args:
        by_thing: The features by the vocabulary's name for them.
        columns: All features, each of the cohort's R rows.
    """
    numbers = {name: one for name, one in by_thing.items() if not one.feature.categories}
    radiomics = {one.feature.name: one for one in columns if any(f"_{group}_" in one.feature.name for group in _GROUPS)}
    with np.errstate(all="ignore"):
        return [
            *_nodes(numbers),
            *_body_mass(numbers),
            *map(Suspicion, (*_volume(numbers, columns), *_receptors(numbers))),
            *_radiomics(radiomics),
        ]


def _nodes(by_thing: Mapping[str, FeatureColumn]) -> Iterator[Suspicion]:
    """Nodes that were not examined and yet positive."""
    if {"nodes_positive", "nodes_examined"} <= by_thing.keys():
        positive, examined = by_thing["nodes_positive"], by_thing["nodes_examined"]
        more = positive.values > examined.values
        if more.sum() >= LEAST:
            names = f"{positive.feature.name} is above {examined.feature.name}"
            yield suspicion(f"{names} in {positive.rows(more)}; check both columns", more)


def _body_mass(by_thing: Mapping[str, FeatureColumn]) -> Iterator[Suspicion]:
    """An index of body mass that is not that of height and weight."""
    if {"bmi", "height_cm", "weight_kg"} <= by_thing.keys():
        bmi, height, weight = (by_thing[name] for name in ("bmi", "height_cm", "weight_kg"))
        apart = np.abs(weight.values / (height.values / 100) ** 2 / bmi.values - 1) > 0.1
        if apart.sum() >= max(LEAST, SHARE * len(bmi.known)):
            yield suspicion(
                f"{bmi.feature.name} is not that of {height.feature.name} and {weight.feature.name} in "
                f"{bmi.rows(apart)}; check the three columns and their units",
                apart,
            )


def _receptors(by_thing: Mapping[str, FeatureColumn]) -> Iterator[str]:
    """Amounts of both receptors, one on the scale of a score and the other in fmol/mg."""
    if {"er", "pr"} <= by_thing.keys() and min(len(by_thing[name].known) for name in ("er", "pr")) >= FEW:
        low, high = sorted((by_thing["er"], by_thing["pr"]), key=lambda one: one.known[-1])
        if high.known[-1] > RECEPTORS_APART * max(low.known[-1], 1.0):
            yield (
                f"{low.feature.name} reaches {low.known[-1]:g} and {high.feature.name} {high.known[-1]:g}: a score, a "
                "logarithm or per cent beside amounts? Give both as the study means them"
            )


def _volume(by_thing: Mapping[str, FeatureColumn], columns: Sequence[FeatureColumn]) -> Iterator[str]:
    """A tumour's volume in mm3 that is far from what its size in mm makes likely."""
    size = by_thing.get("size_mm")
    for one in columns if size else ():
        names = set(words(one.feature.name))
        if size is None or not names & {"volume", "vol"} or not names & _CUBIC or names - _WHOLE:
            continue
        ratio = one.values / (math.pi / 6 * size.values**3)
        ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
        if len(ratio) >= FEW and not 1 / UNITS_APART < (middle := float(np.median(ratio))) < UNITS_APART:
            yield (
                f"{one.feature.name} is {middle:.2g} times the volume of a ball of {size.feature.name}, in half of the "
                "patients less, in half more; check the units of both columns"
            )
            return


def _radiomics(by_name: Mapping[str, FeatureColumn]) -> Iterator[Suspicion]:
    """Features of one image, named as `original_shape_Elongation`, that contradict each other."""
    for prefix in dict.fromkeys(name.rpartition("_")[0].rpartition("_")[0] for name in by_name):
        here = {name.removeprefix(f"{prefix}_"): one for name, one in by_name.items() if name.startswith(f"{prefix}_")}
        for low, high in _AT_MOST:
            if {low, high} <= here.keys():
                one, other = here[low], here[high]
                above = one.values > other.values + NEARLY * np.abs(other.values) + one.rounding + other.rounding
                yield from _where(above, one, f"{one.feature.name} is above {other.feature.name}")
        for name, first, second, rule in _OF_TWO:
            if {name, first, second} <= here.keys():
                one, parts = here[name], (here[first], here[second])
                expected, rounding = _expected(rule, *parts)
                names = " and ".join(part.feature.name for part in parts)
                apart = np.abs(one.values - expected) > NEARLY * np.abs(expected) + one.rounding + rounding
                yield from _where(apart, one, f"{one.feature.name} is not that of {names}")
        for name, of, least in _AT_LEAST:
            if {name, of} <= here.keys():
                one, other = here[name], here[of]
                expected = least(other.values)
                below = one.values < expected - NEARLY * np.abs(expected) - one.rounding
                yield from _where(below, one, f"{one.feature.name} is below what {other.feature.name} allows")
        for one in filter(None, map(here.get, _UP_TO_ONE)):
            yield from _where(one.values > 1 + NEARLY, one, f"{one.feature.name} is above 1")
        if {"shape_MeshVolume", "shape_Maximum3DDiameter"} <= here.keys():
            one, other = here["shape_MeshVolume"], here["shape_Maximum3DDiameter"]
            above = one.values - one.rounding > (1 + NEARLY) * math.pi / 6 * (other.values + other.rounding) ** 3
            yield from _where(above, one, f"{one.feature.name} is above that of a ball of {other.feature.name}")


def _expected(
    rule: Callable[[Values, Values], Values], first: FeatureColumn, second: FeatureColumn
) -> tuple[Values, Values]:
    """What follows from two features, and how far the digits that they are written with may move it."""
    expected = rule(first.values, second.values)
    moved = [
        np.abs(rule(first.values + up * first.rounding, second.values + down * second.rounding) - expected)
        for up, down in ((-1, 1), (1, -1), (1, 1), (-1, -1))
    ]
    return expected, np.max(moved, axis=0)


def _where(broken: NDArray[np.bool_], one: FeatureColumn, what: str) -> Iterator[Suspicion]:
    if broken.sum() >= max(LEAST, SHARE * len(one.known)):
        text = f"{what} in {one.rows(broken)}; check that the columns are of the same lesions, and their units"
        yield suspicion(text, broken)
