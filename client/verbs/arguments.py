"""Verbs and flags of `python -m client`, with what `--help` says of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from client.errors import ExitCode
from shared_models.command_line import CommandLine

AddVerb = Callable[[str, str], CommandLine]
MEANING_AT = 57  # the column at which what an example does begins
FILES = """\
what it reads   site_configs/NAME.yaml; the tables and images that it names, under data_root; ca.crt; the private key
what leaves     weights of the network, sums and counts over patients; never a row, an image, a name or an identifier
what it writes  under state_dir, in ledger/ and a folder of the site's own: splits, cached tensors, logs, audit.jsonl
                (what left), approvals.jsonl and approvals/ (which studies may run, and the page of each), excluded.csv
                (whose files cannot be used, and why), readiness.html (check: counts, problems, pictures; stays here);
                init: site_configs/NAME.yaml, if there is none; predict: the file that --out names and a JSON file
                beside it, which stay here"""
# What follows `python -m client`, and what that does.
EXAMPLES = (
    ("init /data/duke --site duke", "write a first site_configs/duke.yaml from the files there"),
    ("init /data/duke.csv --site duke --study first.toml", "from one table; also the settings of a first simulation"),
    ("check --site duke", "run every check, join nothing"),
    ("check --site duke --study study.toml", "also count what this study would use"),
    ("fetch --site duke", "copy images from the hospital's own DICOMweb server"),
    ("--site duke", "take part until Ctrl-C or SIGTERM"),
    ("--site duke --log-format json", "the same, with logs/supernode.log as JSON lines"),
    ("status --site duke", "connected since, study, what left today, epsilon and disk"),
    ("approve study.toml --site duke", "show what a study reads and sends, ask, and approve it"),
    ("approvals --site duke", "the approved studies"),
    ("revoke recurrence --site duke", "revoke an approval, including for a running study"),
    ("ledger --site duke", "the privacy spent, and what is left of it"),
    ("audit --site duke", "what left this hospital, message by message"),
    ("predict best.safetensors --site duke --out predictions.csv", "predictions of a finished network"),
    (
        "predict best.safetensors --site duke --new-data /data/new --recalibrate --coverage 0.9 --out new.csv",
        "for new patients, recalibrated by those with known outcomes",
    ),
    ("validate best.safetensors --site duke", "its figures here, and a file to send"),
    ("accept-clock --site duke", "once the clock, which was wrong, is right"),
    ("accept-key oak --site duke", "after oak has replaced its key"),
    ("--site /etc/federation/duke.yaml --data-root /data/duke", "take part, with a YAML and data elsewhere"),
)
NOTES = {
    "init": "Asks nothing and overwrites nothing. Review each guess, which is marked `# check:`, and run check.",
    "check": "Prints every problem with what to do about it, and writes readiness.html, which stays at the hospital.\n"
    "Ends with the code of the first check that failed.",
    "fetch": "Needs the section `dicomweb` of the YAML. Can be repeated: only what is missing is copied.",
    "approve": "No study is answered before it is approved here. Compare the SHA-256 with the center's by telephone.\n"
    "A study that asks for more than the policy allows is not approved.",
    "approvals": "Each with its task, its rounds, the hash of its settings, and who approved it when.",
    "revoke": "The study continues without this site from its next message on.",
    "ledger": "Each charge of private training, by study; sites with the same patients share one ledger.",
    "audit": "Every reply and refusal, with size and hash. A line that was changed, removed or moved is an error.",
    "status": "Reads the site's own records; asks the center nothing, and changes nothing.",
    "predict": "Nothing leaves the site. The predictions are for research only.",
    "validate": "The exact figures stay in state_dir; the file holds what a site sends in a study, and no more.",
    "accept-clock": "A record whose last line is in the future stops the site until this is run.",
    "accept-key": "Ask that hospital first whether it has a new key: else somebody else may pose as it.",
}
EXIT_CODES = """\
exit codes
  0  done: check passed, or stopped by SIGTERM         4  the data need attention
  1  something unexpected; a log file says what        5  CA certificate or private key
  2  the command line, or this site already runs       6  the server cannot be reached or proves nothing
  3  the site's YAML                                   7  the study's settings
  130  stopped by Ctrl-C
