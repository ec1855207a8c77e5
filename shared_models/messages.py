"""What travels between center and site: the names of the records, and packing arrays in and out of them.

A request carries `model`, `statistics` and `request`; a reply carries `model`, `results` and `numbers`. Arrays
travel as safetensors, both ways.

Messages, in the order of a study:

* `query.prepare`: the site counts its patients and sends additive statistics of its training patients.
* `train`: the site scores the global model on its validation patients, then trains it on its training patients.
* `evaluate.validation`, `evaluate.test`: the site scores the global model on that part.

In a study with secure sums each of these stands between three others, about the masks of its sum
(`shared_models/secure_sum.py`): `query.keys` and `query.shares` before it, `query.unmask` after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared_models.combat import Reference
from shared_models.features import FeatureStatistics
from shared_models.metrics.arrays import from_arrays, to_arrays
from shared_models.study_settings import StudySettings
from shared_models.task import Task

PREPARE = "query.prepare"
TRAIN = "train"
EVALUATE_VALIDATION = "evaluate.validation"
EVALUATE_TEST = "evaluate.test"
KEYS, SHARES, UNMASK = "query.keys", "query.shares", "query.unmask"

MODEL = "model"
STATISTICS = "statistics"
REQUEST = "request"
RESULTS = "results"
MASKED = "masked"
NUMBERS = "numbers"
PACKED = "safetensors"
MAX_HEADER_BYTES = 1_000_000

Arrays = dict[str, np.ndarray[Any, Any]]


def pack_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> ArrayRecord:
    """Named arrays as a Flower record that holds one array: the bytes of a safetensors file.

    Flower 1.41 sends each array of a record in a request of its own, so that a small network's thirty tensors take
    longer on the way than in training.
    """
    if not arrays:
        return ArrayRecord()
    content = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    return ArrayRecord({PACKED: Array("uint8", (len(content),), "safetensors", content)})


def unpack_arrays(record: ArrayRecord) -> Arrays:
    """The arrays of such a record, by name; nothing in it is ever unpickled.

    Raises:
        ValueError: If it is not one.
    """
    if not record:
        return {}
    try:
        return load(_with_short_header(record[PACKED].data))
    except (KeyError, ValueError, SafetensorError) as error:
        msg = f"the arrays are not in safetensors: {type(error).__name__}: {error}"
        raise ValueError(msg) from None


def _with_short_header(content: bytes) -> bytes:
    """The bytes of a file whose header, of all arrays' names and shapes, does not take seconds to read."""
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER_BYTES:
        msg = f"their header has {length:,} bytes, at most {MAX_HEADER_BYTES:,} are read"
        raise ValueError(msg)
    return content


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


def pack_references(references: Mapping[str, Reference]) -> Arrays:
    """What each harmonised table is brought to as named arrays."""
    arrays: Arrays = {}
    for modality, reference in references.items():
        arrays |= {f"harmonisation.{modality}.mean": reference.mean}
        arrays |= {f"harmonisation.{modality}.variance": reference.variance}
    return arrays


def unpack_references(arrays: Mapping[str, np.ndarray[Any, Any]], config: StudySettings) -> dict[str, Reference]:
    """The inverse of `pack_references` for the tables that the study harmonises."""
    return {
        name: Reference(arrays[f"harmonisation.{name}.mean"], arrays[f"harmonisation.{name}.variance"])
        for name in config.harmonised_tables
    }


def pack_class_weights(weights: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Class weights of some targets as named arrays."""
    return {f"class-weights.{target}": array for target, array in weights.items()}


def unpack_class_weights(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """The inverse of `pack_class_weights`."""
    prefix = "class-weights."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def request(
    *,
    model: Mapping[str, np.ndarray[Any, Any]] | None = None,
    statistics: Mapping[str, np.ndarray[Any, Any]] | None = None,
    **values: str | int | float,
) -> RecordDict:
    """A message's content from center to site."""
    return RecordDict(
        {
            MODEL: pack_arrays(model or {}),
            STATISTICS: pack_arrays(statistics or {}),
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
