"""Reader of features extracted from another modality's images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.errors import ExitCode, SiteError
from client.extractors import Extractor, load_extractors
from client.imaging.exams import Exam
from client.readers.exam_artefacts import ExamArtefacts, Recipes
from client.readers.modality_data import ModalityData, split_errors
from shared_models.features import Feature, expand
from shared_models.settings import Settings, nearest
from shared_models.task import Modality, Table

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site

LIBRARIES = ("numpy", "scipy", "SimpleITK", "pyradiomics")


class ExtractedReader(Settings):
    """Features that the study names, measured on the images and masks of another modality of the site."""

    supported_kinds: ClassVar[tuple[type[Modality], ...]] = (Table,)

    reader: Literal["extracted"] = Field(description="chooses this reader")
    images: str = Field(description="the name of the modality, under `modalities`, whose images are measured")

    def preview_kind(self) -> None:
        """Nothing: which features are measured only a study says, and the images are checked as what they are."""

    def columns(self, kind: Table) -> list[tuple[str, str]]:
        """None."""
        return []

    def files(self, site: Site) -> list[Path]:
        """Those of the images."""
        return site.modalities[self.images].files(site)

    def exam_recipes(self, name: str, kind: Table) -> tuple[str, Recipes]:
        """All features of each extractor that has one of the study's, of the exams of `images`.

        Raises:
            SiteError: If no extractor has a feature.
        """
        extractors = load_extractors()
        sources = sorted({_source(feature, extractors, f"modalities.{name}") for feature in kind.features})
        return self.images, {_recipe(source): functools.partial(_features, source) for source in sources}

    def read(self, rows: Rows, name: str, kind: Table, exams: ExamArtefacts) -> ModalityData:
        """`(R, C)` input columns, NaN where missing; who has no value at all has not the modality.

        Raises:
            SiteError: If no extractor has a feature, or none can be measured on any exam.
        """
        place = f"modalities.{name}"
        extractors = load_extractors()
        sources = [_source(feature, extractors, place) for feature in kind.features]
        artefacts = exams.of(self.images)
        values = np.full((len(rows), len(kind.features)), np.nan)
        excluded: dict[int, SiteError] = {}
        for source in sorted(set(sources)):
            files, bad = split_errors(artefacts.made[_recipe(source)])
            excluded |= bad
            measured = {row: np.load(file, allow_pickle=False) for row, file in files.items()}
            for index, feature in enumerate(kind.features):
                if sources[index] == source:
                    values[list(measured), index] = _column(list(measured.values()), feature, extractors[source])
        values[list(excluded)] = np.nan
        present = ~np.isnan(values).all(axis=1)
        having = next(iter(artefacts.made.values()))
        if not present.any():
            raise _nothing(place, self.images, len(having))
        without = sum(not present[row] and row not in excluded for row in having)
        warnings = [*artefacts.warnings, *_gaps(place, kind.features, values, without)]
        return ModalityData(expand(kind.features, values), present, excluded, warnings)


def _source(feature: Feature, extractors: Mapping[str, Extractor], place: str) -> str:
    """The name of the extractor that has a feature, in categories that the study knows, too."""
    known = {
        name: (source, categories)
        for source, extractor in extractors.items()
        for name, categories in extractor.FEATURES.items()
    }
    if feature.name not in known:
        what = "a feature of the study cannot be measured"
        raise _misfit(what, place, feature.name, nearest(feature.name, known))
    source, categories = known[feature.name]
    if bool(categories) != bool(feature.categories) or not set(categories) <= set(feature.categories):
        what = "a feature of the study is measured as something else"
        raise _misfit(what, place, f"{feature.name} as {_kind(feature.categories)}", _kind(categories))
    return source


def _kind(categories: Sequence[str]) -> str:
    return f"one of {', '.join(categories)}" if categories else "a number"


def _recipe(source: str) -> str:
    libraries = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return f"features {source} {load_extractors()[source].VERSION}\n{libraries}"


def _features(name: str, exam: Exam) -> NDArray[np.float64]:
    """All features `(F,)` of an extractor; a category is given by its index, what is not defined as NaN."""
    extractor = load_extractors()[name]
    measured = extractor.measure(exam)
    return np.asarray([_number(measured[key], categories) for key, categories in extractor.FEATURES.items()])


def _number(value: float | str, categories: Sequence[str]) -> float:
    if isinstance(value, str):
        return float(categories.index(value)) if value else np.nan
    return value if np.isfinite(value) else np.nan


def _column(measured: Sequence[NDArray[np.float64]], feature: Feature, extractor: Extractor) -> NDArray[np.float64]:
    """One feature of M exams `(M,)`; a category as its index among the study's."""
    column = np.asarray(measured)[:, list(extractor.FEATURES).index(feature.name)]
    if not feature.categories:
        return np.asarray(column)
    names = extractor.FEATURES[feature.name]
    return np.asarray([np.nan if np.isnan(index) else feature.categories.index(names[int(index)]) for index in column])


def _gaps(place: str, features: Sequence[Feature], values: NDArray[np.float64], without: int) -> list[str]:
    """Warnings of features that no patient has, and of exams that have none."""
    lacking = [feature.name for feature, column in zip(features, values.T, strict=True) if np.isnan(column).all()]
    shown = f"{', '.join(lacking[:5])}{' and others' if lacking[5:] else ''}"
    never = [f"{place}: {shown} could be measured on no exam"] if lacking else []
    return never + ([f"{place}: nothing could be measured on {without} exams; have they a mask?"] if without else [])


def _misfit(what: str, place: str, found: str, expected: str) -> SiteError:
    fix = "tell the center, or map the features from a table with `reader: table`"
    public, code = "the site's settings do not fit the study", ExitCode.STUDY
    return SiteError(what, where=place, found=found, expected=expected, fix=fix, public=public, exit_code=code)


def _nothing(place: str, images: str, exams: int) -> SiteError:
    return SiteError(
        what="none of the study's features can be measured",
        where=place,
        found=f"{exams} exams without a single value",
        expected="a mask of the tumour for each exam, and the phases that the features need",
        fix=f"give modalities.{images} its `mask`, or map the features from a table with `reader: table`",
        public="nothing could be measured on the site's images",
    )
