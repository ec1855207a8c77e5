"""System A: time to recurrence from 4-phase MRI, radiomics, clinical and genomic tables.

Every modality becomes a token; a patient or a site that lacks one brings a learned token in its place. The tokens are
concatenated, or with `fusion = "late"` each is the modality's own logit.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from shared_models.features import parse_features
from shared_models.networks.fusion import FusionHead, LateFusion, Tokens
from shared_models.networks.tabular import TabularEncoder, start_linear_at_zero
from shared_models.networks.volume import VolumeEncoder
from shared_models.networks.wide import LinearPaths
from shared_models.radiomics import duke_kinetics_features
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task, Volume

TOKEN_WIDTH = 16

TABLES = """
clinical: age_years, size_mm, nodes{negative|positive}, er{negative|positive}, pr{negative|positive}, her2{negative|positive}
genomic: HER2, BRCA1, ESR1, PGR
"""  # noqa: E501 - one modality a line


class RecurrenceMriNet(nn.Module):
    """Tokens of all modalities, end to end, into the outputs, beside a linear path from each table."""

    def __init__(self, task: Task, config: StudySettings) -> None:
        super().__init__()
        encoders = _encoders(task, config, TOKEN_WIDTH)
        self.tokens = Tokens(encoders, TOKEN_WIDTH)
        self.head = FusionHead(len(encoders), TOKEN_WIDTH, task.targets["recurrence"].outputs)
        nn.init.zeros_(self.head.linear.weight)
        self.wide = LinearPaths.of(task, config.hidden_units)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Hazard logits `{"recurrence": (N, K)}` of `mri` `(N, 4, D, H, W)`, tables `(N, width)`, presence `(N, M)`."""
        logit = self.head(self.tokens(inputs, present))
        return {"recurrence": logit if self.wide is None else logit + self.wide(inputs, present)["recurrence"]}

    def output_layers(self) -> dict[str, nn.Linear]:
        """The layer of each target whose bias starts at the base rate."""
        return {"recurrence": self.head.linear}


def build_model(task: Task, config: StudySettings) -> nn.Module:
    """The network with the study's fusion."""
    if config.fusion != "late":
        return RecurrenceMriNet(task, config)
    outputs = task.targets["recurrence"].outputs
    encoders = _encoders(task, config, outputs)
    for encoder in encoders.values():
        if isinstance(encoder, TabularEncoder):
            start_linear_at_zero(encoder)
    return LateFusion(encoders, {"recurrence": outputs})


def _encoders(task: Task, config: StudySettings, width: int) -> dict[str, nn.Module]:
    return {
        name: TabularEncoder(kind.width, width, config.hidden_units)
        if isinstance(kind, Table)
        else VolumeEncoder(kind.shape[0], width)
        for name, kind in task.modalities.items()
    }


TASK = Task(
    modalities={
        "mri": Volume(shape=(4, 32, 64, 64), spacing_mm=(2.0, 1.0, 1.0)),
        "radiomics": Table(duke_kinetics_features()),
        **{name: Table(features) for name, features in parse_features(TABLES).items()},
    },
    targets={"recurrence": TimeToEvent()},
    build_model=build_model,
)
