"""Options of a command line for whose patients a simulation is of, and the sites that they make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings
    from simulation.splits import Sites


def add_cohort_options(parser: argparse.ArgumentParser, cohort: Any) -> None:
    """Adds them; `cohort` is the parser's group of which one is given."""
    cohort.add_argument("--synthetic", type=Path, metavar="DIR", help="write the task's cohort there, or reuse it")
    cohort.add_argument("--sites", type=Path, nargs="+", metavar="YAML", help="a settings file for each site")
    cohort.add_argument("--split", type=Path, metavar="YAML", help="one site's settings, to be divided")
    parser.add_argument(
        "--phantom",
        nargs="+",
        metavar=("KIND", "KEY=VALUE"),
        help="with --synthetic: write this phantom there, with `ceiling`, `sites`, `patients`, `seed` or `field`",
    )
    parser.add_argument(
        "--patients", type=int, metavar="N", help="with --synthetic: N patients in each hospital that is written"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--by", metavar="COLUMN", help="with --split: a site for each value of `COLUMN` or `TABLE:COLUMN`")
    how.add_argument("--into", type=int, metavar="N", help="with --split: N sites with equal shares of the patients")
    parser.add_argument(
        "--skew",
        nargs="+",
        default=[],
        metavar="KIND:VALUE",
        help="dirichlet:A or quantity:A, with --into N: shares of each outcome, or of patients, differ between the "
        "sites, the more the smaller A; missing:MODALITY:SHARE: that share of the sites lacks the modality",
    )
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="replaces data_root in the settings files")


def require_cohort_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends the program with 2 where they do not go together."""
    if options.phantom and options.synthetic is None:
        parser.error("--phantom goes with --synthetic")
    if options.patients is not None and (options.synthetic is None or options.phantom or options.patients < 1):
        parser.error("--patients goes with --synthetic and is at least 1; a phantom has `patients=N`")
    if options.split is None and (options.by is not None or options.into is not None):
        parser.error("--by and --into go with --split")


def sites_of(options: argparse.Namespace, config: StudySettings, work: Path, console: Any) -> Sites:
    """The sites; what is written for them lies in `work`, and a synthetic cohort in its own folder.

    Args:
        options: The command line's.
        config: The study.
        work: The study's folder.
        console: Where progress is shown.

    Raises:
        SettingsError: If the options do not fit the study.
        SiteError: If a site's file cannot be used.
    """
    from shared_models.settings import SettingsError
    from simulation.skew import divide_unequally, parse_skew, without_modalities
    from simulation.splits import divide, find_sites, fitted_to

    skew = parse_skew(options.skew)
    if skew.kind and options.into is None:
        msg = f"--skew {skew.kind}:{skew.concentration:g} divides one cohort: it goes with --split YAML --into N"
        raise SettingsError(msg)
    if skew.kind:
        sites = divide_unequally(options.split, work / "sites", options.into, skew, config, options.data_root)
    elif options.synthetic:
        sites = find_sites(synthetic_cohort(options.synthetic, config.task, console, options.phantom, options.patients))
    elif options.split:
        sites = divide(options.split, work / "sites", by=options.by, into=options.into, data_root=options.data_root)
    else:
        sites = find_sites(options.sites, options.data_root, work / "sites")
    return without_modalities(sites, skew, fitted_to(config, sites), work / "sites")


def synthetic_cohort(
    folder: Path, task: str, console: Any, phantom: Sequence[str] | None = None, patients: int | None = None
) -> list[Path]:
    """The site files of the cohort that `task` learns from, or of a phantom; written first if the folder has none.

    Args:
        folder: Of the cohort.
        task: The task.
        console: Where progress is shown.
        phantom: Its kind and settings, for a phantom.
        patients: Of each hospital of a cohort; None for as many as each has by default.
    """
    from rich.progress import Progress

    from simulation.cohorts.sites import SITES
    from simulation.phantoms.cohort import phantom_writer

    write = phantom_writer(task, phantom) if phantom else cohort_writer(task)
    if patients is not None:
        write = partial(write, sites=tuple(replace(site, patients=patients) for site in SITES))
    if not (written := sorted(folder.glob("*/*.yaml"))):
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("writing the synthetic cohort", total=None)
            written = write(
                folder,
                workers=os.cpu_count() or 1,
                progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    return written


def cohort_writer(task: str) -> Callable[..., list[Path]]:
    """What writes the cohort that `task` learns from: that of breast MRI and its tables, unless it needs another."""
    from simulation.cohorts.brain import cohort as brain_lesions
    from simulation.cohorts.breast_mri import cohort as synthetic
    from simulation.cohorts.expression import cohort as expression
    from simulation.cohorts.mammography import cohort as mammography

    match task:
        case "subtype_histology":
            return expression.write_cohort
        case "relapse_mammogram":
            return mammography.write_cohort
        case "receptors_brain_metastasis":
            return brain_lesions.write_cohort
        case _:
            return synthetic.write_cohort
