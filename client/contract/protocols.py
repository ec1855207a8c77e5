"""Protocols of a site's configuration and of its cohort's rows, as the readers need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from client.contract.cells import Cells
from client.contract.columns import Column, TableSource
from client.contract.paths import Instance


class Site(Protocol):
    """Where a site's files lie and how its tables and modalities are read."""

    @property
    def data_root(self) -> Path:
        """The folder outside which nothing is read."""
        ...

    @property
    def state_dir(self) -> Path:
        """The site's own folder."""
        ...

    @property
    def workers(self) -> int:
        """Processes that read images."""
        ...

    @property
    def cache_gib(self) -> float:
        """Room on disk for its cache."""
        ...

    @property
    def tables(self) -> Mapping[str, TableSource]:
        """Its tables by name."""
        ...

    @property
    def patients_table(self) -> str:
        """The table that says who belongs to the cohort."""
        ...

    @property
    def modalities(self) -> Mapping[str, Any]:
        """Its readers by modality."""
        ...


class Rows(Protocol):
    """The R rows of a cohort, as a reader sees them."""

    @property
    def site(self) -> Site:
        """The site's settings."""
        ...

    @property
    def keys(self) -> Sequence[Instance]:
        """The rows' patients and instances."""
        ...

    @property
    def known(self) -> frozenset[str]:
        """Everybody in the patients table."""
        ...

    @property
    def may_lack(self) -> bool:
        """Whether a column may be empty for all rows."""
        ...

    @property
    def row_table(self) -> str:
        """The table whose rows these are, for messages."""
        ...

    def __len__(self) -> int: ...

    def cells(self, column: Column, table: str = "") -> Cells:
        """The rows' cells of a column."""
        ...