"""
# The flags of version 0.1 that became verbs, and how each is written now.
OLD_FLAGS = {
    "--init": "init FOLDER",
    "--check": "check",
    "--approve": "approve STUDY.toml",
    "--approvals": "approvals",
    "--revoke": "revoke STUDY",
    "--ledger": "ledger",
    "--audit": "audit",
    "--accept-clock": "accept-clock",
}


def parse(words: list[str]) -> argparse.Namespace:
    """What the words of a command line ask for; ends the program where they are wrong, with what is right."""
    parser = _parser()
    for word in words:
        if (flag := word.partition("=")[0]) in OLD_FLAGS:
            new = f"python -m client {OLD_FLAGS[flag]} --site NAME"
            parser.exit(ExitCode.USAGE, f"error: {flag} is a verb now: {new}\n")
    options = parser.parse_args(words)
    if options.verb and options.log_format != "text":
        parser.error(f"--log-format is for taking part, not for {options.verb}, which writes no log")
    if options.site is None:
        parser.error("which site? add --site NAME")
    if options.verb == "init" and options.data_root is not None:
        parser.error("init takes the data's FOLDER, and no --data-root")
    return options


def _parser() -> CommandLine:
    parser = CommandLine(
        prog="python -m client",
        description="Takes part in the federation for as long as it runs; with a verb, does that one thing and stops.",
        epilog="\n\n".join(
            (FILES, _examples(), "--site and --data-root may come before or after the verb.", EXIT_CODES)
        ),
    )
    parser.add_version()
    _add_site(parser, default=None)
    parser.add_log_format("logs/supernode.log")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    def add(name: str, text: str) -> CommandLine:
        epilog = "\n\n".join((NOTES[name], _examples(name), EXIT_CODES))
        short = text[0].lower() + text[1:].rstrip(".")
        verb: CommandLine = verbs.add_parser(name, help=short, description=text, epilog=epilog)
        _add_site(verb, default=argparse.SUPPRESS)
        return verb

    _add_data(add)
    _add_studies(add)
    _add_records(add)
    return parser


def _add_data(add: AddVerb) -> None:
    init = add("init", "Write a first YAML of the site from the files in a folder.")
    init.add_argument("folder", type=Path, metavar="FOLDER", help="where the site's data are, or one table's file")
    init.add_argument("--study", type=Path, metavar="FILE", help="also write the settings of a first study there")
    check = add("check", "Check the site's YAML, credentials, connection and data, and write a report.")
    check.add_argument("--study", type=Path, metavar="FILE", help="a study's settings (TOML) to check the data for")
    add("fetch", "Copy the patients' images from the hospital's DICOMweb server; what is there is not copied again.")


def _add_studies(add: AddVerb) -> None:
    approve = add("approve", "Show what a study reads and sends here, ask, and approve it.")
    approve.add_argument("study", type=Path, metavar="STUDY.toml", help="the study's settings, from the center")
    approve.add_argument("--yes", action="store_true", help="ask nothing, for scripts")
    validate = add("validate", "Score a finished network at a site that was not in its study; writes a file to send.")
    validate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="its file, from the center")
    validate.add_argument("--out", type=Path, metavar="FILE.json", help="the file to send [SITE.validation.json]")
    validate.add_argument("--overwrite", action="store_true", help="replace that file, if there is one")
    _add_predict(add("predict", "Predict for the site's patients by a finished study's network; nothing leaves."))


def _add_records(add: AddVerb) -> None:
    add("approvals", "Show the approved studies.")
    revoke = add("revoke", "Revoke an approval, including for a running study.")
    revoke.add_argument("study", metavar="STUDY", help="the study's name")
    add("ledger", "Show the privacy that the cohort has spent, and what is left of it.")
    add("audit", "Verify and show what left the site.")
    status = add("status", "Show whether the site is connected, its last request, what left today and what is left.")
    status.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for scripts")
    add("accept-clock", "Record that this computer's clock is right now, after it was wrong.")
    accept = add("accept-key", "Forget an unverified key of another hospital, so that its new one is accepted.")
    accept.add_argument("hospital", metavar="HOSPITAL", help="its name at the center")


def _examples(verb: str = "") -> str:
    """The examples of a verb, or all: a command in each line, and behind it what it does, or below where it is long."""
    lines = ["examples"]
    for words, meaning in EXAMPLES:
        if not verb or words.split()[0] == verb:
            command = f"  python -m client {words}"
            beside = len(command) < MEANING_AT - 1
            lines += [f"{command:<{MEANING_AT}}{meaning}"] if beside else [command, " " * MEANING_AT + meaning]
    return "\n".join(lines)


def _add_predict(predict: CommandLine) -> None:
    predict.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="its file, from the center")
    predict.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="where the predictions go")
    predict.add_argument(
        "--new-data", type=Path, metavar="DIR", help="predict for the patients there, laid out as data_root is"
    )
    predict.add_argument(
        "--recalibrate",
        action="store_true",
        help="correct intercept and slope by the site's own patients with known outcomes; reports before and after",
    )
    predict.add_argument(
        "--coverage",
        type=_share,
        metavar="SHARE",
        help="also a conformal set or interval that holds the right outcome of this share of patients, as 0.9",
    )
    predict.add_argument(
        "--maps",
        action="store_true",
        help="also a page of 20 patients' images, with what moves the output most, where an attention looks, and the "
        "tumour's outline: FILE.maps.html",
    )
    predict.add_argument(
        "--dicom-sr",
        type=Path,
        metavar="DIR",
        help="also a DICOM structured report of each patient whose exam is DICOM, in the exam's own study",
    )
    predict.add_argument("--overwrite", action="store_true", help="replace the files, if there are any")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.5 <= share < 1:
        msg = f"expected a share from 0.5 up to 1, as 0.9 (found {text!r})"
        raise argparse.ArgumentTypeError(msg)
    return share


def _add_site(parser: CommandLine, default: str | None) -> None:
    parser.add_argument(
        "--site", default=default, metavar="NAME|FILE", help="site_configs/NAME.yaml, or a YAML file (required)"
    )
    parser.add_argument("--data-root", type=Path, default=default, metavar="DIR", help="replaces data_root of the YAML")
