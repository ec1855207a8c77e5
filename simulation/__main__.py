"""Command line of the simulation: `python -m simulation`, a study over several sites on one machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared_models.errors import UserError
from shared_models.installation import begin
from shared_models.study_file import take_fold_options
from simulation.arguments import parse
from simulation.cohort_options import sites_of

if TYPE_CHECKING:
    from rich.console import Console

    from shared_models.study_settings import StudySettings
    from simulation.splits import Sites

SWEEP = "sweep"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == [SWEEP]:
        from simulation.sweeps.command import main as sweep

        return _guarded(lambda: sweep(words[1:]))
    options = parse(words)
    return _guarded(lambda: _report(options) if options.report else _run(options))


def _guarded(work: Callable[[], int]) -> int:
    """What the work's errors mean to whoever started it: a sentence, and an exit code."""
    from rich.console import Console

    try:
        begin()
        return work()
    except UserError as error:
        problem = error
    except OSError as error:
        if error.filename is None:  # of no file: nothing that whoever started it could mend
            raise
        fix = "correct the path, or the rights of its folder"
        problem = UserError(
            "a file cannot be used", where=error.filename, found=str(error.strerror), fix=fix, exit_code=4
        )
    except KeyboardInterrupt:
        return 130
    Console(stderr=True).print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)
    return problem.exit_code


def _run(options: argparse.Namespace) -> int:
    """Runs the study, shows what came of it, and compares it with other models if that is wanted."""
    config, models = _settings(options), _models(options)

    # late, so that a mistake in the settings is said at once
    from rich.console import Console

    from server.report.page import open_report
    from server.study.missing_sites import require_named_sites
    from server.study.results.results_file import RESULTS
    from server.study.results.results_folder import REPORT, require_free

    work, console = Path(config.results_dir) / config.study, Console()
    require_free(work, config)
    sites = sites_of(options, config, work, console)
    named, config = bool(config.sites), _fitted(config, sites)
    if options.models:
        _require_fit(models, config)
    _train(options.engine, sites, config, work, console)
    if options.compare or options.matrix:
        _compare(options.matrix, models, sites, config, work, console)
    if options.opens:
        open_report(work / REPORT)
    # a rehearsal has results in its own center, and begins with all sites or not; a comparison has the first study's
    if named and options.engine != "rehearsal" and not config.compares:
        require_named_sites(work / RESULTS)
    return 0


def _settings(options: argparse.Namespace) -> StudySettings:
    from server.study.aggregation.rules import rule_names
    from shared_models.study_file import read_study

    shorthands = [f"{key}={value}" for key in ("task", "seed") if (value := getattr(options, key)) is not None]
    resume = ["resume=true"] if options.resume else []
    words = [*shorthands, *options.assignments, *take_fold_options(vars(options)), *resume]
    config = read_study(options.study or options.file, words, rule_names())
    from server.tracking.trackers import require_installed
    from simulation.splits import refuse_canary  # after the settings: a mistake in them should be said at once

    refuse_canary(config)
    require_installed(config)
    return config


def _models(options: argparse.Namespace) -> Sequence[str]:
    """The other models to compare with."""
    if not options.compare:
        return ()
    from simulation.baselines.comparison import chosen_models

    return chosen_models(options.models)


def _require_fit(models: Sequence[str], config: StudySettings) -> None:
    from simulation.baselines.comparison import require_fit

    require_fit(models, config)


def _fitted(config: StudySettings, sites: Sites) -> StudySettings:
    """The study as it is at these sites.

    Raises:
        SiteError: If its folds do not go with them.
    """
    from simulation.splits import fitted_to, require_folds

    config = fitted_to(config, sites)
    require_folds(config, sites)
    return config


def _train(engine: str, sites: Sites, config: StudySettings, work: Path, console: Console) -> None:
    """Runs the study by an engine, and prints its results, with remarks about its sites, and where they are."""
    from server.study.results.results_folder import REPORT
    from server.study.results.schema import Results
    from server.study.results.table import print_table
    from simulation.engines.in_process import run_in_process
    from simulation.engines.ray import run_on_ray
    from simulation.engines.rehearsal import run_rehearsal
    from simulation.site_remarks import site_remarks

    if config.outcome == "binary":
        console.print('outcome = "binary": an event by the horizon, or the sites\' own label; times are not used')
    run = {"in-process": run_in_process, "ray": run_on_ray, "rehearsal": run_rehearsal}[engine]
    results = run(sites, config, console)
    for remark in site_remarks(sites, config, scored=not results["unscored"]):
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)
    print_table(Results.model_validate(results), console)
    console.print(f"Checkpoints and results.json: {work}")
    if (page := work / REPORT).exists():
        console.print(f"Report: {page.resolve()}", soft_wrap=True, highlight=False)


def _compare(
    matrix: bool, models: Sequence[str], sites: Sites, config: StudySettings, work: Path, console: Console
) -> None:
    from simulation.baselines.comparison import add_comparisons
    from simulation.baselines.comparison_table import print_comparisons
    from simulation.engines.in_process import run_in_process

    compared = add_comparisons(sites, config, models, matrix, run_in_process, console)
    print_comparisons(compared, work, console)


def _report(options: argparse.Namespace) -> int:
    """Writes the report of a study that has ended, or of two side by side."""
    from rich.console import Console

    from server.report.page import open_report, report_again
    from server.report.side_by_side.page import compare_reports
    from server.study.results.results_file import results_of_folder

    files = [results_of_folder(folder) for folder in options.report]
    page = compare_reports(*files) if len(files) == 2 else report_again(files[0], options.study)
    Console().print(f"Report: {page.resolve()}", soft_wrap=True, highlight=False)
    if options.opens:
        open_report(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
