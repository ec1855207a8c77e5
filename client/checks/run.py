"""Checks before a site joins: its YAML, credentials, connection, records and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import ExitCode, SiteError
from shared_models.settings import SettingsError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from client.checks.readiness import Readiness
    from client.config.site import Center, SiteConfig
    from shared_models.study_settings import StudySettings
    from shared_models.task import Task

FOLDER = Path("site_configs")


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What.
        text: What was found, or the error's message.
        warning: What will need attention soon.
        exit_code: OK, or what the program ends with.
    """

    name: str
    text: str
    warning: str = ""
    exit_code: ExitCode = ExitCode.OK


def find_site(name: str) -> Path:
    """The YAML of a site: `name` is a path, or stands for `site_configs/NAME.yaml` in the current folder.

    Raises:
        SiteError: If there is none.
    """
    path = Path(name).expanduser()
    named = path.suffix not in (".yaml", ".yml") and path.name == name
    path = FOLDER / f"{name}.yaml" if named else path
    if path.is_file():
        return path
    known = [file.stem for file in sorted(FOLDER.glob("*.yaml"))]
    start = f"write it: python -m client init FOLDER --site {name}; or run this in the folder that holds {FOLDER}/"
    near = f"; {nearest(name, known)}" if named and known else ""
    raise SiteError(
        what=f"there is no site {name!r}" if named else "this is no site's YAML",
        where=str(path),
        found="a folder" if path.is_dir() else f"no such file{near}",
        fix=start,
        exit_code=ExitCode.SITE_CONFIG,
    )


def load_study(path: Path) -> tuple[StudySettings, Task]:
    """The study to check the site against, from the center's TOML file.

    Raises:
        SiteError: If it cannot be read or is not valid.
    """
    from shared_models.study_file import UNUSABLE, read_study
    from shared_models.task import load_task

    try:
        config = read_study(path)
        return config, load_task(config)
    except SettingsError as error:
        raise SiteError(
            UNUSABLE,
            where=path,
            found=error.found or error.what,
            expected=error.expected,
            fix="ask the center for the file again",
            exit_code=ExitCode.STUDY,
        ) from None


def check_center(center: Center | None, required: bool) -> Iterator[Check]:
    """Certificate, key and server, each whether or not the one before passed.

    Args:
        center: The site's `center` section.
        required: Whether the site means to join now.
    """
    if center is None:
        text = "no `center` section: enough for a simulation; add one to join (see site_configs/example.yaml)"
        yield Check("center", text, exit_code=ExitCode.SITE_CONFIG if required else ExitCode.OK)
        return
    certificate = _attempt("CA certificate", lambda: _certificate(center))
    yield certificate
    yield _attempt("private key", lambda: _key(center))
    if certificate.exit_code:
        text = f"{center.address} not tried: its certificate could not be verified"
        yield Check("server", text, exit_code=ExitCode.CREDENTIALS)
    else:
        yield _attempt("server", lambda: _server(center))


def _attempt(name: str, check: Callable[[], tuple[str, str]]) -> Check:
    try:
        return Check(name, *check())
    except SiteError as error:
        return Check(name, str(error), exit_code=error.exit_code)


def _certificate(center: Center) -> tuple[str, str]:
    from client.connection.credentials import check_certificate

    certificate = check_certificate(center.ca_certificate)
    return f"{certificate.name}, valid until {certificate.expires:%Y-%m-%d}", certificate.warning


def _key(center: Center) -> tuple[str, str]:
    from client.connection.credentials import check_key

    key = check_key(center.private_key)
    return f"read this to the center when you send {key.public_file.name}:\n{key.fingerprint}", key.warning


def _server(center: Center) -> tuple[str, str]:
    from client.connection import clock
    from client.connection.reachability import check_server

    reached = check_server(center.address, center.ca_certificate)
    wrong = clock.says_otherwise(reached.ahead_s)
    if clock.is_refused(reached.ahead_s):
        raise SiteError(
            what=f"{wrong}: the center would refuse this site, as if its key were not registered",
            where=center.address,
            expected=f"a clock at most {clock.MAX_AHEAD_S:g} s ahead and {clock.MAX_BEHIND_S:g} s behind",
            fix=clock.SET,
            exit_code=ExitCode.SERVER_UNREACHABLE,
        )
    return f"{center.address}: {reached.protection}", f"{wrong}; {clock.SET}" if wrong else ""


