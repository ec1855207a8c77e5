"""System E: ER, PR and HER2 of breast cancer from a brain metastasis: image, radiomics and position.

As in 10.3389/fnhum.2026.1858163: a 3D residual network, radiomics and position joined, a trunk that the receptors
share, and a head for each. A row is one lesion.
"""

from __future__ import annotations

from torch import nn

from shared_models.features import parse_features
from shared_models.networks.image_encoder import ImageEncoder, TumourEncoder
from shared_models.networks.shared_trunk import fuse
from shared_models.networks.tabular import Shrunk, TabularEncoder
from shared_models.radiomics import pyradiomics_features
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import TRAINING_ON_IMAGES, Modality, Table, Task, Volume

FINEST_GRID_MM = 2.0  # of the first stage, whatever the study's voxels: half of TCIA's lesions measure below 7 mm
# Half of the variance of the 107 radiomic features lies along one line.
DIVISORS = {"radiomics": 3.0, "anatomical_position": 1.0}

POSITION = """
anatomical_position: hemisphere{left|right}, region{frontal|parietal|temporal|occipital|cerebellum|brainstem|deep}
"""


def build(task: Task, config: StudySettings) -> nn.Module:
    """The network with the study's fusion."""

    def encoder(name: str, kind: Modality, width: int) -> nn.Module:
        if not isinstance(kind, Volume):
            layer = TabularEncoder(task.tables[name].width, width, config.hidden_units)
            return nn.Sequential(Shrunk(DIVISORS[name]), layer)
        if config.fusion == "concatenation":
            return ImageEncoder(kind, width, FINEST_GRID_MM)
        return TumourEncoder(kind, width, FINEST_GRID_MM, attention=False)

    def path(name: str, kind: Modality, outputs: int) -> nn.Module:
        del kind
        return nn.Sequential(Shrunk(DIVISORS[name]), TabularEncoder(task.tables[name].width, outputs))

    return fuse(task, config, encoder, path)


TASK = Task(
    modalities={
        "brain_mri": Volume(shape=(2, 32, 32, 32), spacing_mm=(1.0, 1.0, 1.0), tumour=True),
        "radiomics": Table(pyradiomics_features()),
        **{name: Table(features) for name, features in parse_features(POSITION).items()},
    },
    targets={"er": Binary(), "pr": Binary(), "her2": Binary()},
    build_model=build,
    training={**TRAINING_ON_IMAGES, "local_epochs": 5},  # a lesion is small: with 3 its grain was still being learned
)
