"""Flags of `python -m simulation`, with what `--help` says of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from shared_models.command_line import CommandLine
from shared_models.study_file import add_fold_options, separate_assignments
from simulation.cohort_options import add_cohort_options, require_cohort_options

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
  python -m simulation studies/demo.toml --synthetic runs/cohort --compare --models cox,sites --folds 5
  python -m simulation studies/demo.toml --synthetic runs/cohort --matrix

  # many settings and seeds, compared on validation patients alone
  python -m simulation sweep studies/sweeps/privacy.toml --synthetic runs/cohort

Any key of docs/study_settings.md can be set: --set rounds=30 strategy=fedprox proximal-mu=0.1
Results and checkpoints are written to <results-dir>/<study>/, and nothing there is overwritten without --overwrite;
--resume continues from the last checkpoint.
Exit codes: 0 done, 2 wrong usage, 3 settings not valid, 4 a site's data or a checkpoint, 7 the study failed,
8 done without a site that the study names, 130 stopped by Ctrl-C
"""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What the words of a command line ask for; ends the program where they do not go together."""
    parser = _parser()
    first = words[0] if words else ""
    if first and not first.startswith("-") and not Path(first).suffix and not Path(first).exists():
        parser.error(f"{first!r} is no file of a study's settings, and the only verb is 'sweep'")
    options = parser.parse_args(separate_assignments(words))
    require_cohort_options(options, parser)
    if options.models and not options.compare:
        parser.error("--models goes with --compare")
    if options.report and len(options.report) > 2:
        parser.error("--report takes one folder, or two to be put side by side")
    if options.skew and options.report:
        parser.error("--skew goes with --split, --sites or --synthetic")
    if options.study and options.file:
        parser.error(f"one study at a time: {options.file} or --study {options.study}; settings follow --set")
    return options


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
    _add_study(parser)
    _add_comparison(parser)
    parser.add_argument("--open", action="store_true", dest="opens", help="show the study's report in a browser")
    parser.add_argument("--seed", type=int, help="shorthand for --set seed=N")
    return parser


def _add_study(parser: CommandLine) -> None:
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


def _add_comparison(parser: CommandLine) -> None:
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also train on the pooled patients, at each site alone, with each modality and target alone, and "
        "baselines on tables; all in results.json, comparisons.csv and the report, with paired tests; with --folds and "
        "--leave-out in each fold, whose test patients are compared together",
    )
    parser.add_argument(
        "--models",
        metavar="LIST",
        help="with --compare: these alone, of pooled, local, modalities, targets, sites (the study without each of its "
        "sites), logistic-regression, random-forest, svm, gradient-boosting, and, where they are installed, xgboost, "
        "catboost and, for a time to event, cox",
    )
    parser.add_argument("--matrix", action="store_true", help="also score each site's own model at every site")
