"""Verdicts of the check on a folder of small sites whose files are wrong on purpose, and the values that it reads.

    python benchmarks/cases.py ../shared/cases            # one line a site, and below it what was said and read
    python benchmarks/cases.py ../shared/cases --only 33  # those whose name holds 33

A site is `errs` where something stops it, `excludes` where patients lose a modality, `warns`, or `silent`; what a
silent site read must be right, which only a person can say.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from client.checks.counts import readiness
from client.checks.readiness import Readiness
from client.cohort.outcomes import read_truth
from client.cohort.rows import CohortRows
from client.config.site import load_site
from client.errors import SiteError
from client.imaging.exams import Exam
from client.readers.table import TableReader
from shared_models.task import Table


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds a folder a site, each with site.yaml")
    parser.add_argument("--only", default="", help="part of a folder's name")
    parser.add_argument("--brief", action="store_true", help="one line a site")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    for path in sorted(chosen.folder.glob(f"*{chosen.only}*/site.yaml")):
        with tempfile.TemporaryDirectory() as state:
            verdict, lines = judged(path, Path(state))
        print(f"{path.parent.name:36} {verdict}")
        for line in () if chosen.brief else lines:
            print("    " + line.replace("\n", "\n    "))


def judged(path: Path, state_dir: Path) -> tuple[str, list[str]]:
    """A site's verdict, and what was said and read.

    Args:
        path: Its YAML.
        state_dir: Where what it keeps goes.
    """
    try:
        site = load_site(path).model_copy(update={"state_dir": state_dir, "workers": 1})
    except SiteError as error:
        return "errs", [f"error: {error}"]
    result = readiness(site, None, None)
    lines = [f"{problem.severity}: {problem.text}" for problem in result.problems]
    lines += [f"excluded: {one.patient} {one.modality}: {one.in_short}" for one in result.excluded]
    severities = {problem.severity for problem in result.problems}
    excludes = bool(result.excluded)
    verdict = "errs" if "error" in severities else "excludes" if excludes else "warns" if severities else "silent"
    return verdict, lines + (list(_values(result)) if result.cohort_rows else [])


def _values(result: Readiness) -> Iterator[str]:
    cohort_rows = result.cohort_rows
    assert cohort_rows is not None
    for name, kind in result.task.modalities.items():
        reader = cohort_rows.site.modalities[name]
        try:
            if isinstance(kind, Table) and isinstance(reader, TableReader):
                names = ", ".join(feature.name for feature in kind.features)
                yield f"{name}: {names} = {np.round(reader.values(cohort_rows, kind.features).values.T, 3).tolist()}"
            elif hasattr(reader, "exams"):
                yield from _exams(cohort_rows, name)
        except SiteError as error:
            yield f"{name}: {error.what}"
    for name, target in result.task.targets.items():
        try:
            yield f"{name} = {read_truth(cohort_rows, name, target).tolist()}"
        except SiteError as error:
            yield f"{name}: {error.what}"


def _exams(cohort_rows: CohortRows, name: str) -> Iterator[str]:
    for key, files in sorted(cohort_rows.site.modalities[name].exams(cohort_rows.site).items()):  # type: ignore[union-attr]
        try:
            if isinstance(files, SiteError):
                raise files
            yield f"{name} {key.patient} {key.instance}: {_exam(files.load())}"
        except SiteError as error:
            yield f"{name} {key.patient} {key.instance}: {error.what}"


def _exam(exam: Exam) -> str:
    """Means of the phases, times and the mask's voxels."""
    import SimpleITK as sitk

    phases = [sitk.GetArrayViewFromImage(phase) for phase in exam.phases]
    means = [round(float(phase.mean()), 2) for phase in phases]
    mask = "none" if exam.mask is None else f"{int(sitk.GetArrayViewFromImage(exam.mask).sum())} voxels"
    return f"{phases[0].shape}, means {means}, seconds {exam.seconds}, mask {mask}"


if __name__ == "__main__":
    main()
