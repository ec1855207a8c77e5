"""Command line of the coordinating center: `python -m server`, its verbs, and their exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from server.errors import ExitCode
from server.operations.arguments import parse
from shared_models.errors import UserError
from shared_models.installation import begin
from shared_models.study_file import UnreadableStudyError, take_fold_options


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = parse(sys.argv[1:] if words is None else words)
    try:
        begin()
        from server.operations import verbs  # the libraries behind the commands take a second; --help should not

        _call(verbs, arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.FILE if isinstance(error, UnreadableStudyError) else error.exit_code
    except OSError as error:
        print(f"error: {error.strerror}\n  where:    {error.filename}", file=sys.stderr)
        return ExitCode.FILE
    except KeyboardInterrupt:
        return 130
    return ExitCode.OK


def _call(verbs: object, arguments: argparse.Namespace) -> None:
    values = vars(arguments)
    if "folds" in values:
        values["assignments"] += take_fold_options(values)
    getattr(verbs, values.pop("verb"))(**values)


if __name__ == "__main__":
    sys.exit(main())
