"""System A: time to recurrence from 4-phase MRI, radiomics, clinical and genomic tables.

Every modality becomes a token; a patient or a site that lacks one brings a learned token in its place. The tokens are
joined in a trunk, or with `fusion = "late"` each is the modality's own logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.features import parse_features
from shared_models.networks.image_encoder import ImageEncoder
from shared_models.networks.shared_trunk import fuse
from shared_models.networks.tabular import TabularEncoder
from shared_models.radiomics import duke_kinetics_features
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import TRAINING_ON_IMAGES, Modality, Table, Task, Volume

FINEST_GRID_MM = 4.0  # of the first stage, whatever the study's voxels
WIDTHS = (32, 64)  # with the stem, the paper's three convolutions

TABLES = """
clinical: age_years, size_mm, nodes{negative|positive}, er{negative|positive}, pr{negative|positive}, her2{negative|positive}
genomic: HER2, BRCA1, ESR1, PGR
"""  # noqa: E501 - one modality a line


class Enhancement(nn.Module):
    """The image before contrast, and what each later phase adds to it, as a radiologist subtracts them."""

    def forward(self, phases: Tensor) -> Tensor:
        """Maps `(N, P, D, H, W)`, the image before contrast first, to the same shape."""
        before = phases[:, :1]
        return torch.cat([before, phases[:, 1:] - before], dim=1)


def build_model(task: Task, config: StudySettings) -> nn.Module:
    """The network with the study's fusion."""

    def encoder(name: str, kind: Modality, width: int) -> nn.Module:
        if isinstance(kind, Volume):
            return nn.Sequential(Enhancement(), ImageEncoder(kind, width, FINEST_GRID_MM, WIDTHS))
        return TabularEncoder(task.tables[name].width, width, config.hidden_units)

    return fuse(task, config, encoder)


TASK = Task(
    modalities={
        "mri": Volume(shape=(4, 32, 64, 64), spacing_mm=(2.0, 1.0, 1.0)),
        "radiomics": Table(duke_kinetics_features()),
        **{name: Table(features) for name, features in parse_features(TABLES).items()},
    },
    targets={"recurrence": TimeToEvent()},
    build_model=build_model,
    training=TRAINING_ON_IMAGES,
)
