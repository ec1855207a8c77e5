"""Layout of a block of numbers in secure aggregation, and a site's contribution in that order."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.encoding import STATISTICS, UPDATES, Block, Reals, flatten, unflatten
from shared_models.secure_aggregation.groups import group_of_array, group_of_parameter
from shared_models.secure_aggregation.parameters import Terms
from shared_models.secure_aggregation.wire import ProtocolError

Arrays = Mapping[str, np.ndarray[Any, Any]]
Shapes = dict[str, tuple[int, ...]]

PATIENTS, LOSS, STEPS = "patients", "loss", "steps"
"""Statistics of training: how many patients are behind an update, by group, their summed loss, and, by group, the steps
that were taken times these patients, where updates are added up as the mean change of a step."""
MAX_NUMBERS = 2**31
MAX_DIMENSIONS = 8
_ARRAY = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True)
class Layout:
    """Shapes of arrays by group and name; the same at every site, also for groups that it does not add to.

    Attributes:
        updates: Of parameters of the network.
        statistics: Of other arrays.
    """

    updates: dict[str, Shapes]
    statistics: dict[str, Shapes]

    @classmethod
    def of(cls, updates: Arrays, statistics: Arrays) -> Layout:
        """Of arrays, in the groups that their names say."""
        return cls(_grouped(updates, group_of_parameter), _grouped(statistics, group_of_array))

    def hash(self, terms: Terms) -> str:
        """H(layout, encoding)."""
        encoding = (
            [[form.words, form.fraction_bits, form.largest_bits] for form in (UPDATES, STATISTICS)],
            [float(terms.update_bound).hex(), terms.patients_bound],
        )
        return wire.hashed(wire.canonical([self.to_json(), encoding]))

    def to_json(self) -> dict[str, Any]:
        """For a message."""
        return {"updates": self.updates, "statistics": self.statistics}

    @classmethod
    def read(cls, value: object) -> Layout:
        """From a message.

        Raises:
            ProtocolError: If it is none.
        """
        fields = wire.fields(value, "updates", "statistics")
        return cls(_read_shapes(fields["updates"]), _read_shapes(fields["statistics"]))

    def sizes(self, group: str) -> tuple[int, int]:
        """How many numbers of updates and of statistics a group's block has."""
        updates, statistics = (part.get(group, {}).values() for part in (self.updates, self.statistics))
        return sum(map(prod, updates)), sum(map(prod, statistics))

    def named(self, group: str, block: Block) -> tuple[dict[str, Reals], dict[str, Reals]]:
        """Sums of updates times patients, and of statistics, by name."""
        updates, statistics = block.real()
        return unflatten(updates, self.updates.get(group, {})), unflatten(statistics, self.statistics.get(group, {}))


def _grouped(arrays: Arrays, group_of: Callable[[str], str]) -> dict[str, Shapes]:
    shapes: dict[str, Shapes] = {}
    for name, array in arrays.items():
        shapes.setdefault(group_of(name), {})[name] = tuple(int(size) for size in np.shape(array))
    return shapes


def _read_shapes(value: object) -> dict[str, Shapes]:
    by_group: dict[str, Shapes] = {}
    for group, shapes in wire.mapped(value).items():
        if not isinstance(shapes, dict) or not all(_ARRAY.fullmatch(name) for name in shapes):
            msg = "a layout names arrays by something else than short printable text"
            raise ProtocolError(msg)
        by_group[group] = {name: _read_shape(shape) for name, shape in shapes.items()}
        if sum(map(prod, by_group[group].values())) > MAX_NUMBERS:
            msg = f"a layout has more than {MAX_NUMBERS} numbers"
            raise ProtocolError(msg)
    return by_group


def _read_shape(value: object) -> tuple[int, ...]:
    sizes = tuple(wire.whole(size, 0, MAX_NUMBERS) for size in wire.listed(value))
    if len(sizes) > MAX_DIMENSIONS:
        msg = f"a layout has an array of more than {MAX_DIMENSIONS} dimensions"
        raise ProtocolError(msg)
    return sizes


@dataclass(frozen=True, eq=False)
class Contribution:
    """What a site would add, before any masks.

    Attributes:
        updates: Parameters after training minus those received, by name: all of the network's, or none.
        statistics: Additive arrays of results, by name: all that the kind has, whatever this site adds to.
        patients: By group of parameters, the patients behind this site's update.
    """

    updates: Arrays
    statistics: Arrays
    patients: Mapping[str, float]

    @property
    def layout(self) -> Layout:
        """What its numbers stand for."""
        return Layout.of(self.updates, self.statistics)

    def block(self, group: str, terms: Terms) -> Block:
        """Its numbers of one group."""
        updates = {name: array for name, array in self.updates.items() if group_of_parameter(name) == group}
        statistics = {name: array for name, array in self.statistics.items() if group_of_array(name) == group}
        return Block.of(flatten(updates), flatten(statistics), self.patients.get(group, 0.0), terms)

    def altered(self, terms: Terms) -> int:
        """How many numbers are clamped, or 0 because they are not finite: for the site's own log only."""
        updates, statistics = flatten(self.updates), flatten(self.statistics)
        too_large = ~(np.abs(updates) <= terms.update_bound)
        return int(too_large.sum() + (~np.isfinite(statistics)).sum())
