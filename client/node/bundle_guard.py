"""Judges what the center sends as a study before Flower installs it: settings pass, code does not.

Flower puts an installed bundle first on `sys.path`, so that a module in it would run here, on patients, and any file in
it could stand in for a library. A study's bundle needs one `pyproject.toml`, and the code is the site's own.
"""

from __future__ import annotations

import importlib
import io
import logging
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

FILES = ["pyproject.toml", ".info/CONTENT"]  # the settings, and Flower's own list of checksums
CLIENT_APP = "client.app:app"
LARGEST_BYTES = 1_000_000

log = logging.getLogger("client")
Install = Callable[..., Path]


class RefusedBundleError(Exception):
    """The center sent more than settings; the text crosses the boundary and names nothing of the site."""


def guard_installation() -> None:
    """From now on, Flower's ClientApp process in this interpreter installs no bundle that was not judged."""
    flower = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    flower.install_from_fab = guarded(flower.install_from_fab)  # type: ignore[attr-defined]


def guarded(install: Install) -> Install:
    """Flower's `install_from_fab` behind `judge`; what lies in the folder afterwards is looked at too."""

    def judge_and_install(bundle: bytes, *arguments: object, **options: object) -> Path:
        judge(bundle)
        folder = install(bundle, *arguments, **options)
        # Flower keeps a folder that is there already, and names it after 8 digits of a checksum only.
        if [file.name for file in folder.iterdir()] != ["pyproject.toml"]:
            raise _refused(why="its folder holds other files than its settings", details=str(folder))
        return folder

    return judge_and_install


def judge(bundle: bytes) -> None:
    """Lets a bundle pass that holds a study's settings and nothing else.

    Args:
        bundle: A Flower App Bundle: a zip archive.

    Raises:
        RefusedBundleError: If it holds anything else, or names another ClientApp than the one installed here.
    """
    named = ""
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            sizes = [(entry.filename, entry.file_size) for entry in archive.infolist()]
            expected = sorted(name for name, _ in sizes) == sorted(FILES)
            if expected and all(size <= LARGEST_BYTES for _, size in sizes):
                project = tomllib.loads(archive.read("pyproject.toml").decode("utf-8"))
                named = project["tool"]["flwr"]["app"]["components"]["clientapp"]
    except Exception as error:  # a broken archive can raise anything
        raise _refused(why="its settings cannot be read", details=repr(error)) from None
    if not expected:
        raise _refused(why="it holds other files than its settings", details=repr(sizes[:20]))
    if named != CLIENT_APP:
        raise _refused(why=f"it is too large or does not name {CLIENT_APP}", details=repr((sizes, named)))


def _refused(*, why: str, details: str) -> RefusedBundleError:
    log.error("refused the study's bundle: %s: %s", why, details)
    return RefusedBundleError(f"the site refused the study: {why}; sites run the code that they installed themselves")
