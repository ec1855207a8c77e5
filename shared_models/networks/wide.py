"""Linear paths from tables to logits, beside a deep network (wide and deep)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from shared_models.networks.fusion import Tokens
from shared_models.networks.tabular import TabularEncoder, start_linear_at_zero

if TYPE_CHECKING:
    from shared_models.task import Task


class LinearPaths(nn.Module):
    """The sum of a linear score of each table: the wide half of wide and deep (Cheng 2016, arXiv:1606.07792).

    It starts at zero. On some hundred patients a network alone stays below logistic regression on the same tables;
    with the paths it starts there and adds what is not linear.

    Args:
        encoders: Maps a modality to its scores `(N, sum of outputs)`.
        columns: The modalities' columns in the presence mask.
        targets: Outputs of each target.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], columns: Sequence[int], targets: Mapping[str, int]) -> None:
        super().__init__()
        self.columns, self.targets = list(columns), dict(targets)
        self.tokens = Tokens(encoders, sum(targets.values()))

    @classmethod
    def of(cls, task: Task, hidden_units: int = 0, scores: Mapping[str, nn.Module] | None = None) -> LinearPaths | None:
        """The paths of a task's tables, and of modalities that have scores of their own; None if there are none.

        Args:
            task: The task.
            hidden_units: Of a hidden layer beside each table's path; 0 keeps it linear.
            scores: What scores an image, or a table other than by its standardised columns.
        """
        targets = {name: target.outputs for name, target in task.targets.items()}
        outputs = sum(targets.values())
        encoders: dict[str, nn.Module] = dict(scores or {})
        for name, table in task.tables.items():
            if name not in encoders:
                encoders[name] = start_linear_at_zero(TabularEncoder(table.width, outputs, hidden_units))
        columns = {name: index for index, name in enumerate(task.modalities)}
        return cls(encoders, [columns[name] for name in encoders], targets) if encoders else None

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Scores `{target: (N, outputs)}` of inputs `{name: (N, ...)}` and presence `(N, M)`."""
        scores = self.tokens(inputs, present[:, self.columns]).sum(dim=1)
        return dict(zip(self.targets, scores.split(list(self.targets.values()), dim=1), strict=True))
