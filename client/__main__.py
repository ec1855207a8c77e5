"""`python -m client --site NAME`: describes a hospital's site, checks it, then takes part for as long as it runs."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from shared_models.errors import UserError

if TYPE_CHECKING:
    from client.config.site import SiteConfig

UNEXPECTED, CTRL_C = 1, 130
EPILOG = """\
what it reads   site_configs/NAME.yaml; the tables and images that it names, under data_root; ca.crt; the private key
what leaves     weights of the network, sums and counts over patients; never a row, an image, a name or an identifier
what it writes  under state_dir, in ledger/ and a folder of the site's own: splits, cached tensors, logs, audit.jsonl
                (what left), approvals.jsonl and approvals/ (which studies may run, and what they were said to do),
                excluded.csv (who has files that cannot be used, and why), readiness.html (--check: counts, problems,
                pictures; stays here); --init: site_configs/NAME.yaml, if there is none

examples
  python -m client --init /data/duke --site duke           write a first site_configs/duke.yaml from what lies there
  python -m client --site duke --check                     look at everything, join nothing
  python -m client --site duke --check --study study.toml  also count what this study would use
  python -m client --site duke --approve study.toml        show what a study reads and sends, ask, and approve it
  python -m client --site duke --approvals                 the approved studies
  python -m client --site duke --revoke recurrence         withdraw an approval, also of a study that runs
  python -m client --site duke                             take part until Ctrl-C or SIGTERM
  python -m client --site duke --ledger                    the privacy spent, and what is left of it
  python -m client --site duke --audit                     what left this hospital, message by message
  python -m client --site /etc/federation/duke.yaml --data-root /data/duke

exit codes
  0  done: --check passed, or stopped by SIGTERM       4  the data need attention
  1  something unexpected; a log file says what        5  CA certificate or private key
  2  the command line, or this site already runs       6  the server cannot be reached or proves nothing
  3  the site's YAML                                   7  the study's settings
  130  stopped by Ctrl-C
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command.

    Returns:
        Its exit code.
    """
    options = _parser().parse_args(arguments)
    site = None
    try:
        if options.init is not None:
            return _init(options.init, options.site)
        from client.checks.run import find_site
        from client.config.site import load_site

        config_file = find_site(options.site)
        site = load_site(config_file, options.data_root)
        if _show_records(options, site):
            return 0
        return _run(options, site, config_file)
    except UserError as error:
        _say_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return CTRL_C
    except Exception:
        _say_error(f"something unexpected happened; the details are in {_keep_traceback(site)}")
        return UNEXPECTED


def _init(folder: Path, name: str) -> int:
    from rich.console import Console

    from client.checks.run import FOLDER
    from client.config.site import load_site
    from client.onboarding.site_yaml import write_first_config

    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    console = Console()
    with console.status("looking at the folder"):
        found = write_first_config(folder, path)
    load_site(path)
    lines = [f"wrote {path}", *(f"  {one}" for one in found), "look at each `# check:` in it, then run"]
    for line in [*lines, f"  python -m client --site {name} --check"]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def _show_records(options: argparse.Namespace, site: SiteConfig) -> bool:
    """Does what was asked about the site's records; False if nothing was."""
    from functools import partial

    from rich.console import Console

    from client.verbs import records as shown

    console = Console()
    answers = (
        (options.accept_clock, shown.accept_clock),
        (options.approve, partial(shown.ask_approval, study=options.approve, ask=not options.yes)),
        (options.revoke, partial(shown.withdraw_approval, study=options.revoke)),
        (options.approvals, shown.print_approvals),
        (options.ledger, shown.print_ledger),
        (options.audit, shown.print_audit),
    )
    asked = [show for option, show in answers if option]
    for show in asked:
        show(site, console=console)
    return bool(asked)


def _run(options: argparse.Namespace, site: SiteConfig, config_file: Path) -> int:
    from rich.console import Console

    from client.checks.run import load_study, run_checks

    console = Console()
    study = load_study(options.study) if options.study else None
    console.print(f"{site.site}  {config_file}", style="bold", soft_wrap=True, highlight=False, markup=False)
    failed = run_checks(site, study, not options.check, console)
    if options.check or failed or site.center is None:
        return failed

    from client.connection.supernode import launch_config
    from client.connection.supervisor import run_forever

    def report(sentence: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')}  {sentence}", soft_wrap=True, highlight=False, markup=False)

    return run_forever(launch_config(site, site.center, config_file, options.data_root), report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m client",
        description="Checks this hospital's site, then takes part in the federation for as long as it runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--site", required=True, metavar="NAME|FILE", help="site_configs/NAME.yaml, or a YAML file")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="take the data from here instead")
    parser.add_argument("--init", type=Path, metavar="FOLDER", help="write the site's first YAML from these data")
    parser.add_argument("--check", action="store_true", help="stop after the checks")
    parser.add_argument("--study", type=Path, metavar="FILE", help="a study's settings (TOML) to check the data for")
    parser.add_argument(
        "--approve", type=Path, metavar="FILE", help="show what a study (TOML) does here, and approve it"
    )
    parser.add_argument("--yes", action="store_true", help="with --approve: ask nothing, for scripts")
    parser.add_argument("--approvals", action="store_true", help="show the approved studies, and stop")
    parser.add_argument("--revoke", metavar="STUDY", help="withdraw the approval of a study, and stop")
    parser.add_argument("--ledger", action="store_true", help="show the privacy that the cohort has spent, and stop")
    parser.add_argument("--audit", action="store_true", help="verify and show what left the site, and stop")
    parser.add_argument(
        "--accept-clock", action="store_true", help="after this computer's clock was wrong: it is right now"
    )
    return parser


def _say_error(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(text), soft_wrap=True)


def _keep_traceback(site: SiteConfig | None) -> Path:
    folder = site.state_dir / "logs" if site else Path(tempfile.mkdtemp(prefix="federation-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}.log"
    path.write_text(traceback.format_exc(), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
