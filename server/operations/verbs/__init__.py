"""Verbs of `python -m server`, one function each; arguments are parsed in `server/operations/arguments.py`."""

from server.operations.verbs.finished_study import export, report, results, withdraw
from server.operations.verbs.running_study import audit, compare, run, status, validate, watch
from server.operations.verbs.setting_up import init, register, start, unregister

__all__ = [
    "audit",
    "compare",
    "export",
    "init",
    "register",
    "report",
    "results",
    "run",
    "start",
    "status",
    "unregister",
    "validate",
    "watch",
    "withdraw",
]