def check_privacy(site: SiteConfig, study: tuple[StudySettings, Task] | None) -> Iterator[Check]:
    """The records of what was spent and sent, and whether the site's own policy allows the study."""
    yield _attempt("records", lambda: _records(site))
    yield _attempt("approvals", lambda: _approvals(site))
    if site.policy.partners:
        yield _attempt("partners", lambda: _partners(site))
    if study is not None:
        yield _attempt("policy", lambda: _policy(site, *study))


def _partners(site: SiteConfig) -> tuple[str, str]:
    from client.governance.partners import partner_key

    for path in site.policy.partners.values():
        partner_key(path)
    return f"in secure aggregation with {', '.join(site.policy.partners)}, and no other site", ""


def _records(site: SiteConfig) -> tuple[str, str]:
    from client.governance.audit import audit_of
    from client.governance.budget import budgets_of
    from client.governance.chained_log import read
    from client.governance.ledger import charges
    from client.governance.policy_checks import ledger_of

    written, sent = charges(ledger_of(site)), len(read(audit_of(site)))
    for path in budgets_of(site):
        read(path)
    epsilon = written[-1]["epsilon"] if written else 0.0
    return f"epsilon {epsilon:.2f} of {site.policy.epsilon_ceiling:g} spent; {sent} lines of what left, unbroken", ""


def _approvals(site: SiteConfig) -> tuple[str, str]:
    from client.governance.approval import COMMAND, approvals, needs_approval

    if not needs_approval(site):
        return "none needed: " + ("the policy waives them" if site.center else "no center reaches this site"), ""
    approved = approvals(site)
    names = f": {', '.join(approved)}" if approved else ""
    summary = f"{len(approved)} stud{'y' if len(approved) == 1 else 'ies'} approved{names}"
    return summary, "" if approved else f"every study is refused until: {COMMAND.format(site=site.site)}"


def _policy(site: SiteConfig, config: StudySettings, task: Task) -> tuple[str, str]:
    from client.governance.policy_checks import check_policy

    check_policy(site, config, task)
    noise = "without noise" if config.privacy == "none" else "with noise for each patient"
    return f"allows {config.study}: {task.name}, {config.rounds} rounds, {noise}", ""


def check_data(
    site: SiteConfig, study: tuple[StudySettings, Task] | None, console: Console, page: bool
) -> Iterator[Check]:
    """Reads the site's tables and images, prints what a study would find in them, and writes it as a page.

    Args:
        site: The site.
        study: What it is checked for, or None for all that its YAML maps.
        console: Where the counts go.
        page: Whether the page is written.
    """
    from client.checks.counts import readiness
    from client.checks.terminal import print_readiness

    config, task = study or (None, None)
    with console.status("reading the data"):
        result = readiness(site, config, task)
    print_readiness(result, console)
    errors = sum(problem.severity == "error" for problem in result.problems)
    outcome = (
        f"{errors} error{'s' if errors > 1 else ''}, each with what to do above" if errors else str(site.data_root)
    )
    yield Check("data", outcome, exit_code=result.exit_code)
    if page:
        with console.status("writing the report"):
            yield _attempt("report", lambda: _page(result, site, config.study if config else ""))


def _page(result: Readiness, site: SiteConfig, study: str) -> tuple[str, str]:
    from client.checks.page import write_page

    path = write_page(result, site.state_dir, study)
    return f"{path}\nopen it in a browser; it shows images and names patients, so it stays here", ""


def run_checks(
    site: SiteConfig, study: tuple[StudySettings, Task] | None, required: bool, console: Console
) -> ExitCode:
    """Runs every check and prints a tick or a cross for each.

    Returns:
        OK, or the exit code of the first that failed.
    """
    failed: list[Check] = []
    data = check_data(site, study, console, page=not required)
    for check in chain(check_center(site.center, required), check_privacy(site, study), data):
        _print(check, console)
        failed += [check] if check.exit_code else []
    if failed:
        names = ", ".join(check.name for check in failed)
        console.print(f"not passed: {names}; what to do is above, beside each", soft_wrap=True, highlight=False)
    return failed[0].exit_code if failed else ExitCode.OK


def _print(check: Check, console: Console) -> None:
    from rich.markup import escape
    from rich.text import Text

    failed = check.exit_code != ExitCode.OK
    mark = "[red]✗[/]" if failed else "[yellow]![/]" if check.warning else "[green]✓[/]"
    first, *rest = check.text.splitlines()
    console.print(f"{mark} [bold]{escape(check.name)}[/]  {escape(first)}", soft_wrap=True, highlight=False)
    for line in [*rest, *([check.warning] if check.warning else [])]:
        console.print(Text(f"  {line}"), soft_wrap=True)
