"""A message's records as one record of bytes, while they are small: each record is a request or more on the way.

Flower 1.41 sends a message in parts, each in a request of its own: one for the message, one for its content, one for
each record, and two or more for each array. On a network of few weights these requests are most of a round.
"""

from __future__ import annotations

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

COMPACT = "compact"
MAX_BYTES = 4 * 2**20  # Flower cuts an array into pieces of 5 MiB, and a record of bytes not at all


def compact(content: RecordDict) -> RecordDict:
    """The same content in one record; as it is where it is large, or compact already."""
    if COMPACT in content or size_of(content) > MAX_BYTES:
        return content
    return RecordDict({COMPACT: ConfigRecord({COMPACT: recorddict_to_proto(content).SerializeToString()})})


def size_of(content: RecordDict) -> int:
    """About how many bytes a message's content takes."""
    return sum(map(_bytes, content.values()))


def _bytes(record: ArrayRecord | MetricRecord | ConfigRecord) -> int:
    """About what a record takes; Flower's own count fails on an empty text and an empty list."""
    if isinstance(record, ArrayRecord):
        return record.count_bytes()
    return sum(len(value) for value in record.values() if isinstance(value, (bytes, str)))


def expand(content: RecordDict) -> RecordDict:
    """The inverse of `compact`; what is not its output stays as it is, and is checked like any other message."""
    record = content.get(COMPACT)
    if not (isinstance(record, ConfigRecord) and len(content) == 1):
        return content
    packed = record.get(COMPACT)
    try:
        return recorddict_from_proto(ProtoRecordDict.FromString(packed)) if isinstance(packed, bytes) else content
    except Exception:  # another party's bytes: Flower's reader fails on them in many ways
        return content
