"""What travels between center and site: the names of the records, and packing arrays in and out of them.

A request carries `model`, `statistics` and `request`; a reply carries `model`, `results` and `numbers`. Arrays
are NumPy's own format without pickle, both ways.

Messages, in the order of a study:

* `query.prepare`: the site counts its patients and sends additive statistics of its training patients.
* `train`: the site scores the global model on its validation patients, then trains it on its training patients.
* `evaluate.validation`, `evaluate.test`: the site scores the global model on that part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from shared_models.evaluation.arrays import from_arrays, to_arrays
from shared_models.features import FeatureStatistics
from shared_models.task import Task

PREPARE = "query.prepare"
TRAIN = "train"
EVALUATE_VALIDATION = "evaluate.validation"
EVALUATE_TEST = "evaluate.test"

MODEL = "model"
STATISTICS = "statistics"
REQUEST = "request"
RESULTS = "results"
NUMBERS = "numbers"

Arrays = dict[str, np.ndarray[Any, Any]]


def pack_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> ArrayRecord:
    """Arrays as a Flower record."""
    return ArrayRecord({name: Array(np.asarray(array, order="C")) for name, array in arrays.items()})


def unpack_arrays(record: ArrayRecord) -> Arrays:
    """The arrays of a Flower record; NumPy refuses pickled objects in it.

    Raises:
        ValueError: If one is not an array in NumPy's format.
    """
    return {name: _unpack(name, array) for name, array in record.items()}


def _unpack(name: str, array: Array) -> np.ndarray[Any, Any]:
    try:
        found: object = array.numpy()
    except Exception as error:  # bytes of another's making: anything from EOFError over BadZipFile to MemoryError
        msg = f"{name} is not an array: {type(error).__name__}: {error}"
        raise ValueError(msg) from None
    if not isinstance(found, np.ndarray):
        msg = f"{name} is not an array but a {type(found).__name__}"
        raise ValueError(msg)
    return found


def pack_statistics(statistics: Mapping[str, FeatureStatistics]) -> Arrays:
    """Feature statistics of each tabular modality as named arrays."""
    arrays: Arrays = {}
    for modality, statistic in statistics.items():
        arrays |= to_arrays(statistic, f"features.{modality}")
    return arrays


def unpack_statistics(arrays: Mapping[str, np.ndarray[Any, Any]], task: Task) -> dict[str, FeatureStatistics]:
    """The inverse of `pack_statistics` for the tables of `task`.

    Raises:
        ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
    """
    statistics = {}
    for modality, table in task.tables.items():
        like = FeatureStatistics.of(np.empty((0, len(table.columns))))
        statistics[modality] = from_arrays(FeatureStatistics, arrays, f"features.{modality}", like=like)
    return statistics


def request(
    *,
    model: Mapping[str, np.ndarray[Any, Any]] | None = None,
    statistics: Mapping[str, FeatureStatistics] | None = None,
    **values: str | int | float,
) -> RecordDict:
    """A message's content from center to site."""
    return RecordDict(
        {
            MODEL: pack_arrays(model or {}),
            STATISTICS: pack_arrays(pack_statistics(statistics or {})),
            REQUEST: ConfigRecord(values),
        }
    )


def reply(
    *,
    model: Mapping[str, np.ndarray[Any, Any]] | None = None,
    results: Mapping[str, np.ndarray[Any, Any]] | None = None,
    numbers: Mapping[str, float] | None = None,
) -> RecordDict:
    """A message's content from site to center."""
    return RecordDict(
        {
            MODEL: pack_arrays(model or {}),
            RESULTS: pack_arrays(results or {}),
            NUMBERS: MetricRecord({name: float(value) for name, value in (numbers or {}).items()}),
        }
    )
