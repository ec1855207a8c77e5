"""Reader of features extracted from another modality's images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cache.artifacts import Job
from client.errors import ExitCode, SiteError
from client.extractors import Extractor, load_extractors
from client.imaging.exams import ExamFiles, exam_of_rows
from client.readers.modality_data import ModalityData, load_rows
from client.readers.volumes import ImageReader
from shared_models.features import Feature, expand
from shared_models.settings import Settings, nearest
from shared_models.task import Modality, Table

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site
    from client.imaging.preprocessing import Preprocessing

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

    def read(self, records: Rows, name: str, kind: Table, path: Path) -> ModalityData:
        """`(R, C)` input columns, NaN where missing; who has no value at all has not the modality.

        Raises:
            SiteError: If there is no measure of a feature, or none can be measured on any exam.
        """
        place = f"modalities.{name}"
        measures = load_extractors()
        sources = [_source(feature, measures, place) for feature in kind.features]
        images = cast(ImageReader, records.site.modalities[self.images])
        found, warnings = exam_of_rows(records, images.exams(records.site), place)
        values = np.full((len(records), len(kind.features)), np.nan)
        aside: dict[int, SiteError] = {}
        for source in sorted(set(sources)):
            made = _measured(records, source, measures[source], images, found, f"measuring {source} for {name}")
            aside |= made.excluded
            for index, feature in enumerate(kind.features):
                if sources[index] == source:
                    values[:, index] = _column(made.values, feature, measures[source])
        values[list(aside)] = np.nan
        present = ~np.isnan(values).all(axis=1)
        if not present.any():
            raise _nothing(place, self.images, len(found))
        warnings += _gaps(place, kind.features, values, sum(not present[row] and row not in aside for row in found))
        return ModalityData(expand(kind.features, values), present, aside, warnings)


def _source(feature: Feature, measures: Mapping[str, Extractor], place: str) -> str:
    """The name of the measure that has a feature, in categories that the study knows, too."""
    known = {
        name: (source, measure.FEATURES[name]) for source, measure in measures.items() for name in measure.FEATURES
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


def _measured(
    records: Rows,
    name: str,
    measure: Extractor,
    images: ImageReader,
    exams: Mapping[int, ExamFiles | SiteError],
    what: str,
) -> ModalityData:
    """All features `(R, F)` of one measure; a category stands as its index, what is not defined as NaN."""
    libraries = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    recipe = f"measured {name} {measure.VERSION}\n{libraries}\n{images.model_dump_json()}"
    jobs = {
        row: files
        if isinstance(files, SiteError)
        else Job(files.files, functools.partial(_features, name, files, images.preprocessing), files.cache_key_extra)
        for row, files in exams.items()
    }
    out = np.full((len(records), len(measure.FEATURES)), np.nan)
    return load_rows(records.site, recipe, jobs, out, what)


def _features(name: str, files: ExamFiles, preprocessing: Preprocessing) -> NDArray[np.float64]:
    from client.imaging.preprocessing import preprocess

    measure = load_extractors()[name]
    found = measure.measure(preprocess(files.load(), preprocessing))
    return np.asarray([_number(found[key], categories) for key, categories in measure.FEATURES.items()])


def _number(value: float | str, categories: Sequence[str]) -> float:
    if isinstance(value, str):
        return float(categories.index(value)) if value else np.nan
    return value if np.isfinite(value) else np.nan


def _column(measured: NDArray[np.float64], feature: Feature, measure: Extractor) -> NDArray[np.float64]:
    """One feature `(R,)`; a category as its index among the study's."""
    column = measured[:, list(measure.FEATURES).index(feature.name)]
    if not feature.categories:
        return column
    names = measure.FEATURES[feature.name]
    return np.asarray([np.nan if np.isnan(index) else feature.categories.index(names[int(index)]) for index in column])


def _gaps(place: str, features: Sequence[Feature], values: NDArray[np.float64], without: int) -> list[str]:
    """Warnings of features that nobody has, and of exams that have none."""
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
