"""Cohort of a phantom on disk: hospitals whose files a study reads as it reads real ones.

folder/SITE/SITE.yaml     what the hospital says of its data
folder/SITE/patients.csv  or .xlsx: outcomes and tables, in the hospital's own codes
folder/SITE/mri/          images and masks as NIfTI; for slides, PNG tiles under folder/SITE/histology/
folder/truth.csv          the labels and what they were made of, which no hospital knows
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from shared_models.settings import Settings, SettingsError, nearest, parse_settings
from shared_models.study_file import parse_assignments
from simulation.cohorts.files import Progress, SyntheticPatient, write_hospitals
from simulation.phantoms import (
    brain,
    brain_files,
    mammogram_files,
    mammograms,
    receptor_files,
    receptors,
    recurrence,
    recurrence_files,
    slide_files,
    slides,
)
from simulation.phantoms.sites import phantom_sites

KINDS: Mapping[str, Sequence[str]] = {
    "recurrence_mri": tuple(recurrence.KINDS),
    "subtype_histology": tuple(slides.KINDS),
    "receptors_dce_mri": tuple(receptors.KINDS),
    "relapse_mammogram": tuple(mammograms.KINDS),
    "receptors_brain_metastasis": tuple(brain.KINDS),
}
UNUSABLE = "the phantom cannot be written"


class Phantom(Settings):
    """What of a phantom's cohort can be chosen.

    Attributes:
        ceiling: The best AUC that there is.
        sites: Hospitals that train; one more only evaluates.
        patients: Of each.
        seed: Equal seeds write equal cohorts.
        field: Of the exams of `recurrence_mri`: `one_breast`, or `bilateral` of real size, 20 to 90 MB a patient.
    """

    ceiling: float = Field(1.0, ge=0.5, le=1.0)
    sites: int = Field(4, ge=1, le=50)
    patients: int = Field(80, ge=1, le=10_000)
    seed: int = Field(0, ge=0)
    field: Literal["one_breast", "bilateral"] = "one_breast"


def phantom_writer(task: str, words: Sequence[str]) -> Callable[..., list[Path]]:
    """What writes the cohort that `--phantom KIND KEY=VALUE ...` asks for; it takes `write_cohort`'s other arguments.

    Raises:
        SettingsError: If the task has no such phantom, or a value cannot be used.
    """
    kind, *assignments = words
    kinds = KINDS.get(task, ())
    if kind not in kinds:
        where, hint = f"--phantom {kind}, task {task}", nearest(kind, kinds) if kinds else f"tasks: {', '.join(KINDS)}"
        raise SettingsError(UNUSABLE, where=where, found=repr(kind), expected="a kind of this task's phantom", fix=hint)
    phantom = parse_settings(Phantom, parse_assignments(assignments), "--phantom")
    return partial(write_cohort, task=task, kind=kind, phantom=phantom)


def write_cohort(
    folder: Path, task: str, kind: str, phantom: Phantom, workers: int = 1, progress: Progress | None = None
) -> list[Path]:
    """Writes the hospitals' files and returns their YAML files; the arguments are those of `write_hospitals`."""
    sites = phantom_sites(phantom.sites, phantom.patients)
    draw, write = _system(task, kind, phantom)
    return write_hospitals(folder, sites, draw, write, phantom.seed, workers=workers, progress=progress)


def _system(
    task: str, kind: str, phantom: Phantom
) -> tuple[Callable[..., SyntheticPatient], Callable[..., Mapping[str, Any]]]:
    """What draws a patient of the task's phantom, and what writes a hospital's tables."""
    match task:
        case "recurrence_mri":
            draw: Callable[..., SyntheticPatient] = partial(recurrence_files.draw, field=phantom.field)
            write = recurrence_files.write
        case "subtype_histology":
            draw, write = slide_files.draw, slide_files.write
        case "receptors_dce_mri":
            draw, write = receptor_files.draw, receptor_files.write
        case "relapse_mammogram":
            draw, write = mammogram_files.draw, mammogram_files.write
        case _:
            draw, write = brain_files.draw, brain_files.write
    return partial(draw, kind=kind, ceiling=phantom.ceiling), write
