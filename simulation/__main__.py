"""Command line of the simulation: `python -m simulation`, a study over several sites on one machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from shared_models.command_line import CommandLine
from shared_models.errors import UserError
from shared_models.installation import begin
from shared_models.study_file import add_fold_options, separate_assignments, take_fold_options
from simulation.cohort_options import add_cohort_options, require_cohort_options, sites_of

HELP = """\
Runs the same ServerApp and ClientApp as a real study, over sites on this machine.

  # five synthetic hospitals whose best possible score is known, written to runs/cohort. The task selects the cohort:
  # slides and genes (subtype_histology), mammography (relapse_mammogram), brain metastases
  # (receptors_brain_metastasis), or else breast MRI with clinical, genomic and radiomics tables. Use one folder each
  python -m simulation --synthetic runs/cohort --task recurrence_mri

  # a phantom: hospitals whose outcome shows in one way alone, here the tumour's texture; docs/phantoms.md lists them
  python -m simulation --synthetic runs/texture --task receptors_dce_mri --phantom texture patients=80 ceiling=0.9

  # real sites, each with its own settings file
  python -m simulation --study studies/rotterdam_gbsg.toml --sites site_configs/rotterdam.yaml site_configs/gbsg.yaml

  # one table as several sites: by the values of a column, or in equal shares of patients
  python -m simulation --task recurrence_clinical --split site_configs/duke.yaml --by "Manufacturer Model Name"
  python -m simulation --task recurrence_clinical --split site_configs/duke.yaml --into 5

  # the same with unequal shares of each outcome, or of patients; and half of the sites without a modality
  python -m simulation --split site_configs/duke.yaml --into 5 --skew dirichlet:0.3
  python -m simulation --task recurrence_mri --synthetic runs/cohort --skew missing:mri:0.5

  # cross-validation in each site; and each site in turn as a hospital that the network has not seen
  python -m simulation studies/demo.toml --synthetic runs/cohort --folds 5 --repeats 3
  python -m simulation studies/demo.toml --synthetic runs/cohort --leave-out each --set study=demo-new-hospital

  # other models on the same test patients, with DeLong's and McNemar's tests; and each hospital's own model at each
  python -m simulation studies/demo.toml --synthetic runs/cohort --compare --models pooled,modalities,random-forest
  python -m simulation studies/demo.toml --synthetic runs/cohort --matrix

  # many settings and seeds, compared on validation patients alone
  python -m simulation sweep studies/sweeps/privacy.toml --synthetic runs/cohort

Any key of docs/study_settings.md can be set: --set rounds=30 strategy=fedprox proximal-mu=0.1
Results and checkpoints are written to <results-dir>/<study>/, and nothing there is overwritten without --overwrite;
--resume continues from the last checkpoint.
Exit codes: 0 done, 2 wrong usage, 3 settings not valid, 4 a site's data or a checkpoint, 7 the study failed,
8 done without a site that the study names, 130 stopped by Ctrl-C
"""
SWEEP = "sweep"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == [SWEEP]:
        from simulation.sweeps.command import main as sweep

        return _guarded(lambda: sweep(words[1:]))
    parser = _parser()
    options = parser.parse_args(separate_assignments(words))
    require_cohort_options(options, parser)
    if options.models and not options.compare:
        parser.error("--models goes with --compare")
    if options.report and len(options.report) > 2:
        parser.error("--report takes one folder, or two to be put side by side")
    if options.skew and options.report:
        parser.error("--skew goes with --split, --sites or --synthetic")
    if options.study and options.file:
        parser.error(f"one study at a time: {options.file} or --study {options.study}")
    return _guarded(lambda: _report(options) if options.report else _run(options))


def _guarded(work: Callable[[], int]) -> int:
    """What the work's errors mean to whoever started it: a sentence, and an exit code."""
    from rich.console import Console

    try:
        begin()
        return work()
    except UserError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> CommandLine:
    parser = CommandLine(prog="python -m simulation", description=HELP)
    parser.add_version()
    cohort = parser.add_mutually_exclusive_group(required=True)
    add_cohort_options(parser, cohort)
    cohort.add_argument(
        "--report",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="only write the report of a study's results again, with --study's; of two folders a page of both",
    )
    parser.add_argument("file", type=Path, nargs="?", metavar="STUDY", help="the study's settings, as --study")
    parser.add_argument("--study", type=Path, metavar="TOML", help="the study's settings")
    parser.add_argument("--task", help="the task; see shared_models/tasks")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="a setting, or several; wins over the file",
    )
    parser.add_argument(
        "--engine",
        choices=("in-process", "ray", "rehearsal"),
        default="in-process",
        help="ray: many GPUs or machines; rehearsal: a real center and real hospitals on this machine, over TLS",
    )
    add_fold_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the study's last checkpoint")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also train on the pooled patients, at each site alone, with each modality and target alone, and "
        "baselines on tables; all in results.json, comparisons.csv and the report, with paired tests",
    )
    parser.add_argument(
        "--models",
        metavar="LIST",
        help="with --compare: these alone, of pooled, local, modalities, targets, logistic-regression, random-forest, "
        "svm, gradient-boosting, and, where they are installed, xgboost and catboost",
    )
    parser.add_argument("--matrix", action="store_true", help="also score each site's own model at every site")
    parser.add_argument("--open", action="store_true", dest="opens", help="show the study's report in a browser")
    parser.add_argument("--seed", type=int, help="shorthand for --set seed=N")
    return parser


