"""Simulation of a study on one machine: the same server and client over an in-process grid."""

import sys
from typing import TYPE_CHECKING

# `python -m` looks into the current folder first, where a stranger's packages may lie: shared_models/installation.py.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and __path__ != [f"{sys.path[0]}/{__name__}"]:
    del sys.path[0]

if TYPE_CHECKING:
    from simulation.laboratory import Results, load, run, sweep

__all__ = ["Results", "load", "run", "sweep"]


def __getattr__(name: str) -> object:
    """What `__all__` names, imported when it is first used: `python -m simulation` starts without it."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    return getattr(importlib.import_module("simulation.laboratory"), name)
