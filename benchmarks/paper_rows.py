"""Rows of the five papers' tables: what each compares its network with, as settings of our studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Learner = Literal["", "random forest", "XGBoost", "CatBoost", "SVM", "logistic regression", "MLP"]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: What it is called there.
        settings: Of the study, beside the table's.
        learner: A classifier of tables that learns from the pooled patients; empty: the network, federated.
        sees_image: Whether an image is among what it learns from.
        full: Whether it is the paper's own network, which the others are compared with.
        paper: The paper's figures.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    learner: Learner = ""
    sees_image: bool = False
    full: bool = False
    paper: str = ""


@dataclass(frozen=True)
class Table:
    """A table of one system on one data set.

    Attributes:
        system: Its letter.
        data: `synthetic`, or a data set of `real_data.py`.
        task: Its name.
        rows: Of the table.
        settings: Of all its studies.
        note: What the reader has to know.
    """

    system: str
    data: str
    task: str
    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def key(self) -> str:
        """As `A synthetic`."""
        return f"{self.system} {self.data}"


def _of(modalities: str, name: str = "", **more: Any) -> Row:
    return Row(name or modalities, {"modalities": modalities}, **more)


# Denoted as printed; where a paper gives accuracy and no AUC, accuracy.
CLASSIFIERS = (
    Row("random forest", learner="random forest", paper="AUC .89"),
    Row("XGBoost", learner="XGBoost", paper="AUC .91"),
    Row("CatBoost", learner="CatBoost", paper="AUC .87"),
    Row("SVM", learner="SVM"),
    Row("logistic regression", learner="logistic regression"),
    Row("MLP", learner="MLP"),
)
D_ROWS = (
    Row("1D-CNN, linear path", full=True, paper="AUC .96"),
    Row("1D-CNN alone", {"wide": False}),
    Row("logistic regression, federated", {"fusion": "late"}),
    *CLASSIFIERS,
)
SINGLE_TASK = tuple(Row(f"{name} alone", {"targets": name}, sees_image=True) for name in ("er", "pr", "her2"))

TABLES = (
    Table(
        "A",
        "synthetic",
        "recurrence_mri",
        (
            _of("mri", sees_image=True, paper="AUC .60"),
            _of("radiomics", sees_image=True),
            _of("clinical"),
            _of("genomic"),
            _of("clinical, genomic"),
            Row("all four", sees_image=True, full=True, paper="accuracy .72"),
        ),
        {"outcome": "binary"},
        "Radiomics are measured in the image.",
    ),
    Table(
        "A",
        "duke_5_years",
        "recurrence_mri",
        (Row("clinical"), Row("random forest", learner="random forest")),
        note="The public tables contain neither images nor genes, so they do not show what an image adds. Few of the "
        "tested patients have an event: the figures differ more between seeds than between rows.",
    ),
    Table(
        "B",
        "synthetic",
        "subtype_histology",
        (
            _of("tiles", "image", sees_image=True),
            _of("expression", "genes"),
            Row("concatenation", {"fusion": "concatenation"}, sees_image=True),
            Row("late", {"fusion": "late"}, sees_image=True),
            Row("cross-attention", sees_image=True, full=True, paper="F1 .94, area under precision-recall .99"),
        ),
    ),
    Table(
        "B",
        "tcga_multiomics",
        "subtype_histology",
        (
            _of("expression", "genes"),
            _of("mirna"),
            Row("late", {"fusion": "late"}),
            Row("both", full=True),
            Row("random forest", learner="random forest"),
            Row("logistic regression", learner="logistic regression"),
        ),
        {"targets": "basal_or_her2"},
        "No slides are available, so cross-attention has nothing to attend to; the paper's figures are of slides "
        "and genes together. Here genes alone leave nothing to gain.",
    ),
    Table(
        "C",
        "synthetic",
        "receptors_dce_mri",
        (
            *SINGLE_TASK,
            Row("no attention, no regions", {"fusion": "concatenation"}, sees_image=True),
            _of("radiomics", sees_image=True),
            Row("all receptors", sees_image=True, full=True, paper="AUC .893, .824, .857"),
        ),
        {"targets": "er, pr, her2"},
    ),
    Table(
        "C",
        "breastdcedl",
        "receptors_dce_mri",
        (
            Row("er alone", {"targets": "er"}, sees_image=True),
            Row("her2 alone", {"targets": "her2"}, sees_image=True),
            Row("no attention, no regions", {"fusion": "concatenation"}, sees_image=True),
            Row("both receptors", sees_image=True, full=True),
        ),
        note="Three slices per patient and no masks: the network's attention has no regions of the tumour to compare.",
    ),
    Table("D", "synthetic", "relapse_mammogram", D_ROWS, {"outcome": "binary"}),
    Table(
        "D",
        "cbis_ddsm",
        "relapse_mammogram",
        D_ROWS,
        {"outcome": "binary"},
        "Malignant or benign, from shape, margin and density; the paper's outcome is relapse. Its folds divide "
        "images, of which a patient has two: on simulated patients like the paper's, that alone raises a random "
        "forest from .75 to .90.",
    ),
    Table(
        "E",
        "synthetic",
        "receptors_brain_metastasis",
        (
            _of("brain_mri", "image", sees_image=True),
            _of("radiomics"),
            _of("anatomical_position", "position"),
            _of("brain_mri, radiomics", "image, radiomics", sees_image=True),
            _of("radiomics, anatomical_position", "radiomics, position"),
            *SINGLE_TASK,
            Row("all three", sees_image=True, full=True, paper="AUC .862, .899, .876"),
        ),
    ),
    Table(
        "E",
        "bcbm",
        "receptors_brain_metastasis",
        (
            _of("radiomics"),
            _of("anatomical_position", "position"),
            *(Row(f"{name} alone", {"targets": name}) for name in ("er", "pr", "her2")),
            Row("radiomics, position", full=True),
            Row("random forest", learner="random forest"),
        ),
        note="Split by patient: if lesions are split at random, the same tables reach .83 to .88, because a patient's "
        "lesions are alike. By patient no receptor is predicted with certainty. The images are not available.",
    ),
)
