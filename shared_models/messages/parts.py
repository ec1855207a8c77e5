"""Parts of a message as Flower's records hold them: one of plain values, `values`, and one of arrays for each field."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import Any, NoReturn

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from shared_models.messages.arrays import Arrays, pack_arrays, unpack_arrays

VALUES = "values"
MAX_NAMES = 10_000
MAX_NAME = 200


@dataclass
class Parts:
    """What a message is made of; reading takes a part out, so that what is left over at the end was not asked for."""

    values: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Arrays] = field(default_factory=dict)

    @classmethod
    def of(cls, content: RecordDict) -> Parts:
        """The parts of a message's content.

        Raises:
            ValueError: If a record is of another kind than a message's, or holds too much.
        """
        parts = cls()
        for name, record in content.items():
            if isinstance(record, ArrayRecord):
                parts.arrays[name] = unpack_arrays(record)
            elif isinstance(record, ConfigRecord) and name == VALUES:
                parts.values = dict(record)
            else:
                refuse(f"it holds a record that no message has: {shown(name)}")
        for names in (parts.values, parts.arrays, *parts.arrays.values()):
            if len(names) > MAX_NAMES or any(len(name) > MAX_NAME for name in names):
                refuse(f"it holds more than {MAX_NAMES:,} names, or a name of more than {MAX_NAME} letters")
        return parts

    def pack(self) -> RecordDict:
        """The inverse of `of`."""
        records = {name: pack_arrays(arrays) for name, arrays in self.arrays.items()}
        return RecordDict({VALUES: ConfigRecord(self.values), **records})

    def take(self, name: str) -> Any:
        """A plain value."""
        return self.values.pop(name) if name in self.values else refuse(f"{name} is missing")

    def take_named(self, name: str) -> dict[str, Any]:
        """All plain values of a field, by name."""
        keys = [key for key in self.values if key.startswith(f"{name}/")]
        return {key.removeprefix(f"{name}/"): self.values.pop(key) for key in keys}

    def take_arrays(self, name: str) -> Arrays:
        """The arrays of a field."""
        return self.arrays.pop(name) if name in self.arrays else refuse(f"{name} is missing")

    def require_nothing_left(self) -> None:
        """Refuses what no field asked for.

        Raises:
            ValueError: If there is any.
        """
        if unknown := [*self.values, *self.arrays]:
            refuse(f"it holds what no such message has: {shown(unknown[0])}")


def claimed_round(content: RecordDict) -> int:
    """The round that a request says it is of, unchecked, for a log; 0 where it says none."""
    record = content.get(VALUES)
    claimed = record.get("round") if isinstance(record, ConfigRecord) else None
    return claimed if isinstance(claimed, int) and not isinstance(claimed, bool) else 0


def shown(value: object) -> str:
    """A value as a sentence quotes it: short, on one line."""
    return reprlib.repr(value).encode("unicode_escape").decode()[:120]


def refuse(why: str) -> NoReturn:
    """Says what is wrong with a message.

    Raises:
        ValueError: Always.
    """
    raise ValueError(why)
