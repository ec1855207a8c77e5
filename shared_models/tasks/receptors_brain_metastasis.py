"""System E: ER, PR and HER2 of breast cancer from a brain metastasis: image, radiomics and position.

As in 10.3389/fnhum.2026.1858163: a 3D residual network, radiomics and position joined, a trunk that the receptors
share, and a head for each. A row is one lesion. Beside it, linear scores of the tables and of the lesion's descriptors,
which the image and its mask give at sites without radiomics too.
"""

from __future__ import annotations

from torch import nn

from shared_models.features import parse_features
from shared_models.networks.fusion import LateFusion
from shared_models.networks.resnet import ResNet, ResNetEncoder, halvings
from shared_models.networks.shared_trunk import SharedTrunk
from shared_models.networks.tabular import Shrunk, TabularEncoder, start_linear_at_zero
from shared_models.networks.tumour_descriptors import DescriptorScores
from shared_models.networks.tumour_regions import ScaledDistance
from shared_models.networks.wide import LinearPaths
from shared_models.radiomics import pyradiomics_features
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task, Volume

TOKEN_WIDTH = 128
# Half of ResNet-10's widths: cohorts of brain metastases are small.
WIDTHS = (16, 32, 64, 128)
FINEST_GRID_MM = 2.0  # of the first stage, whatever the study's voxels: half of TCIA's lesions measure below 7 mm
HIDDEN_UNITS = {"radiomics": 64, "anatomical_position": 16}
# Half of the variance of the 107 radiomic features lies along one line.
DIVISORS = {"radiomics": 3.0, "anatomical_position": 1.0}

POSITION = """
anatomical_position: hemisphere{left|right}, region{frontal|parietal|temporal|occipital|cerebellum|brainstem|deep}
"""


def build(task: Task, config: StudySettings) -> nn.Module:
    """A token a modality, a trunk that the targets share and a head for each; under late fusion logits a modality."""
    targets = {name: target.outputs for name, target in task.targets.items()}
    late, outputs = config.fusion == "late", sum(targets.values())
    width = outputs if late else TOKEN_WIDTH
    kinds = {name: kind for name, kind in task.modalities.items() if isinstance(kind, Table | Volume)}
    scores = {name: _scores(name, kind, outputs) for name, kind in kinds.items()}
    encoders = {name: _encoder(name, kind, width, config) for name, kind in kinds.items()}
    if late:
        return LateFusion(encoders, targets)
    return SharedTrunk(encoders, width, targets, LinearPaths.of(task, scores=scores))


def _encoder(name: str, kind: Table | Volume, width: int, config: StudySettings) -> nn.Module:
    """A table's layer is as wide as it has to say; the linear map after it only brings it to the tokens' width."""
    if isinstance(kind, Table):
        layer = TabularEncoder(kind.width, HIDDEN_UNITS[name], config.hidden_units)
        return nn.Sequential(Shrunk(DIVISORS[name]), layer, nn.ReLU(), nn.Linear(HIDDEN_UNITS[name], width))
    backbone = ResNet(kind.shape[0], WIDTHS, halvings(kind.spacing_mm, FINEST_GRID_MM))
    return nn.Sequential(ScaledDistance(), ResNetEncoder(backbone, width, WIDTHS))


def _scores(name: str, kind: Table | Volume, outputs: int) -> nn.Module:
    if isinstance(kind, Table):
        return nn.Sequential(Shrunk(DIVISORS[name]), start_linear_at_zero(TabularEncoder(kind.width, outputs)))
    return DescriptorScores(kind.spacing_mm, outputs)


TASK = Task(
    modalities={
        "brain_mri": Volume(shape=(2, 32, 32, 32), spacing_mm=(1.0, 1.0, 1.0), tumour=True),
        "radiomics": Table(pyradiomics_features()),
        **{name: Table(features) for name, features in parse_features(POSITION).items()},
    },
    targets={"er": Binary(), "pr": Binary(), "her2": Binary()},
    build_model=build,
)
