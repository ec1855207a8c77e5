"""Aggregation rules, one a file, as `server.study.aggregation.rule` says; its name is the strategy's, `-` for `_`."""

from __future__ import annotations

import pkgutil


def rule_names() -> list[str]:
    """The strategies there are: the files of this folder."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
