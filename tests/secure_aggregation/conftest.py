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

from client.governance.secure_aggregation import dealing, record
from shared_models.secure_aggregation import secrets, signing

ALGORITHM = ec.ECDSA(hashes.SHA384())
MEMORY = Path("/dev/shm")
public_key, plain_agree = secrets.public_key, secrets.agree
public_of = lru_cache(maxsize=100_000)(secrets.public_of)
agreed: dict[frozenset[str], bytes] = {}


class CachedKey:
    """A public key that checks a signature once: in a test, all sites of a federation check the same ones."""

    def __init__(self, point: str) -> None:
        key = public_key(point)
        self._verify = lru_cache(maxsize=10_000)(lambda signature, data: key.verify(signature, data, ALGORITHM))

    def verify(self, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> None:
        assert isinstance(algorithm.algorithm, hashes.SHA384)
        self._verify(signature, data)


def agree_once(private: bytes, public: str) -> bytes:
    """Two sites agree on the same: in a test, it is computed once."""
    pair = frozenset((public_of(private), public))
    if pair not in agreed:
        agreed[pair] = plain_agree(private, public)
    return agreed[pair]


@pytest.fixture(scope="module")
def quick_disk() -> Iterator[Path]:
    """A folder in memory, no waiting for a disk, and public-key operations of all sites done once."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "SYNCHRONOUS", "OFF")
        patch.setattr(signing, "public_key", lru_cache(maxsize=10_000)(CachedKey))
        for module in (secrets, dealing):
            patch.setattr(module, "agree", agree_once)
        yield Path(folder)
