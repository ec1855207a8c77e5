"""The verb `python -m simulation sweep`: its arguments, its progress, its table."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import ExitCode
from server.study.exchange import StudyError
from server.study.results.results_file import RESULTS
from server.study.weights.checkpoint import BEST, LAST
from shared_models.command_line import CommandLine
from shared_models.settings import SettingsError
from shared_models.study_file import separate_assignments
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import study_cohorts
from simulation.cohort_options import add_cohort_options, require_cohort_options, sites_of
from simulation.splits import Sites, fitted_to
from simulation.sweeps.figures import write_figures
from simulation.sweeps.plan import Sweep, read_sweep
from simulation.sweeps.run import require_search, run_sweep
from simulation.sweeps.table import print_rows, rows_of, write_tables
from simulation.sweeps.trial import RUNS, Outcome

if TYPE_CHECKING:
    from rich.console import Console

HELP = """\
Trains a study with many settings and seeds, and compares them on validation patients. No test patient is scored: the
settings that a sweep chooses are run as a study afterwards.

  python -m simulation sweep studies/sweeps/privacy.toml --synthetic runs/demo_cohort
  python -m simulation sweep SWEEP.toml --sites site_configs/rotterdam.yaml site_configs/gbsg.yaml
  python -m simulation sweep SWEEP.toml --split site_configs/duke.yaml --into 5 --skew dirichlet:0.3

SWEEP.toml:
  sweep = "rates"                                # its name, and its folder's in results-dir
  study = "../demo.toml"                         # the study, from this file's folder
  seeds = 5                                      # 0 to 4; or a list
  [[grid]]                                       # all combinations; several tables are run one after the other
  learning-rate = [1e-3, 1e-2]                   # any setting of docs/study_settings.md that acts on training
  training = ["federated", "pooled", "local"]    # pooled: on all sites' patients; local: at each site alone
or, in place of the grid, a search by Optuna (pip install 'breast-federation[sweeps]'):
  trials = 40
  [search]
  learning-rate = { low = 1e-4, high = 0.1, log = true }
  fusion = ["late", "concatenation"]

Written to <results-dir>/<sweep>/: sweep.csv (a row a point), runs.csv (a row a run), figures/. A sweep that was stopped
continues when it is started again: what is trained is not trained twice, whatever else the file then asks for.
--overwrite trains all again, as after a change of the sites' data.
Exit codes: 0 done, 2 wrong usage, 3 settings not valid, 4 a site's data, 7 every run failed, 130 stopped by Ctrl-C
"""


def sweep_parser() -> CommandLine:
    """The verb's arguments."""
    parser = CommandLine(prog="python -m simulation sweep", description=HELP)
    parser.add_argument("file", type=Path, metavar="SWEEP.toml", help="what varies")
    add_cohort_options(parser, parser.add_mutually_exclusive_group(required=True))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments", help="wins over the study's file"
    )
    parser.add_argument("--overwrite", action="store_true", help="train all runs again")
    return parser


def main(words: Sequence[str]) -> int:
    """Runs the verb and returns its exit code."""
    parser = sweep_parser()
    options = parser.parse_args(separate_assignments(words))
    require_cohort_options(options, parser)
    sweep = read_sweep(options.file, options.assignments)
    require_search(sweep)

    from rich.console import Console

    folder, console = Path(sweep.study.results_dir) / sweep.name, Console()
    _require_own(folder)
    sites = sites_of(options, sweep.study, folder, console)
    study_cohorts(sites, load_task(sweep.study), fitted_to(sweep.study, sites))  # a site that cannot be opened says so
    if options.overwrite:
        shutil.rmtree(folder / RUNS, ignore_errors=True)
    outcomes = _run(sweep, sites, folder, console)
    write_figures(rows_of(outcomes), folder)
    print_rows(outcomes, folder, console)
    if all(outcome.failure for outcome in outcomes):
        msg = f"every run of the sweep failed: {outcomes[0].failure}"
        raise StudyError(msg, exit_code=ExitCode.RUN_FAILED)
    return 0


def _run(sweep: Sweep, sites: Sites, folder: Path, console: Console) -> list[Outcome]:
    """All runs under a bar; the tables are on the disk after each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress, warned_once(console):
        bar = progress.add_task("starting", total=sweep.runs)
        done_before = 0

        def show(doing: str, rounds: int) -> None:
            within = min(rounds / sweep.study.rounds, 1.0)
            progress.update(bar, description=f"run {done_before + 1}: {doing}", completed=done_before + within)

        def done(outcomes: Sequence[Outcome]) -> None:
            nonlocal done_before
            done_before = len(outcomes)
            progress.update(bar, completed=done_before)
            write_tables(outcomes, folder)

        outcomes = run_sweep(sweep, sites, folder, show, done)
    if again := sum(outcome.reread for outcome in outcomes):
        console.print(f"{again} of {len(outcomes)} runs had been trained before.", highlight=False)
    return outcomes


def _require_own(folder: Path) -> None:
    """Refuses a folder in which a study has its results.

    Raises:
        SettingsError: If so.
    """
    if there := [name for name in (RESULTS, BEST, LAST) if (folder / name).exists()]:
        msg = f"{folder} is a study's folder: it has {there[0]}. Give the sweep another name"
        raise SettingsError(msg)


@contextmanager
def warned_once(console: Console) -> Iterator[None]:
    """Says each warning of the runs once, however many runs it is of; what else they say is in their own logs."""
    once, loggers = _Once(console), [logging.getLogger(name) for name in ("server", "client", "simulation")]
    before = [(one.propagate, one.handlers[:]) for one in loggers]
    for one in loggers:
        one.propagate, one.handlers = False, [once]
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)  # with none, a study says its warnings itself
    try:
        yield
    finally:
        logging.getLogger().removeHandler(silent)
        for one, (propagate, handlers) in zip(loggers, before, strict=True):
            one.propagate, one.handlers = propagate, handlers


class _Once(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console, self._shown = console, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._shown and not text.startswith("the study ends"):  # the table says why
            self._shown.add(text)
            self._console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
