"""Artefacts of exams: volumes and extracted features, in one pass over an exam that is read and preprocessed once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from client.cache.store import Array, Job, Stored, make_artefacts
from client.errors import SiteError
from client.imaging import preprocessing
from client.imaging.exam_comparison import compared_exams, remark_warnings
from client.imaging.exam_facts import RECIPE, ExamFacts, facts_array, facts_of
from client.imaging.exams import Exam, ExamFiles, Exams, exam_of_rows
from client.imaging.field_of_view import Coverage, shown_warnings
from client.imaging.grid import on_grid, shown_on_grid
from client.readers.modality_data import ModalityData, rows_of
from shared_models.task import Modality, Volume

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site

VERSION = 4  # raise it when the same exam becomes another volume

Recipes = Mapping[str, Callable[[Exam], Array]]
"""What makes each artefact of a preprocessed exam, by a text that says which, and its version."""


class ImageReader(Protocol):
    """A reader of images."""

    @property
    def preprocessing(self) -> preprocessing.Preprocessing:
        """What the site does to its exams first."""
        ...

    def exams(self, site: Site) -> Exams:
        """The exams there are by patient or lesion; one that lacks some of its files is an error."""
        ...

    def model_dump_json(self) -> str:
        """Its settings, which decide what is made of the same files."""
        ...


class UsesExams(Protocol):
    """A reader that fills a modality with what is made of exams: its own, or another modality's."""

    @property
    def supported_kinds(self) -> tuple[type[Modality], ...]:
        """The kinds of modality that it can fill."""
        ...

    def exam_recipes(self, name: str, kind: Any) -> tuple[str, Recipes]:
        """The modality whose exams are used, and what the modality `name` needs of each.

        Raises:
            SiteError: If it cannot be made.
        """
        ...


@dataclass(frozen=True, eq=False)
class ExamRows:
    """What was made of the exams of a modality.

    Attributes:
        made: By recipe, then by row that has an exam: the artefact, or why there is none.
        facts: Of each row whose exam can be used.
        warnings: What need not stop the site, but should be known.
    """

    made: Mapping[str, Mapping[int, Path | SiteError]]
    facts: Mapping[int, ExamFacts] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class ExamArtefacts:
    """The artefacts of the exams of R rows that a study's modalities need.

    When a reader asks for the first of them, all that the study needs of the same exams is made.
    """

    def __init__(self, rows: Rows, modalities: Mapping[str, Modality]) -> None:
        """Makes nothing yet.

        Args:
            rows: The cohort's R rows.
            modalities: All that the study reads of the site.
        """
        self._rows = rows
        self._modalities = modalities
        self._made: dict[str, ExamRows] = {}

    def of(self, images: str) -> ExamRows:
        """What is made of the exams of the modality `images`.

        Raises:
            SiteError: If no patient has an exam, or the site's own files cannot be written.
        """
        if images not in self._made:
            self._made[images] = self._make(images)
        return self._made[images]

    def _make(self, images: str) -> ExamRows:
        site = self._rows.site
        reader = cast(ImageReader, site.modalities[images])
        exams, warnings = exam_of_rows(self._rows, reader.exams(site), f"modalities.{images}")
        recipes = {**self._recipes(images), RECIPE: facts_array}
        distinct = list(dict.fromkeys(exams.values()))  # several lesions may share an exam
        jobs = {
            number: _job(exam, recipes, reader)
            for number, exam in enumerate(distinct)
            if not isinstance(exam, SiteError)
        }
        by_exam = {distinct[number]: made for number, made in make_artefacts(site, jobs, f"reading {images}")}
        written = {exam: made[_whole(RECIPE, reader)] for exam, made in by_exam.items()}
        known = {exam: facts_of(np.load(path)) for exam, path in written.items() if isinstance(path, Path)}
        facts = {row: known[exam] for row, exam in exams.items() if exam in known}
        facts = compared_exams(facts, [key.patient for key in self._rows.keys])
        by_exam_facts = {exams[row]: one for row, one in facts.items()}
        return ExamRows(
            {
                recipe: {
                    row: exam if isinstance(exam, SiteError) else by_exam[exam][_whole(recipe, reader)]
                    for row, exam in exams.items()
                }
                for recipe in recipes
            },
            facts,
            warnings + remark_warnings(f"modalities.{images}", by_exam_facts.values()),
        )

    def _recipes(self, images: str) -> Recipes:
        wanted: dict[str, Callable[[Exam], Array]] = {}
        for name, kind in self._modalities.items():
            reader = self._rows.site.modalities.get(name)
            if hasattr(reader, "exam_recipes") and isinstance(kind, cast(UsesExams, reader).supported_kinds):
                try:
                    source, recipes = cast(UsesExams, reader).exam_recipes(name, kind)
                except SiteError:  # the modality's own, and raised where it is read
                    continue
                wanted |= recipes if source == images else {}
        return wanted


def _job(exam: ExamFiles, recipes: Recipes, reader: ImageReader) -> Job:
    load = functools.partial(_preprocessed, exam, reader.preprocessing, _whole("", reader))
    return Job(exam.files, {_whole(text, reader): make for text, make in recipes.items()}, load, exam.cache_key_extra)


def _whole(recipe: str, reader: ImageReader) -> str:
    """The text of a recipe with all that decides the preprocessed exam, besides its files."""
    return f"{recipe}\npreprocessing {preprocessing.VERSION}\n{reader.model_dump_json()}"


def _preprocessed(files: ExamFiles, settings: preprocessing.Preprocessing, recipe: str, stored: Stored) -> Exam:
    return preprocessing.preprocess(files.load(), settings, lambda step, make: stored(f"{step} {recipe}", make))


def volume_recipes(kind: Volume) -> Recipes:
    """A volume on the study's grid, and what it shows of the exam."""
    volume, shown = (f"{what} {VERSION} {kind!r}" for what in ("volume", "coverage"))
    return {volume: functools.partial(on_grid, volume=kind), shown: functools.partial(shown_on_grid, volume=kind)}


def read_volumes(rows: Rows, name: str, kind: Volume, exams: ExamArtefacts) -> ModalityData:
    """Volumes `(R, C, D, H, W)` of the modality's own exams on the study's grid, 0 where a row has none."""
    volume, shown = volume_recipes(kind)
    artefacts = exams.of(name)
    read = rows_of(artefacts.made[volume], (len(rows), *kind.shape), artefacts.warnings)
    shown_in = {
        row: np.load(file, allow_pickle=False)
        for row, file in artefacts.made[shown].items()
        if isinstance(file, Path) and read.present[row]
    }
    of_exams = {  # lesions may share one
        (rows.keys[row].patient, artefacts.made[shown][row]): array for row, array in shown_in.items()
    }
    facts = {row: replace(one, **_shown(shown_in.get(row))) for row, one in artefacts.facts.items()}
    coverages = [Coverage(one[0], one[1], bool(one[2]), bool(one[3])) for one in of_exams.values()]
    return replace(read, warnings=[*artefacts.warnings, *shown_warnings(name, kind, coverages)], facts=facts)


def _shown(coverage: Array | None) -> dict[str, Any]:
    """What a study's grid shows of an exam, for the site's list."""
    if coverage is None:
        return {}
    tumour, filled = float(coverage[0]), float(coverage[1])
    return {"tumour_shown": None if np.isnan(tumour) else round(tumour, 4), "grid_filled": round(filled, 4)}
