"""Guard against code in a study's bundle, before Flower installs it: only settings pass.

Flower puts an installed bundle first on `sys.path`, so that a module in it would run here, on patients, and any file in
it could stand in for a library. A study's bundle needs one `pyproject.toml`, and the code is the site's own.
"""

from __future__ import annotations

import importlib
import io
import logging
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.app import Context, Message

FILES = ["pyproject.toml", ".info/CONTENT"]  # the settings, and Flower's own list of checksums
CLIENT_APP = "client.app:app"
MAX_BYTES = 1_000_000
DISK = "the site cannot write the study's settings to its disk, which may be full; it answers again once there is room"

log = logging.getLogger("client")
Install = Callable[..., Path]
Allow = Callable[[Mapping[str, Any]], None]


class RefusedBundleError(Exception):
    """The center sent more than settings, or others than approved; the text crosses the boundary and names nothing."""


def guard_installation() -> None:
    """From now on, Flower's ClientApp process in this interpreter installs no bundle that was not judged.

    A refusal goes into the site's audit log; which message it is for is known from what Flower pulled before.
    """
    flower: Any = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    pull = flower.pull_task_input
    install = guarded(flower.install_from_fab, lambda settings: _check_approval(settings, asked[-1][1]))
    asked: list[tuple[Message, Context]] = []

    def pull_and_remember(*arguments: object) -> tuple[Any, ...]:
        task: tuple[Any, ...] = pull(*arguments)
        asked.append((task[0], task[1]))
        return task

    def install_or_note(*arguments: Any, **options: Any) -> Path:
        try:
            return install(*arguments, **options)
        except (RefusedBundleError, OSError) as error:  # of Flower's own text only ours leaves: an error names folders
            why = DISK if isinstance(error, OSError) else str(error)
            log.error("%s", error)
            for message, context in asked:
                _note(message, context, why)
            raise RefusedBundleError(why) from None

    flower.pull_task_input, flower.install_from_fab = pull_and_remember, install_or_note


def guarded(install: Install, allow: Allow) -> Install:
    """Flower's `install_from_fab` behind `judge` and `allow`; the folder is checked afterwards, too."""

    def judge_and_install(bundle: bytes, *arguments: object, **options: object) -> Path:
        allow(judge(bundle))
        folder = install(bundle, *arguments, **options)
        # Flower keeps a folder that is there already, and names it after 8 digits of a checksum only.
        if [file.name for file in folder.iterdir()] != ["pyproject.toml"]:
            raise _refused(why="its folder holds other files than its settings", details=str(folder))
        return folder

    return judge_and_install


def judge(bundle: bytes) -> Mapping[str, Any]:
    """Lets a bundle pass that holds a study's settings and nothing else.

    Args:
        bundle: A Flower App Bundle: a zip archive.

    Returns:
        The settings, as the center wrote them.

    Raises:
        RefusedBundleError: If it holds anything else, or names another ClientApp than the one installed here.
    """
    named, settings = "", {}
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            sizes = [(entry.filename, entry.file_size) for entry in archive.infolist()]
            expected = sorted(name for name, _ in sizes) == sorted(FILES)
            if expected and all(size <= MAX_BYTES for _, size in sizes):
                app = tomllib.loads(archive.read("pyproject.toml").decode("utf-8"))["tool"]["flwr"]["app"]
                named, settings = app["components"]["clientapp"], app.get("config", {})
    except Exception as error:  # a broken archive can raise anything
        raise _refused(why="its settings cannot be read", details=repr(error)) from None
    if not expected:
        raise _refused(why="it holds other files than its settings", details=repr(sizes[:20]))
    if named != CLIENT_APP:
        raise _refused(why=f"it is too large or does not name {CLIENT_APP}", details=repr((sizes, named)))
    return settings


def _check_approval(settings: Mapping[str, Any], context: Context) -> None:
    """Refuses a bundle whose settings the site has not approved; those that a run changes are checked later."""
    from client.admission import open_site
    from client.governance.approval import check_approval
    from shared_models.errors import UserError
    from shared_models.study_settings import parse_study_settings

    try:
        check_approval(open_site(context), parse_study_settings(settings))
    except UserError as error:
        log.error("%s", error)
        raise RefusedBundleError(error.public) from None


def _refused(*, why: str, details: str) -> RefusedBundleError:
    log.error("refused the study's bundle: %s: %s", why, details)
    return RefusedBundleError(f"the site refused the study: {why}; sites run the code that they installed themselves")


def _note(message: Message, context: Context, why: str) -> None:
    from flwr.app import RecordDict

    from client.admission import open_site
    from client.errors import SiteError
    from client.governance.audit import record_refused
    from shared_models.messages import claimed_round

    try:
        content = message.content if message.has_content() else RecordDict()
        study, kind = str(context.run_config.get("study", "")), message.metadata.message_type
        record_refused(open_site(context), study, kind, claimed_round(content), why)
    except SiteError as error:  # refused all the same
        log.error("%s", error)
