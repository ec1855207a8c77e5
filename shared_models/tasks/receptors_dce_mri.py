"""System C: ER, PR, HER2 and Ki-67 from one early post-contrast image and the tumour's mask.

Zeng 2026 (arXiv:2601.07001): spatial attention over several scales says where to look, and the tumour's core, its
rim and the tissue around it are averaged apart and weighed. The published baselines are studies of this task:
`targets = "er"` learns one target alone, `modalities = "radiomics"` takes radiomics without the image, and
`fusion = "concatenation"` averages over the whole image, without attention and regions.
"""

from __future__ import annotations

from torch import nn

from shared_models.networks.image_encoder import ImageEncoder, TumourEncoder
from shared_models.networks.shared_trunk import fuse
from shared_models.networks.tabular import TabularEncoder
from shared_models.radiomics import duke_kinetics_features
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Regression
from shared_models.task import TRAINING_ON_IMAGES, Modality, Table, Task, Volume

FINEST_GRID_MM = 4.0  # of the first stage, whatever the study's voxels: finer than the rim's 5 mm


def build(task: Task, config: StudySettings) -> nn.Module:
    """The network with the study's fusion."""

    def encoder(name: str, kind: Modality, width: int) -> nn.Module:
        if not isinstance(kind, Volume):
            return TabularEncoder(task.tables[name].width, width, config.hidden_units)
        return (ImageEncoder if config.fusion == "concatenation" else TumourEncoder)(kind, width, FINEST_GRID_MM)

    return fuse(task, config, encoder)


TASK = Task(
    modalities={
        "dce_mri": Volume(shape=(2, 48, 96, 96), spacing_mm=(1.0, 1.0, 1.0), tumour=True),
        "radiomics": Table(duke_kinetics_features()),
    },
    targets={"er": Binary(), "pr": Binary(), "her2": Binary(), "ki67_percent": Regression(scale=20.0)},
    build_model=build,
    weights={"ki67_percent": 2.0},
    on_request=("radiomics",),
    training=TRAINING_ON_IMAGES,
)
