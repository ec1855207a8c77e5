"""Command line of a hospital's site: `python -m client`, its verbs, and their exit codes."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from client.verbs.arguments import parse
from shared_models.errors import UserError
from shared_models.installation import begin, describe

if TYPE_CHECKING:
    from client.config.site import SiteConfig

UNEXPECTED, CTRL_C = 1, 130
MAX_ERRORS = 20  # files of unexpected errors


def main(arguments: list[str] | None = None) -> int:
    """Runs the command.

    Returns:
        Its exit code.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    site = None
    try:
        begin()
        if options.verb == "init":
            return _init(options.folder, options.site, options.study)
        from client.checks.run import find_site
        from client.config.site import load_site

        config_file = find_site(options.site)
        site = load_site(config_file, options.data_root)
        if options.verb == "fetch":
            return _fetch(site)
        if options.verb in (None, "check"):
            return _run(options, site, config_file)
        if options.verb == "validate":
            _validate(options, site, config_file)
            return 0
        if options.verb == "predict":
            _predict(options, site)
            return 0
        _show_records(options, site)
        return 0
    except UserError as error:
        _say_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return CTRL_C
    except Exception:
        _say_error(f"something unexpected happened; the details are in {_write_traceback(site)}")
        return UNEXPECTED


def _init(folder: Path, name: str, study: Path | None) -> int:
    from rich.console import Console

    from client.checks.run import FOLDER
    from client.config.site import load_site
    from client.onboarding.site_yaml import write_first_config

    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    console = Console()
    with console.status("reading the folder"):
        findings = write_first_config(folder, path, study)
    load_site(path)
    lines = [f"wrote {path}", *(f"  {one}" for one in findings), "review each `# check:` in it, then run"]
    written = study is not None and study.exists()  # none is where no task learns what the site has
    lines += [f"  python -m client check --site {name}{f' --study {study}' if written else ''}"]
    if written:
        lines += ["and for a first simulation", f"  python -m simulation --study {study} --split {path} --into 3"]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def _fetch(site: SiteConfig) -> int:
    from rich.console import Console

    from client.verbs.fetch import fetch

    fetch(site, Console())
    return 0


def _validate(options: argparse.Namespace, site: SiteConfig, config_file: Path) -> None:
    from rich.console import Console

    from client.verbs.validate import validate

    paths = {"config_file": config_file, "data_root": options.data_root}
    out = options.out or Path(f"{site.site}.validation.json")
    validate(site, options.checkpoint, out, Console(), overwrite=options.overwrite, **paths)


def _predict(options: argparse.Namespace, site: SiteConfig) -> None:
    from rich.console import Console

    from client.inference.predictions import Wanted
    from client.verbs.predict import predict

    wanted = Wanted(
        options.out,
        options.new_data,
        options.recalibrate,
        options.coverage,
        options.overwrite,
        options.maps,
        options.dicom_sr,
    )
    predict(site, options.checkpoint, wanted, Console())


def _show_records(options: argparse.Namespace, site: SiteConfig) -> None:
    """Prints or changes the site's approvals, ledger and audit log."""
    from rich.console import Console

    from client.verbs import records

    console = Console()
    match options.verb:
        case "approve":
            records.ask_approval(site, options.study, console, ask=not options.yes)
        case "approvals":
            records.print_approvals(site, console)
        case "revoke":
            records.revoke_approval(site, options.study, console)
        case "ledger":
            records.print_ledger(site, console)
        case "audit":
            records.print_audit(site, console)
        case "status":
            from client.verbs.status import print_status

            print_status(site, console, options.as_json)
        case "accept-clock":
            records.accept_clock(site, console)
        case "accept-key":
            records.accept_key(site, options.hospital, console)


def _run(options: argparse.Namespace, site: SiteConfig, config_file: Path) -> int:
    from rich.console import Console

    from client.checks.run import load_study, run_checks

    console = Console()
    check = options.verb == "check"
    study = load_study(options.study) if check and options.study else None
    console.print(describe(), soft_wrap=True, highlight=False, markup=False)
    console.print(f"{site.site}  {config_file}", style="bold", soft_wrap=True, highlight=False, markup=False)
    failed = run_checks(site, study, not check, console)
    if check or failed or site.center is None:
        return failed

    from client.connection.supernode import launch_config
    from client.connection.supervisor import run_forever

    def report(sentence: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')}  {sentence}", soft_wrap=True, highlight=False, markup=False)

    launch = launch_config(site, site.center, config_file, options.data_root)
    return run_forever(launch, report, json_log=options.log_format == "json")


def _say_error(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(text), soft_wrap=True)


def _write_traceback(site: SiteConfig | None) -> Path:
    folder = site.state_dir / "logs" if site else Path(tempfile.mkdtemp(prefix="federation-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}.log"
    path.write_text(traceback.format_exc(), encoding="utf-8")
    for older in sorted(folder.glob("error-*.log"))[:-MAX_ERRORS]:
        older.unlink(missing_ok=True)  # a service that is started again each minute would write one a minute
    return path


if __name__ == "__main__":
    sys.exit(main())