def _run(options: argparse.Namespace) -> int:
    from server.study.aggregation.rules import rule_names
    from shared_models.folds import folds_of
    from shared_models.settings import SettingsError
    from shared_models.study_file import read_study

    shorthands = [f"{key}={value}" for key in ("task", "seed") if (value := getattr(options, key)) is not None]
    resume = ["resume=true"] if options.resume else []
    words = [*shorthands, *options.assignments, *take_fold_options(vars(options)), *resume]
    config = read_study(options.study or options.file, words, rule_names())
    models: Sequence[str] = ()
    if options.compare:
        from simulation.baselines.comparison import chosen_models

        models = chosen_models(options.models)

    # late, so that a mistake in the settings is said at once
    from rich.console import Console

    from server.report.page import REPORT, open_report
    from server.study.results.results_folder import require_free

    work = Path(config.results_dir) / config.study
    require_free(work, config)

    from server.study.missing_sites import require_named_sites
    from server.study.results.results_file import RESULTS
    from server.study.results.schema import Results
    from server.study.results.table import print_table
    from simulation.engines.in_process import run_in_process
    from simulation.engines.ray import run_on_ray
    from simulation.engines.rehearsal import run_rehearsal
    from simulation.site_remarks import site_remarks
    from simulation.splits import fitted_to, require_folds

    console = Console()
    sites = sites_of(options, config, work, console)
    named, config = bool(config.sites), fitted_to(config, sites)
    folds = folds_of(config)
    if folds and (options.compare or options.matrix):
        msg = "--compare and --matrix go with one split: take --folds or --leave-out away, or compare without them"
        raise SettingsError(msg)
    require_folds(config, sites)
    if config.outcome == "binary":
        console.print('outcome = "binary": an event by the horizon, or the sites\' own label; times are not used')
    run = {"in-process": run_in_process, "ray": run_on_ray, "rehearsal": run_rehearsal}[options.engine]
    results = run(sites, config, console)
    for remark in site_remarks(sites, config):
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)
    print_table(Results.model_validate(results), console)
    console.print(f"Checkpoints and results.json: {work}")
    if (page := work / REPORT).exists():
        console.print(f"Report: {page.resolve()}", soft_wrap=True, highlight=False)
    if options.compare or options.matrix:
        from simulation.baselines.comparison import add_comparisons
        from simulation.baselines.comparison_table import print_comparisons

        compared = add_comparisons(sites, config, models, options.matrix, run_in_process, console)
        print_comparisons(compared, work, console)
    if options.opens:
        open_report(page)
    if named:
        require_named_sites(work / RESULTS)
    return 0


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
