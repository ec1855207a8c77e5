"""Multi-task network: several targets from one representation of all modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from torch import Tensor, nn

from shared_models.networks.fusion import LateFusion, OutputLines, ProductHead, Tokens
from shared_models.networks.pretrained import PretrainedVolume
from shared_models.networks.tabular import start_at_zero
from shared_models.networks.wide import LinearPaths
from shared_models.task import Volume

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings
    from shared_models.task import Modality, Task

TOKEN_WIDTH = 64


class SharedTrunk(nn.Module):
    """Hard parameter sharing: the tokens side by side, one hidden layer for all targets, a linear head for each.

    Beside the hidden layer a linear map of the tokens, products of each two modalities' tokens, and, if given, the
    linear paths of the tables. All start at zero, so that at first the base rate is the whole prediction at every site
    and seed. Without the products an exclusive or of an image and a table is not learned in as many rounds as a small
    network needs on pooled patients (docs/phantoms.md).

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
        hidden_units: int = 64,
        scores: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        scores = scores or targets
        self.tokens = Tokens(encoders, width)
        joined = len(encoders) * width
        self.trunk = nn.Sequential(nn.Linear(joined, hidden_units), nn.ReLU(), nn.Dropout(0.2))
        self.linear = nn.ModuleDict({name: nn.Linear(joined, count, bias=False) for name, count in scores.items()})
        self.heads = nn.ModuleDict({name: nn.Linear(hidden_units, count, bias=False) for name, count in scores.items()})
        self.pairs = list(combinations(range(len(encoders)), 2))
        self.counts = list(scores.values())
        self.products = nn.ModuleList(ProductHead(width, width, sum(self.counts)) for _ in self.pairs)
        self.wide = wide
        self.outputs = OutputLines(targets, scores)
        for layer in (*self.linear.values(), *self.heads.values()):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Outputs `{target: (N, outputs)}` of inputs `{name: (N, ...)}` and presence `(N, M)`."""
        tokens = self.tokens(inputs, present)
        joined = tokens.flatten(start_dim=1)
        hidden = self.trunk(joined)
        scores = {name: self.linear[name](joined) + head(hidden) for name, head in self.heads.items()}
        for (one, other), products in zip(self.pairs, self.products, strict=True):
            together = products(tokens[:, one], tokens[:, other]).split(self.counts, dim=1)
            scores = {name: score + more for (name, score), more in zip(scores.items(), together, strict=True)}
        if self.wide is not None:
            scores = {name: scores[name] + score for name, score in self.wide(inputs, present).items()}
        outputs: dict[str, Tensor] = self.outputs(scores)
        return outputs

    def output_layers(self) -> dict[str, nn.Linear]:
        """The layer of each target whose bias starts at the base rate."""
        return self.outputs.lines()


def fuse(
    task: Task,
    config: StudySettings,
    encoder: Callable[[str, Modality, int], nn.Module],
    path: Callable[[str, Modality, int], nn.Module] | None = None,
) -> nn.Module:
    """The network of a task with the study's fusion: a shared trunk, or under late fusion logits of each modality.

    Args:
        task: What is learned.
        config: The study.
        encoder: Makes a modality's encoder from its name, its kind and the width of its token or of its logits.
        path: Makes a table's linear path likewise; by default a linear map of its standardised columns.
    """
    if config.backbone != "task":
        encoder = _with_backbone(config.backbone, encoder)
    targets = {name: target.outputs for name, target in task.targets.items()}
    scores = {name: target.scores for name, target in task.targets.items()}
    total = sum(scores.values())
    if config.fusion == "late":
        own = {name: start_at_zero(encoder(name, kind, total)) for name, kind in task.modalities.items()}
        return LateFusion(own, targets, scores)
    encoders = {name: encoder(name, kind, TOKEN_WIDTH) for name, kind in task.modalities.items()}
    paths = {name: path(name, table, total) for name, table in task.tables.items()} if path else None
    return SharedTrunk(encoders, TOKEN_WIDTH, targets, LinearPaths.of(task, config, paths), scores=scores)


def _with_backbone(
    backbone: str, otherwise: Callable[[str, Modality, int], nn.Module]
) -> Callable[[str, Modality, int], nn.Module]:
    """An encoder of a published architecture for each image."""

    def encoder(name: str, kind: Modality, width: int) -> nn.Module:
        return PretrainedVolume(kind, width, backbone) if isinstance(kind, Volume) else otherwise(name, kind, width)

    return encoder
