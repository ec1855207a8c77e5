"""Tabular features: the study's list of them, and their imputation and z-scores as network input.

A study names its features in its settings, so that new columns need no Python::

    clinical: age_years, size_mm, nodes_positive:log, grade{1|2|3}
    genomic: ESR1:log, PGR:log

`name` is a number, `name:log` a number taken as log(1 + x), `name{a|b|c}` a category. Each hospital maps the
names to its own columns in its site YAML.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.arrays import SIGNED, VECTOR, add
from shared_models.settings import SettingsError

FloatArray = NDArray[np.float32] | NDArray[np.float64]

# A value ten standard deviations out is a unit error or an entry error; it must not move a shared network.
MAX_Z_SCORE = 10.0

_FEATURE = re.compile(r"^(?P<name>[A-Za-z_][\w.\-]*)(?P<log>:log)?(?:\{(?P<categories>[^{}]+)\})?$")


@dataclass(frozen=True)
class Feature:
    """One feature of a tabular modality.

    Attributes:
        name: The study's name for it; a unit belongs in the name (`size_mm`).
        categories: The categories in order, or empty for a number.
        log: Whether the number is taken as log(1 + x).
    """

    name: str
    categories: tuple[str, ...] = ()
    log: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns it becomes: itself, or one for each category."""
        return tuple(f"{self.name}={category}" for category in self.categories) or (self.name,)


def parse_features(text: str) -> dict[str, tuple[Feature, ...]]:
    """Reads `modality: feature, feature` lines (separated by newlines or `;`).

    Raises:
        SettingsError: If a line or a feature cannot be read, or a name appears twice.
    """
    tables: dict[str, tuple[Feature, ...]] = {}
    for line in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        modality, colon, names = line.partition(": ")
        if not colon or modality in tables:
            msg = f"features: cannot read {line!r}; expected one `modality: name, name{{a|b}}` a modality"
            raise SettingsError(msg)
        features = tuple(parse_feature(part.strip()) for part in names.split(",") if part.strip())
        twice = {name for name, count in Counter(feature.name for feature in features).items() if count > 1}
        if twice or not features:
            msg = f"features: {modality} names {', '.join(sorted(twice)) or 'nothing'}{' twice' if twice else ''}"
            raise SettingsError(msg)
        tables[modality.strip()] = features
    return tables


def parse_feature(text: str) -> Feature:
    """Reads `name`, `name:log` or `name{a|b|c}`.

    Raises:
        SettingsError: If it is none of these.
    """
    match = _FEATURE.match(text)
    if match is None or (match["log"] and match["categories"]):
        msg = f"features: cannot read {text!r}; expected `name`, `name:log` or `name{{a|b|c}}`"
        raise SettingsError(msg)
    categories = tuple(part.strip() for part in (match["categories"] or "").split("|") if part.strip())
    return Feature(match["name"], categories, log=bool(match["log"]))


def expand(features: Sequence[Feature], values: FloatArray) -> NDArray[np.float32]:
    """Turns a site's values into input columns.

    Args:
        features: The F features.
        values: `(N, F)`; a category is given by its index, a missing value as NaN.

    Returns:
        `(N, C)` with a column for each number and each category, NaN where missing.
    """
    columns: list[FloatArray] = []
    for feature, column in zip(features, np.asarray(values, dtype=np.float64).T, strict=True):
        if feature.categories:
            one_hot = (column[:, None] == np.arange(len(feature.categories))).astype(np.float64)
            one_hot[np.isnan(column)] = np.nan
            columns.append(one_hot)
        else:
            columns.append((np.log1p(np.maximum(column, 0.0)) if feature.log else column)[:, None])
    return np.concatenate(columns, axis=1).astype(np.float32)


def without_rare_values(features: Sequence[Feature], columns: FloatArray, least: int) -> FloatArray:
    """Input columns `(N, C)` in which a number that nearly all share is missing: sums would tell the others' values.

    Of a column of zeros and one other value the sum is that value. So a number is taken out where 1 or more patients,
    but fewer than `least`, differ from the commonest value; categories are counted, and small counts merged, elsewhere.

    Example:
        >>> without_rare_values([Feature("nodes")], np.array([[0.0], [0.0], [0.0], [7.0]]), 2).ravel()
        array([nan, nan, nan, nan])
    """
    common, start = np.array(columns, dtype=np.float64), 0
    for feature in features:
        if not feature.categories and least > 1:
            values, counts = np.unique(common[~np.isnan(common[:, start]), start], return_counts=True)
            if len(values) > 1 and counts.sum() - counts.max() < least:
                common[:, start] = np.nan
        start += len(feature.columns)
    return common


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Additive statistics of a tabular modality's columns over training patients, for z-scores and imputation.

    Attributes:
        patients: Patients who have the modality.
        known: `(C,)` patients with a value.
        total: `(C,)` sum of the values.
        squares: `(C,)` sum of the squared values.
    """

    patients: float
    known: NDArray[np.float64] = field(metadata=VECTOR)
    total: NDArray[np.float64] = field(metadata=VECTOR | SIGNED)
    squares: NDArray[np.float64] = field(metadata=VECTOR)

    @classmethod
    def of(cls, columns: FloatArray) -> FeatureStatistics:
        """Statistics of `columns` `(N, C)` from `expand`."""
        values = np.asarray(columns, dtype=np.float64)
        filled = np.nan_to_num(values)
        known = (~np.isnan(values)).sum(axis=0).astype(np.float64)
        return cls(float(len(values)), known, filled.sum(axis=0), (filled**2).sum(axis=0))

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        return add(self, other)

    @property
    def mean(self) -> NDArray[np.float64]:
        """`(C,)` mean of the known values, 0 where none is known."""
        return self.total / np.maximum(self.known, 1.0)

    @property
    def variance(self) -> NDArray[np.float64]:
        """`(C,)` variance, 0 for a column that never varies but for rounding."""
        variance = self.squares / np.maximum(self.known, 1.0) - self.mean**2
        return np.where(variance <= 1e-12 * np.maximum(self.mean**2, 1.0), 0.0, variance)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """`(C,)` standard deviation, 1 for a column that never varies."""
        variance = self.variance
        return np.sqrt(np.where(variance == 0.0, 1.0, variance))

    def standardise(self, columns: FloatArray) -> NDArray[np.float32]:
        """z-scores and missing flags, `(N, 2C)`: a missing value becomes the mean, z = 0, and raises its flag.

        The flag of a column that no training patient lacked stays 0: the network never learned what it means.
        """
        missing = np.isnan(columns)
        z = np.clip(np.nan_to_num((columns - self.mean) / self.deviation), -MAX_Z_SCORE, MAX_Z_SCORE)
        flags = missing & (self.known < self.patients)
        return np.concatenate([z, flags], axis=1).astype(np.float32)
