"""YAML reading without implicit types: `no`, `off`, `010` and `2020-01-01` stay text, as in a table."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class SiteYaml(yaml.SafeLoader):
    """A safe loader with YAML 1.2's plain scalars, which also refuses a key that appears twice.

    YAML 1.1 reads a code `no: 0` as False, `010` as 8 and a date as an object; none of them would match a cell.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; a second value for a key is a mistake that PyYAML would hide."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} appears twice", node.start_mark)
        return super().construct_mapping(node, deep)


SiteYaml.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|", ["~", "n", ""]),
):
    SiteYaml.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


def read_yaml(path: Path) -> Any:
    """What the file holds.

    Raises:
        OSError: If it cannot be read.
        yaml.YAMLError: If it is not YAML, or a key appears twice.
        ValueError: If it is not UTF-8, or holds a number of thousands of digits.
        RecursionError: If it is nested as no settings are.
    """
    return copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))


# Each message reads its site's settings; PyYAML takes 10 ms for them, and a simulation has hundreds of sites.
@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=SiteYaml)  # a SafeLoader
