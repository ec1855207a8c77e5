"""Sites of secure sums on a quick disk: what they record is tested for durability in `test_record.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parent))

from client.governance.secure_aggregation import record
from shared_models.secure_aggregation import statements

public_key = statements.public_key


class CachedKey:
    """A public key that checks a signature once: in a test, all sites of a federation check the same ones."""

    def __init__(self, point: str) -> None:
        key = public_key(point)
        self.verify = lru_cache(maxsize=10_000)(lambda signature, data, _: key.verify(signature, data, ALGORITHM))


ALGORITHM = ec.ECDSA(hashes.SHA384())
MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def quick_disk() -> Iterator[Path]:
    """A folder in memory, and no waiting for a disk."""
    before, record.SYNCHRONOUS = record.SYNCHRONOUS, "OFF"
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        statements.public_key = lru_cache(maxsize=10_000)(CachedKey)
        yield Path(folder)
    record.SYNCHRONOUS, statements.public_key = before, public_key
