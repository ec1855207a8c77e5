"""Log of a study: `study.log` in its folder of results, and what a person sees of it where the study runs."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_models.log_files import FORMAT_VARIABLE, log_file

LOG = "study.log"
FORM = "%(asctime)s %(levelname)-7s %(message)s"


@contextmanager
def study_log(folder: Path, aloud: bool) -> Iterator[None]:
    """Writes what the study says, each round with it, to its log, whose oldest part goes beyond some 30 MB.

    Args:
        folder: Of the study's results.
        aloud: Whether all of it is also said to whoever follows the run; else only what a person should know of.
    """
    log, root = logging.getLogger("server"), logging.getLogger()
    path, level = folder / LOG, log.level
    text = logging.Formatter(FORM, datefmt="%Y-%m-%dT%H:%M:%SZ")
    text.converter = time.gmtime
    handlers = [log_file(path, text, as_json=os.environ.get(FORMAT_VARIABLE) == "json")]
    if aloud or not root.handlers:  # as Python itself says a warning that no handler takes
        handlers.append(loud := logging.StreamHandler(sys.stderr))
        loud.setLevel(logging.INFO if aloud else logging.WARNING)
        loud.setFormatter(logging.Formatter("%(asctime)s %(message)s" if aloud else "%(message)s", datefmt="%H:%M:%S"))
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
