"""System C: ER, PR, HER2 and Ki-67 from one early post-contrast image and the tumour's mask.

Zeng 2026 (arXiv:2601.07001): spatial attention over several scales says where to look, and the tumour's core, its
rim and the tissue around it are averaged apart and weighed. The published baselines are studies of this task:
`targets = "er"` learns one target alone, `modalities = "radiomics"` takes radiomics without the image, and
`fusion = "concatenation"` averages over the whole image, without attention and regions.
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_models.networks.fusion import LateFusion
from shared_models.networks.resnet import RESNET_10, ResNet, ResNetEncoder, halvings
from shared_models.networks.shared_trunk import SharedTrunk
from shared_models.networks.spatial_attention import SpatialAttention
from shared_models.networks.tabular import TabularEncoder
from shared_models.networks.tumour_descriptors import DescriptorScores
from shared_models.networks.tumour_regions import REGIONS, RegionAverages, ScaledDistance, tumour_regions
from shared_models.networks.wide import LinearPaths
from shared_models.radiomics import duke_kinetics_features
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Regression
from shared_models.task import Table, Task, Volume

TOKEN_WIDTH = 128
FINEST_GRID_MM = 4.0  # of the first stage, whatever the study's voxels: finer than the rim's 5 mm


class TumourRegionEncoder(nn.Module):
    """ResNet-10, spatial attention, and the means over core, rim and peritumoural tissue side by side.

    The distance to the tumour's surface is also an input: means over regions alone would drop the tumour's size.

    Attributes:
        spacing_mm: Voxel size along `(D, H, W)`.
    """

    def __init__(self, kind: Volume, outputs: int) -> None:
        super().__init__()
        self.spacing_mm = kind.spacing_mm
        self.scaled = ScaledDistance()
        self.backbone = _backbone(kind)
        self.attention = SpatialAttention(len(RESNET_10))
        self.averages = RegionAverages()
        width = len(REGIONS) * sum(RESNET_10)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, 2, D, H, W)`, image and distance in mm, to `(N, outputs)`."""
        scales = self.backbone(self.scaled(volume))
        regions = tumour_regions(volume[:, -1:], self.spacing_mm)
        encoded: Tensor = self.project(self.averages(scales, regions, self.attention(scales)))
        return encoded


def build(task: Task, config: StudySettings) -> nn.Module:
    """A token a modality, a trunk that the targets share and a head for each; under late fusion logits a modality."""
    targets = {name: target.outputs for name, target in task.targets.items()}
    late = config.fusion == "late"
    width = sum(targets.values()) if late else TOKEN_WIDTH
    encoders: dict[str, nn.Module] = {}
    descriptors: dict[str, nn.Module] = {}
    for name, kind in task.modalities.items():
        if isinstance(kind, Table):
            encoders[name] = TabularEncoder(kind.width, width, config.hidden_units)
        elif isinstance(kind, Volume) and config.fusion == "concatenation":
            encoders[name] = nn.Sequential(ScaledDistance(), ResNetEncoder(_backbone(kind), width))
        elif isinstance(kind, Volume):
            encoders[name] = TumourRegionEncoder(kind, width)
            descriptors[name] = DescriptorScores(kind.spacing_mm, sum(targets.values()))
    if late:
        return LateFusion(encoders, targets)
    return SharedTrunk(encoders, width, targets, LinearPaths.of(task, scores=descriptors))


def _backbone(kind: Volume) -> ResNet:
    return ResNet(kind.shape[0], RESNET_10, halvings(kind.spacing_mm, FINEST_GRID_MM))


TASK = Task(
    modalities={
        "dce_mri": Volume(shape=(2, 48, 96, 96), spacing_mm=(1.0, 1.0, 1.0), tumour=True),
        "radiomics": Table(duke_kinetics_features()),
    },
    targets={"er": Binary(), "pr": Binary(), "her2": Binary(), "ki67_percent": Regression(scale=100.0)},
    build_model=build,
    weights={"ki67_percent": 2.0},
    on_request=("radiomics",),
)
