"""Installation that runs: its version and folder, and a safe start of each command with its own code.

Python imports from the first folder that has a package of a name, and `python -m` puts the current folder first. There
another `client/` may lie, or a `torch.py`. A console script or `python -P -m` never looks there.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from shared_models.errors import UserError

DISTRIBUTION = "breast-federation"
PACKAGES = ("client", "server", "shared_models", "simulation")
FOLDER = Path(__file__).resolve().parents[1]
USAGE = 2
IMAGE_VARIABLE = "BREAST_FEDERATION_IMAGE"


def console_script() -> int:
    """Runs the command whose console script was called: `breast-client` is `client`.

    It judges where the command's package would come from before any of it is imported.

    Returns:
        Its exit code.
    """
    try:
        begin()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    package = Path(sys.argv[0]).stem.removeprefix("breast-")
    return int(import_module(f"{package}.__main__").main())


def begin() -> None:
    """What every command does first, for itself and for each process that it starts.

    What it writes is for its owner alone. No package comes from the current folder, and ours come from the one
    installation that runs now, also where another one is installed in this environment.

    Raises:
        UserError: If one of our packages would come from elsewhere.
    """
    os.umask(0o077)
    os.environ.update(child_environment())
    _refuse_strangers()


def child_environment() -> dict[str, str]:
    """Variables with which a Python process runs the code that runs here, and none of its current folder."""
    own = [str(FOLDER)] if _checkout_version(FOLDER) else []
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # an empty entry is the current folder
    others = [path for path in given if path and path not in own]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join([*own, *others])}


def describe() -> str:
    """Name, version and folder of the installation that runs, as `--version` and a check print them."""
    if checkout := _checkout_version(FOLDER):
        return f"{DISTRIBUTION} {checkout} in {FOLDER} (a checkout)"
    return f"{DISTRIBUTION} {distribution(DISTRIBUTION).version if _is_installed() else '(not installed)'} in {FOLDER}"


def software() -> str:
    """Versions of what a study's numbers depend on, in a line for its results."""
    import platform
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "flwr"))
    own = distribution(DISTRIBUTION).version if _is_installed() else _checkout_version(FOLDER)
    return f"{DISTRIBUTION} {own}, Python {platform.python_version()}, {packages}, {platform.system()}"


def image() -> str | None:
    """Digest of the container image that runs, as whoever starts it tells it in `BREAST_FEDERATION_IMAGE`.

    Raises:
        UserError: If the variable is not the SHA-256 of an image.
    """
    digest = os.environ.get(IMAGE_VARIABLE, "")
    if not digest:
        return None
    if match := re.fullmatch(r"(?:\S+@)?(?:sha256:)?([0-9a-f]{64})", digest):
        return f"sha256:{match[1]}"
    raise UserError(
        what="the digest of the image is none",
        where=f"the environment variable {IMAGE_VARIABLE}",
        found=digest,
        expected="sha256: and 64 hexadecimal digits",
        fix="take it from `docker image inspect --format '{{.Id}}' IMAGE`, or leave the variable out",
        exit_code=USAGE,
    )


def hardware() -> str:
    """What a study is computed on, in a line for its results: processor and accelerator, no name of a machine."""
    import platform

    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {gpu}"


def _refuse_strangers() -> None:
    for package in PACKAGES:
        folder = _package_folder(package)
        if folder is not None and folder != FOLDER / package:
            raise UserError(
                what="another package has the name of one of ours",
                where=folder,
                expected=str(FOLDER / package),
                fix="take its folder out of PYTHONPATH, or run the command elsewhere",
                exit_code=USAGE,
            )
    if not _checkout_version(FOLDER) and not _is_installed():
        raise UserError(
            what="these packages are not an installation",
            where=FOLDER,
            expected=f"the packages as pip installed them, or a checkout with its pyproject.toml of {DISTRIBUTION}",
            fix="install it: python -m pip install .",
            exit_code=USAGE,
        )


def _package_folder(package: str) -> Path | None:
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or [str(spec.origin)]) if spec else []
    return Path(places[0]).resolve() if places else None


def _is_installed() -> bool:
    try:
        return Path(str(distribution(DISTRIBUTION).locate_file("."))).resolve() == FOLDER
    except PackageNotFoundError:
        return False


def _checkout_version(folder: Path) -> str:
    """The version that a checkout's pyproject.toml names; empty if the folder is none of ours."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"]) if project["name"] == DISTRIBUTION else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
