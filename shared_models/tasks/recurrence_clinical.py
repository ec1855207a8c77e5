"""Recurrence as time to event from clinical and genomic tables, with any feature list.

A discrete-time proportional-odds hazard (Tutz & Schmid 2016, 10.1007/978-3-319-28158-2): each table adds to one
risk score, and a line for each interval turns the score into a hazard. With `hidden-units = 0` the score is
linear, which small cohorts support best; more units add a hidden layer to each table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared_models.features import parse_features
from shared_models.networks.fusion import Tokens
from shared_models.networks.tabular import Shrunk, TabularEncoder, start_at_zero
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task

CLINICAL = """
clinical: age_years, size_mm, nodes{negative|positive}, er{negative|positive}, pr{negative|positive}, her2{negative|positive}
genomic: HER2, BRCA1, ESR1, PGR
"""  # noqa: E501 - one modality a line


USUAL_COLUMNS = 32


def encoder_of(table: Table, config: StudySettings) -> nn.Module:
    """The score of a table, which starts at zero.

    A table wider than usual is divided by the root of how much wider it is: the penalty of its weights and the steps
    they take are then those of a usual table, however many genes it has.
    """
    encoder = TabularEncoder(table.width, 1, config.hidden_units)
    wider = len(table.columns) / USUAL_COLUMNS
    return start_at_zero(encoder if wider <= 1 else nn.Sequential(Shrunk(math.sqrt(wider)), encoder))


class RecurrenceClinicalNet(nn.Module):
    """Adds the tables' scores and spreads the sum over the intervals."""

    def __init__(self, task: Task, config: StudySettings) -> None:
        super().__init__()
        encoders = {name: encoder_of(table, config) for name, table in task.tables.items()}
        self.tokens = Tokens(encoders, width=1)
        self.hazards = nn.Linear(1, task.targets["recurrence"].outputs)
        with torch.no_grad():
            nn.init.ones_(self.hazards.weight)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Hazard logits `{"recurrence": (N, K)}` of tables `{name: (N, width)}` and presence `(N, M)`."""
        risk = self.tokens(inputs, present).sum(dim=1)
        return {"recurrence": self.hazards(risk)}

    def output_layers(self) -> dict[str, nn.Linear]:
        """The layer of each target whose bias starts at the base rate."""
        return {"recurrence": self.hazards}


TASK = Task(
    modalities={name: Table(features) for name, features in parse_features(CLINICAL).items()},
    targets={"recurrence": TimeToEvent()},
    build_model=RecurrenceClinicalNet,
    # AdamW takes as large a step for a rare feature as for a common one, and ends far from the optimum in the rounds of
    # a usual study. Plain descent reaches it, with a ridge penalty: chosen on validation patients (docs/real_data.md)
    training={
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "local_epochs": 3,
        "weight_decay": 0.03,
        "clip_gradients": 1.0,  # a wide table of correlated columns would make such steps grow
    },
)
