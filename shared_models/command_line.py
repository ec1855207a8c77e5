"""Argument parser of the three programs: verbs, `--version`, and the nearest name for a misspelt verb or flag."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Collection, Sequence
from typing import Any

from shared_models.installation import describe
from shared_models.log_files import FORMATS
from shared_models.settings import nearest


class CommandLine(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that takes no abbreviations and names the nearest verb, flag or choice.

    argparse reports a missing argument before an unknown flag, which is often the missing argument misspelt, and lists
    no flags. Here unknown flags come first. Parsers of verbs (`add_subparsers`) are of this class, too.

    >>> parser = CommandLine(prog="demo", exit_on_error=False)
    >>> _ = parser.add_argument("--rounds", type=int)
    >>> parser.parse_args(["--rounds", "3"]).rounds
    3
    >>> parser.unknown_flags(["--round", "3"])
    ["unknown flag --round: did you mean '--rounds'?"]
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def add_version(self) -> None:
        """Adds `--version`, which prints the version and the folder of the installation that runs."""
        self.add_argument("--version", action="version", version=describe(), help="print version and folder, and stop")

    def add_log_format(self, which: str) -> None:
        """Adds `--log-format`, for the log that `which` names."""
        self.add_argument(
            "--log-format",
            choices=FORMATS,
            default=FORMATS[0],
            help=f"of {which}; json: an object a line [text]",
        )

    def unknown_flags(self, words: Sequence[str]) -> list[str]:
        """A sentence for each of `words` that is a flag neither of this parser nor of one of its verbs."""
        before_dashes = words[: words.index("--")] if "--" in words else words
        flags = {flag for parser in (self, *self._verbs().values()) for flag in parser._option_string_actions}
        named = [word.partition("=")[0] for word in before_dashes if word.startswith("--")]
        return [f"unknown flag {flag}: {self._instead(flag, flags)}" for flag in named if flag not in flags]

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Parses the command line; exits with 2 and one sentence if it cannot be used."""
        options, extra = self.parse_known_args(args, namespace)
        for word in extra[:1]:
            if word in self._verbs():
                self.error(f"two verbs, {options.verb} and {word}: give one at a time")
            owners = [name for name, parser in self._verbs().items() if word in parser._option_string_actions]
            belongs = f" ({word} goes after {' or '.join(owners)})" if owners else ""
            self.error(f"unexpected argument {word!r}{belongs}")
        return options

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses what it knows, once no flag is unknown or before the verb that it belongs to."""
        words = sys.argv[1:] if args is None else list(args)
        for sentence in self.unknown_flags(words)[:1]:
            self.error(sentence)
        flag = words[0].partition("=")[0] if words and words[0].startswith("--") else ""
        if flag not in ("", "--", *self._option_string_actions):
            self.error(f"{flag} goes after the verb: {self.prog} VERB {flag}")
        return super().parse_known_args(words, namespace)

    def _instead(self, flag: str, flags: Collection[str]) -> str:
        """What was probably meant by an unknown flag: a flag, a verb, or a setting of the study."""
        names = {*flags, *self._verbs()}
        if "--set" in flags:
            from shared_models.study_settings import StudySettings

            settings = {f"--{name.replace('_', '-')}" for name in StudySettings.model_fields}
            close = difflib.get_close_matches(flag, sorted(names | settings), n=1, cutoff=0.6)
            if close and close[0] not in names:
                return f"settings of a study follow --set; did you mean '--set {close[0][2:]}=VALUE'?"
        return nearest(flag, names)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            kind = "verb" if action.dest == "verb" else f"value of {argparse._get_action_name(action)}"
            self.error(f"unknown {kind} {value!r}: {nearest(str(value), map(str, action.choices))}")

    def _verbs(self) -> dict[str, CommandLine]:
        choices = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return dict(choices[0]) if choices else {}
