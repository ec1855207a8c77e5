"""Linear paths from tables to logits, beside a deep network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from shared_models.layers.fusion import Tokens
from shared_models.layers.tabular import TabularEncoder, start_linear_at_zero

if TYPE_CHECKING:
    from shared_models.task import Task


class LinearPaths(nn.Module):
    """The sum of a linear score of each table: the wide half of wide and deep (Cheng 2016, arXiv:1606.07792).

    It starts at zero. On some hundred patients a network alone stays below logistic regression on the same tables;
    with the paths it starts there and adds what is not linear.

    Args:
        tables: Width of each table.
        columns: Their columns in the presence mask.
        targets: Outputs of each target.
        hidden_units: Of a hidden layer beside each path; 0 keeps it linear.

    Example:
        >>> LinearPaths({"radiomics": 18}, [1], {"er": 1})({"radiomics": torch.zeros(5, 18)}, torch.ones(5, 2))
        {'er': tensor([[0.], [0.], [0.], [0.], [0.]], grad_fn=<SplitBackward0>)}
    """

    def __init__(
        self, tables: Mapping[str, int], columns: Sequence[int], targets: Mapping[str, int], hidden_units: int = 0
    ) -> None:
        super().__init__()
        self.columns, self.targets, outputs = list(columns), dict(targets), sum(targets.values())
        encoders = {
            name: start_linear_at_zero(TabularEncoder(width, outputs, hidden_units)) for name, width in tables.items()
        }
        self.tokens = Tokens(encoders, outputs)

    @classmethod
    def of(cls, task: Task, hidden_units: int = 0) -> LinearPaths | None:
        """The paths of a task's tables; None if it has none."""
        columns = [index for index, name in enumerate(task.modalities) if name in task.tables]
        targets = {name: target.outputs for name, target in task.targets.items()}
        tables = {name: table.width for name, table in task.tables.items()}
        return cls(tables, columns, targets, hidden_units) if tables else None

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Scores `{target: (N, outputs)}` of tables `{name: (N, width)}` and presence `(N, M)`."""
        scores = self.tokens(inputs, present[:, self.columns]).sum(dim=1)
        return dict(zip(self.targets, scores.split(list(self.targets.values()), dim=1), strict=True))
