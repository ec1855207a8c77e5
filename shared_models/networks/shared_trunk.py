"""Multi-task network: several targets from one representation of all modalities."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from shared_models.networks.fusion import Tokens
from shared_models.networks.wide import LinearPaths


class SharedTrunk(nn.Module):
    """Hard parameter sharing: the tokens side by side, one hidden layer for all targets, a linear head for each.

    Beside it, if given, the linear paths of the tables.

    Caruana 1997 (10.1023/A:1007379606734). Receptors are correlated, and a patient whose one receptor is unknown
    still teaches the trunk by the others.

    Example:
        >>> import torch
        >>> trunk = SharedTrunk({"radiomics": nn.Linear(18, 64)}, 64, {"er": 1, "ki67_percent": 1})
        >>> trunk({"radiomics": torch.zeros(5, 18)}, torch.ones(5, 1))["er"].shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        width: int,
        targets: Mapping[str, int],
        wide: LinearPaths | None = None,
        hidden_units: int = 128,
    ) -> None:
        super().__init__()
        self.tokens = Tokens(encoders, width)
        joined = len(encoders) * width
        self.trunk = nn.Sequential(nn.ReLU(), nn.Linear(joined, hidden_units), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.ModuleDict({name: nn.Linear(hidden_units, outputs) for name, outputs in targets.items()})
        self.wide = wide
        if wide is not None:  # then the linear paths are the whole network at first
            for head in self.output_layers().values():
                nn.init.zeros_(head.weight)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Logits `{target: (N, outputs)}` of inputs `{name: (N, ...)}` and presence `(N, M)`."""
        shared = self.trunk(self.tokens(inputs, present).flatten(start_dim=1))
        deep = {name: head(shared) for name, head in self.heads.items()}
        if self.wide is None:
            return deep
        return {name: deep[name] + score for name, score in self.wide(inputs, present).items()}

    def output_layers(self) -> dict[str, nn.Linear]:
        """The layer of each target whose bias starts at the base rate."""
        return {name: head for name, head in self.heads.items() if isinstance(head, nn.Linear)}
