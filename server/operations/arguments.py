"""Verbs and flags of `python -m server`, with what `--help` says of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared_models.command_line import CommandLine
from shared_models.study_file import add_fold_options, separate_assignments

AddVerb = Callable[[str, str], CommandLine]
FORMATS = ("safetensors", "monai-bundle", "onnx", "torch-export")
DESCRIPTION = "Sets up a coordinating center, runs it, registers hospitals, starts studies and shows their results."
EXIT_CODES = """\
exit codes:
  0 ok   2 usage   3 configuration   4 file   5 credentials   6 SuperLink not reachable   7 the run failed
  8 the study is done, without a site that it names   130 stopped by Ctrl-C"""

EXAMPLES = {
    "": """\
the usual order:
  python -m server init --address center.example.org     # once: keys, certificates, proxy, start script
  center/start.sh                                         # or the systemd units in center/systemd
  python -m server register duke duke.key.pub             # each hospital's PUBLIC key
  python -m server run recurrence.toml --follow           # a study
  python -m server watch recurrence                       # how far it is, live
  python -m server results                                # its table, one line a site""",
    "init": """\
  python -m server init --address center.example.org
  python -m server init --address 192.0.2.7:8443 --directory /srv/center
  python -m server init --renew                           # a new server certificate from the same authority

It can be repeated: it writes missing files, and never overwrites a key.""",
    "start": """\
  python -m server start
  python -m server start --no-proxy                       # with a TLS proxy of your own: see docs/deployment.md
  python -m server start --only superlink                 # what the systemd units call
  python -m server start --log-format json                # each study's study.log, for a program that collects logs

A process that ends is restarted. SIGTERM or Ctrl-C stops all of them. No log grows beyond 5 MB and five older ones.""",
    "register": """\
  python -m server register duke duke.key.pub
  python -m server register duke new.key.pub --replace    # the hospital's new key; the old one is revoked at once

The hospital makes the pair: ssh-keygen -t ecdsa -b 384 -N '' -f duke
The name identifies the hospital in every study.""",
    "unregister": """\
  python -m server unregister duke

Effective at once, including in a run. The same key cannot be registered again.""",
    "run": """\
  python -m server run recurrence.toml --follow
  python -m server run --set study=pilot --set task=recurrence_clinical --set rounds=5
  python -m server run recurrence.toml --set resume=true  # continue from the last checkpoint
  python -m server run recurrence.toml --set rounds=30 --write study.toml   # the file that hospitals approve
  python -m server run recurrence.toml --folds 5 --repeats 3 --write study.toml   # cross-validation, approved as one
  python -m server run study.toml --leave-out each        # each site in turn as a new hospital

STUDY.toml holds `key = value` lines; docs/study_settings.md explains the keys. The hospitals
receive these settings and no code.""",
    "validate": """\
  python -m server validate recurrence --sites elm --write elm.toml     # what the hospital approves
  python -m server validate recurrence --sites elm --follow             # then have it score the network
  python -m server validate recurrence --file elm.json                  # or add a file that it sent by hand

A finished network, frozen, at hospitals that were not in its study. No weights leave a hospital: it scores all its
patients with a known outcome and sends what it sends of test patients. A hospital that is not connected makes the file
by itself, with the verb validate of its own program. Both ways give the same numbers, which are added to the results
and the report of the study.""",
    "export": """\
  python -m server export recurrence --format safetensors --out model    # for hospitals: predict, validate
  python -m server export recurrence --format onnx --out onnx            # for other programs
  python -m server export recurrence --format monai-bundle --out bundle

With a model card, the licence, and a description of the inputs. ONNX and torch.export files standardise tables
themselves; what they compute is compared with the network, on every subset of the modalities, before anything is
written.""",
    "withdraw": """\
  python -m server withdraw recurrence --site oak
  python -m server withdraw recurrence --site oak --write without-oak.toml    # and the settings to train without it

What a hospital's patients taught the weights cannot be taken out of them. So weights, results and report are marked,
who uses them is told, and what holds the hospital's part is listed. The settings written are those of the same study
with the other hospitals, under another name: these approve them, and the study runs again.""",
    "status": """\
  python -m server status
  python -m server status --json
  python -m server status --prometheus /var/lib/node_exporter/federation.prom   # each minute, by cron or a timer

The file is for the textfile collector of Prometheus's node exporter: sites connected, the study's state, its round, the
seconds of the last one, epsilon by site. It is replaced as a whole, and says so when the SuperLink does not answer.""",
    "watch": """\
  python -m server watch recurrence                       # live, until the study ends; Ctrl-C ends the watch alone
  python -m server watch                                  # of the study written last; piped, a line a change
  python -m server watch recurrence --notify 'mail -s study lead@center.example.org'

Shows the round, who answered, who is awaited since when, the time that is left, the validation by round, norms, what
was rejected and why, and what each site spent of its privacy. status.html in the study's folder of results shows the
same in a browser. Ends as the study does: 0 done, 7 failed, 8 done without a site that it names.""",
    "audit": """\
  python -m server audit                                  # keys registered and revoked, studies started
  python -m server audit recurrence                       # each message of a study

One line for each message sent and received, each key registered or revoked, each study started; never a value. Exits
4 if a line was changed, removed or moved.""",
    "results": "  python -m server results\n  python -m server results recurrence --json",
    "report": """\
  python -m server report recurrence                      # writes report.html and figures/ into the study's folder
  python -m server report recurrence --answers study.toml --open
  python -m server report recurrence --compare recurrence_private             # both on one page
  python -m server report --file exact.json --checkpoint model.safetensors    # of the validation at one hospital

A study writes its report when it ends, also when it fails. One HTML file, which loads and runs nothing; figures as
SVG, PDF and CSV beside it. All of it is made of results.json. What no data can tell, as the population and the
outcome's definition, is in the [report] table of a study's file: docs/report.md lists its keys.""",
}


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
