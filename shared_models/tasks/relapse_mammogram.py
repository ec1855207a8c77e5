"""System D: time to relapse from size, shape, margin and density of a mammogram's finding, and its subtype.

A convolution over a table, after 10.3389/fonc.2025.1593806. With `fusion = "late"` it is a logistic regression, or
with `hidden-units` a multilayer perceptron: the baselines that a network of five features has to beat.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from shared_models.features import parse_features
from shared_models.networks.shared_trunk import fuse
from shared_models.networks.standardisation import FixedStandardisation
from shared_models.networks.tabular import KNOTS, Hinges, TabularEncoder
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import Modality, Table, Task

# The order of the categories is the paper's codes 0 to 3.
TABLES = """
mammography: size_mm:log, shape{oval|round_or_irregular|asymmetric|distorted}, margin{circumscribed|obscured_or_microlobulated|ill_defined|spiculated}, density{fatty|scattered|heterogeneous|extremely_dense}, subtype{luminal_a|luminal_b|her2|triple_negative}
"""  # noqa: E501 - one modality a line


class TableConvolution(nn.Module):
    """Spreads a table over 16 positions of 16 channels and convolves along them.

    Of what each layer gives a share is dropped in each step: without that, the network knows some hundred training
    patients by heart after ten of twenty rounds, and a study without validation scores, as of hospitals with few
    relapses, is left with it. With dropout alone the network would begin to find a threshold in a number only when the
    learning rate is about to end: so the numbers come with hinges.

    Args:
        width: Columns of the table.
        outputs: Width of the token.
        numbers: Which columns are numbers.

    Example:
        >>> import torch
        >>> TableConvolution(34, 32, numbers=[0])(torch.zeros(5, 34)).shape
        torch.Size([5, 32])
    """

    def __init__(self, width: int, outputs: int, numbers: Sequence[int] = ()) -> None:
        super().__init__()
        self.hinges = Hinges(numbers)
        self.spread = nn.Linear(width + len(numbers) * len(KNOTS), 16 * 16)
        self.dropout = nn.Dropout(0.5)
        self.stages = nn.Sequential(
            nn.Conv1d(16, 32, 3, padding=1),
            nn.GroupNorm(8, 32),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.AvgPool1d(2),
            nn.Conv1d(32, 64, 3, padding=1),
            nn.GroupNorm(8, 64),
            nn.ReLU(),
        )
        self.standardised = FixedStandardisation(64)
        self.last_dropout = nn.Dropout(0.3)
        self.project = nn.Linear(64, outputs)
        nn.init.normal_(self.project.weight)  # the token's numbers are of the order of 1

    def forward(self, table: Tensor) -> Tensor:
        """Maps `(N, width)` to `(N, outputs)`."""
        maps = self.stages(self.dropout(self.spread(self.hinges(table))).unflatten(1, (16, 16)))
        encoded: Tensor = self.project(self.last_dropout(self.standardised(maps.mean(dim=2))))
        return encoded


def build_model(task: Task, config: StudySettings) -> nn.Module:
    """The network with the study's fusion.

    The paper's network has no linear path. Its normalisation forgets how large a table's values are, and alone it
    stays .03 of AUC below logistic regression on 780 patients; beside the path it adds what is not linear.
    """

    def encoder(name: str, kind: Modality, width: int) -> nn.Module:
        del kind
        table = task.tables[name]
        if config.fusion == "late":
            return TabularEncoder(table.width, width, config.hidden_units)
        return TableConvolution(table.width, width, table.numbers)

    return fuse(task, config, encoder)


TASK = Task(
    modalities={name: Table(features) for name, features in parse_features(TABLES).items()},
    targets={"relapse": TimeToEvent()},
    build_model=build_model,
    training={
        "learning_rate": 0.003,
        "learning_rate_schedule": "cosine",
        "local_epochs": 3,
        "batch_size": 8,
        "weight_decay": 0.1,
        "wide_learning_rate_factor": 30.0,
        "clip_gradients": 1.0,
    },
)
