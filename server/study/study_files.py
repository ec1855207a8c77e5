"""Files of a study's folder at the center: what goes wrong with the disk is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.errors import ExitCode
from server.study.exchange import StudyError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around the writing of a file.

    Raises:
        StudyError: In place of an `OSError`, as of a full disk. What was written atomically is as it was before.
    """
    try:
        yield
    except OSError as error:
        raise StudyError(
            what="the center cannot write a file of the study",
            where=path,
            found=str(error.strerror),
            fix="free some room on the disk, or correct the rights of the folder; then continue from the last round "
            "that was written: --set resume=true",
            exit_code=ExitCode.FILE,
        ) from None
