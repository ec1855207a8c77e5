"""The parser of the three programs, on a small one with two verbs."""

from __future__ import annotations

import pytest

from shared_models.command_line import CommandLine


@pytest.fixture
def parser() -> CommandLine:
    parser = CommandLine(prog="demo")
    parser.add_version()
    parser.add_argument("--rounds", type=int)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.add_parser("train").add_argument("--engine", choices=("ray", "in-process"))
    verbs.add_parser("status").add_argument("study", nargs="?")
    return parser


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["tarin"], "unknown verb 'tarin': did you mean 'train'?"),
        (["xyz"], "unknown verb 'xyz': choose from: status, train"),
        (["--round", "3"], "unknown flag --round: did you mean '--rounds'?"),
        (["--rounds=3", "train", "--engin=ray"], "unknown flag --engin: did you mean '--engine'?"),
        (["train", "--rounds", "3"], "unknown flag --rounds: choose from: --engine, --help, -h"),
        (["--engine", "ray"], "--engine goes after the verb: demo VERB --engine"),
        (["train", "--engine", "rya"], "unknown value of --engine 'rya': did you mean 'ray'?"),
        (["train", "status"], "two verbs, train and status: give one at a time"),
        (["status", "a", "b"], "unexpected argument 'b'"),
        (["--train"], "unknown flag --train: did you mean 'train'?"),
    ],
)
def test_what_is_wrong_is_told_with_the_nearest(
    parser: CommandLine, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(f"error: {complaint}")


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("--roudns", "settings of a study follow --set; did you mean '--set rounds=VALUE'?"),
        ("--stdy", "did you mean '--study'?"),
    ],
)
def test_a_flag_that_is_a_setting_is_told_where_it_goes(flag: str, instead: str) -> None:
    parser = CommandLine(prog="demo")
    parser.add_argument("--set")
    parser.add_argument("--study")
    assert parser.unknown_flags([flag, "3"]) == [f"unknown flag {flag}: {instead}"]


def test_a_value_after_two_dashes_is_no_flag(parser: CommandLine) -> None:
    assert parser.parse_args(["status", "--", "--study"]).study == "--study"


def test_flags_are_not_abbreviated_and_verbs_are_optional(parser: CommandLine) -> None:
    options = parser.parse_args(["--rounds", "3"])
    assert (options.rounds, options.verb) == (3, None)


@pytest.mark.parametrize("program", ["client", "server", "simulation"])
def test_every_program_has_a_version(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"{program}.__main__").main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("breast-federation ")
