"""Files under a site's data_root, and the patterns by which its YAML names them."""

from __future__ import annotations

import re
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple, Protocol

from pydantic import AfterValidator

from client.contract.identifiers import normal_identifier
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


def with_slashes(path: str) -> str:
    r"""A path as it is; on Windows, too, Python takes `/`, and a `\` of one site is no separator at another.

    Raises:
        ValueError: If it holds a backslash.
    """
    if "\\" in path:
        msg = f"{path!r}: write it with / in place of \\, as {path.replace(chr(92), '/')!r}"
        raise ValueError(msg)
    return path


def _pattern(pattern: str) -> str:
    path = PurePosixPath(with_slashes(pattern))
    if "{patient}" not in pattern or path.is_absolute() or ".." in path.parts:
        msg = f"{pattern!r}: expected a path under data_root that holds {{patient}}"
        raise ValueError(msg)
    return pattern


Pattern = Annotated[str, AfterValidator(_pattern)]
_PLACES = re.compile(r"(\{patient\}|\{instance\}|\*)")


def matching_files(site: HasDataRoot, pattern: Pattern, place: str) -> dict[Instance, list[Path]]:
    """The files that a pattern names, sorted; a patient's name is taken from the path, never put into one.

    Args:
        site: The site.
        pattern: A path with `{patient}`, perhaps `{instance}`, and `*` for anything within one folder or file name.
            Capitals of the last name do not count: some programs write `.NII.GZ` or `.DCM`.
        place: Where it is in the YAML, for the message.

    Raises:
        SiteError: If a file lies outside data_root.
    """
    seen: set[str] = set()
    *folders, name = pattern.split("/")
    expression = "/".join([*(_expression(part, seen) for part in folders), f"(?i:{_expression(name, seen)})"])
    wild = re.sub("[a-z]", _either_case, _wild(name), flags=re.I)
    inside = site.data_root.glob("/".join(map(_wild, folders))) if folders else [site.data_root]
    files: dict[Instance, list[Path]] = {}
    # a folder is not even listed before it is known to lie in data_root
    listed = (inside_data_root(site, folder, f"{place}: {pattern}") and folder for folder in inside if folder.is_dir())
    for path in sorted(path for folder in listed for path in folder.glob(wild or "_")):
        match = re.fullmatch(expression, path.relative_to(site.data_root).as_posix())
        if match and path.exists():  # a link may lead nowhere
            key = Instance(**{name: normal_identifier(text) for name, text in match.groupdict().items()})
            files.setdefault(key, []).append(inside_data_root(site, path, f"{place}: {pattern}"))
    return files


def _expression(name: str, seen: set[str]) -> str:
    return "".join(_group(part, seen) for part in _PLACES.split(name))


def _wild(name: str) -> str:
    return "".join("*" if _PLACES.fullmatch(part) else escape(part) for part in _PLACES.split(name))


def _either_case(letter: re.Match[str]) -> str:
    return f"[{letter[0].lower()}{letter[0].upper()}]"


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
        SiteError: If it escapes data_root, through `..`, an absolute path or a link.
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
