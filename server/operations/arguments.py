"""Verbs and flags of `python -m server`, with what `--help` says of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from server.operations.help_texts import DESCRIPTION, EXAMPLES, EXIT_CODES
from shared_models.command_line import CommandLine
from shared_models.study_file import add_fold_options, separate_assignments

AddVerb = Callable[[str, str], CommandLine]
FORMATS = ("safetensors", "monai-bundle", "onnx", "torch-export")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What the words of a command line ask for; ends the program where they are wrong."""
    return _parser().parse_args(separate_assignments(words))


def _parser() -> CommandLine:
    parser = _describe(CommandLine, "", DESCRIPTION)
    parser.add_version()
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, text: str) -> CommandLine:
        verb = _describe(verbs.add_parser, name, text)
        verb.add_argument(
            "--directory", type=Path, default=Path("center"), metavar="FOLDER", help="the center's folder [center]"
        )
        return verb

    _add_center(add)
    _add_registration(add)
    _add_run(add("run", "Start a study."))
    _add_validate(add("validate", "Score a finished study's network at hospitals that were not in the study."))
    _add_compare(add("compare", "Compare two finished studies' networks on the same test patients of each hospital."))
    _add_networks(add)
    _add_progress(add)
    _add_results(add)
    return parser


def _add_center(add: AddVerb) -> None:
    init = add("init", "Make a center's folder: authority, certificate, secret, proxy, start script, systemd units.")
    init.add_argument(
        "--address", default="", metavar="HOST[:PORT]", help="how hospitals reach this machine [port 443]"
    )
    init.add_argument("--port", type=_port, default=8000, help="the SuperLink's, on loopback [8000]")
    init.add_argument("--proxy-port", type=_port, help="what the proxy listens on [the address's port]")
    init.add_argument("--renew", action="store_true", help="sign a new server certificate with the authority there")
    start = add("start", "Run the center in the foreground, and keep it running.")
    choice = start.add_mutually_exclusive_group()
    choice.add_argument(
        "--only", choices=("superlink", "superexec", "auto-resume", "proxy"), help="run as this one process"
    )
    choice.add_argument("--no-proxy", dest="with_proxy", action="store_false", help="start no TLS proxy: you run one")
    start.add_log_format("the studies' study.log")


def _add_registration(add: AddVerb) -> None:
    register = add("register", "Register a hospital's public key.")
    register.add_argument("name", help="the site's name, as in its YAML")
    register.add_argument("key_file", type=Path, metavar="KEY.pub", help="its PUBLIC key, in OpenSSH's format")
    register.add_argument("--replace", action="store_true", help="instead of the key under this name, which is revoked")
    add("unregister", "Revoke a hospital's key.").add_argument("name", help="the site's name")


def _add_run(run: CommandLine) -> None:
    run.add_argument("study", type=Path, nargs="?", metavar="STUDY.toml", help="its settings")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help="a setting, or several; wins over the file",
    )
    run.add_argument(
        "--write", type=Path, metavar="FILE", help="write all settings for the hospitals, and start nothing"
    )
    add_fold_options(run)
    run.add_argument(
        "--canary", action="store_true", help="train one round at all named sites or none, and store only verdicts"
    )
    run.add_argument("--follow", action="store_true", help="show the log until the run ends; 7 if it failed")


def _add_validate(validate: CommandLine) -> None:
    validate.add_argument("study", metavar="STUDY", help="its name")
    validate.add_argument("--sites", default="", metavar="NAME,NAME", help="the hospitals to ask")
    validate.add_argument("--file", type=Path, nargs="+", default=[], metavar="JSON", help="files sent by hand, to add")
    validate.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="which of the study's weights [best]"
    )
    validate.add_argument("--write", type=Path, metavar="FILE", help="write what hospitals approve, and ask none")
    validate.add_argument("--follow", action="store_true", help="show the log until the run ends; 7 if it failed")


def _add_compare(compare: CommandLine) -> None:
    compare.add_argument("study", metavar="STUDY", help="its name; the results are added to its own")
    compare.add_argument("other", metavar="OTHER", help="name of the study whose network is compared with it")
    compare.add_argument("--sites", default="", metavar="NAME,NAME", help="hospitals to ask [those of both studies]")
    compare.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="which of both studies' weights [best]"
    )
    compare.add_argument("--write", type=Path, metavar="FILE", help="write what hospitals approve, and ask none")
    compare.add_argument("--follow", action="store_true", help="show the log until the run ends; 7 if it failed")


def _add_networks(add: AddVerb) -> None:
    export = add("export", "Write a finished study's network for other programs.")
    export.add_argument("study", metavar="STUDY", help="its name")
    export.add_argument("--format", choices=FORMATS, required=True, dest="how", help="of the file")
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    export.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="which of the study's weights [best]"
    )
    withdraw = add("withdraw", "Mark a finished study from which a hospital withdraws, and list what holds its part.")
    withdraw.add_argument("study", metavar="STUDY", help="its name")
    withdraw.add_argument("--site", required=True, metavar="NAME", help="the hospital")
    withdraw.add_argument("--write", type=Path, metavar="FILE", help="also write the settings of a study without it")


def _add_progress(add: AddVerb) -> None:
    status = add("status", "Show sites, runs and the study's progress.")
    status.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for scripts")
    status.add_argument(
        "--prometheus", type=_prometheus_file, metavar="FILE.prom", help="also write it for Prometheus [not written]"
    )
    watch = add("watch", "Show a study live until it ends.")
    watch.add_argument("study", nargs="?", default="", metavar="STUDY", help="its name [the one written last]")
    watch.add_argument(
        "--notify",
        default="",
        metavar="COMMAND",
        help="run it, with JSON on stdin, when a person is needed or it ended",
    )
    audit = add("audit", "Verify and show what was sent and received in a study, or registered and started.")
    audit.add_argument("study", nargs="?", default="", metavar="STUDY", help="its name [the center's own log]")


def _add_results(add: AddVerb) -> None:
    results = add("results", "Show a study's results, one line a site.")
    results.add_argument("study", nargs="?", default="", metavar="STUDY", help="its name [the one written last]")
    results.add_argument("--json", action="store_true", dest="as_json", help="print the file itself")
    report = add("report", "Write a study's report again: one HTML file, and its figures for a paper.")
    report.add_argument("study", nargs="?", default="", metavar="STUDY", help="its name [the one written last]")
    report.add_argument("--answers", type=Path, metavar="TOML", help="a file whose [report] table replaces the study's")
    report.add_argument("--compare", default="", metavar="OTHER", help="a page of this study beside another one")
    report.add_argument("--file", type=Path, metavar="JSON", help="a hospital's validation instead of a study")
    report.add_argument("--checkpoint", type=Path, metavar="FILE", help="with --file: the network that it is of")
    report.add_argument("--open", action="store_true", dest="opens", help="show it in a browser")


def _describe(make: Callable[..., Any], name: str, text: str) -> CommandLine:
    words = {"description": text, "epilog": f"{EXAMPLES[name]}\n\n{EXIT_CODES}"}
    words |= {"help": text} if name else {"prog": "python -m server"}
    first = [name] if name else []
    parser: CommandLine = make(*first, **words)
    return parser


def _prometheus_file(text: str) -> Path:
    if not text.endswith(".prom"):
        msg = f"expected a name that ends in .prom: the textfile collector reads no other (found {text!r})"
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        msg = f"expected a port from 1 to 65535 (found {text!r})"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
