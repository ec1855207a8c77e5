"""Linear paths from tables to logits, beside a deep network (wide and deep)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from shared_models.networks.fusion import Tokens
from shared_models.networks.tabular import TabularEncoder, start_at_zero

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings
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
    def of(cls, task: Task, config: StudySettings, paths: Mapping[str, nn.Module] | None = None) -> LinearPaths | None:
        """The paths of a task's tables; None if it has none, or the study wants none.

        Args:
            task: The task.
            config: The study; its `hidden_units` are those of a hidden layer beside each path.
            paths: Of tables that are scored other than by their standardised columns.
        """
        if not config.wide or not task.tables:
            return None
        targets = {name: target.scores for name, target in task.targets.items()}
        outputs = sum(targets.values())
        encoders = {
            name: start_at_zero((paths or {}).get(name) or TabularEncoder(table.width, outputs, config.hidden_units))
            for name, table in task.tables.items()
        }
        columns = {name: index for index, name in enumerate(task.modalities)}
        return cls(encoders, [columns[name] for name in encoders], targets)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Scores `{target: (N, outputs)}` of inputs `{name: (N, ...)}` and presence `(N, M)`."""
        scores = self.tokens(inputs, present[:, self.columns]).sum(dim=1)
        return dict(zip(self.targets, scores.split(list(self.targets.values()), dim=1), strict=True))
