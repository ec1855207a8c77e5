"""Files under a site's data_root, and the patterns by which its YAML names them."""

from __future__ import annotations

import re
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple, Protocol

from pydantic import AfterValidator

from client.errors import ExitCode, SiteError


class HasDataRoot(Protocol):
    """A site, as far as its files go."""

    @property
    def data_root(self) -> Path:
        """The folder outside which nothing is read."""
        ...


class Instance(NamedTuple):
    """A patient's lesion or view; `instance` is empty where a file belongs to the whole patient."""

    patient: str
    instance: str = ""


def _pattern(pattern: str) -> str:
    path = PurePosixPath(pattern)
    if "{patient}" not in pattern or path.is_absolute() or ".." in path.parts:
        msg = f"{pattern!r}: expected a path under data_root that holds {{patient}}"
        raise ValueError(msg)
    return pattern


Pattern = Annotated[str, AfterValidator(_pattern)]


def matching_files(site: HasDataRoot, pattern: Pattern, place: str) -> dict[Instance, list[Path]]:
    """The files that a pattern names, sorted; a patient's name is taken from the path, never put into one.

    Args:
        site: The site.
        pattern: A path with `{patient}`, perhaps `{instance}`, and `*` for anything within one folder or file name.
        place: Where it stands in the YAML, for the message.

    Raises:
        SiteError: If a file lies outside data_root.
    """
    parts = re.split(r"(\{patient\}|\{instance\}|\*)", pattern)
    seen: set[str] = set()
    expression = "".join(_group(part, seen) for part in parts)
    wild = "".join("*" if part in {"{patient}", "{instance}", "*"} else escape(part) for part in parts)
    found: dict[Instance, list[Path]] = {}
    for path in sorted(site.data_root.glob(wild)):
        if match := re.fullmatch(expression, path.relative_to(site.data_root).as_posix()):
            key = Instance(**match.groupdict())
            found.setdefault(key, []).append(inside_data_root(site, path, f"{place}: {pattern}"))
    return found


def _group(part: str, seen: set[str]) -> str:
    if part == "*":
        return "[^/]*"
    if part not in {"{patient}", "{instance}"}:
        return re.escape(part)
    name = part.strip("{}")
    again = name in seen
    seen.add(name)
    return f"(?P={name})" if again else f"(?P<{name}>[^/]+)"


def inside_data_root(site: HasDataRoot, path: Path, place: str) -> Path:
    """`path`, absolute and with links followed; `place` is where the YAML names it, for the message.

    Raises:
        SiteError: If it leads out, through `..`, an absolute path or a link.
    """
    try:
        resolved = (site.data_root / path).resolve()
    except (RuntimeError, OSError, ValueError):  # a link that leads to itself, a name that is too long or holds NUL
        resolved = Path("nowhere")
    if not resolved.is_relative_to(site.data_root):
        raise SiteError(
            what="a path escapes data_root",
            where=place,
            found=f"{path} is {resolved}",
            expected=f"a file under {site.data_root}",
            fix="move the file there, or change data_root",
            public="the site's settings are not valid",
            exit_code=ExitCode.SITE_CONFIG,
        )
    return resolved
