"""System B: molecular subtype from histology tiles and gene expression.

Tiles and pathways of genes become tokens that attend to each other; beside them products of what both say, and a
linear path from the genes, which alone decides most of the subtype. The images come as features that the site's
pretrained network made of 50 tiles, or as the pixels of 16; expression is as the site gives it, and a study of
counts lists its genes with `:log`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared_models.features import parse_features
from shared_models.networks.cross_attention import MutualAttention
from shared_models.networks.fusion import FusionHead, LateFusion, ProductHead, TokenSets
from shared_models.networks.pathways import Pathways
from shared_models.networks.pretrained import PretrainedTiles
from shared_models.networks.tabular import TabularEncoder, start_at_zero
from shared_models.networks.tiles import MeanOfTokens, RawTiles, TileFeatures
from shared_models.networks.wide import LinearPaths
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical
from shared_models.task import TRAINING_ON_IMAGES, Bag, Modality, Table, Task, Volume

TOKEN_WIDTH = 128
PATHWAYS = 16

# The PAM50 genes (Parker 2009, 10.1200/JCO.2008.18.1370), and miRNAs that differ between the subtypes.
TABLES = """
expression: ACTR3B, ANLN, BAG1, BCL2, BIRC5, BLVRA, CCNB1, CCNE1, CDC20, CDC6, CDH3, CENPF, CEP55, CXXC5, EGFR, ERBB2, ESR1, EXO1, FGFR4, FOXA1, FOXC1, GPR160, GRB7, KIF2C, KRT14, KRT17, KRT5, MAPT, MDM2, MELK, MIA, MKI67, MLPH, MMP11, MYBL2, MYC, NAT1, NDC80, NUF2, ORC6, PGR, PHGDH, PTTG1, RRM2, SFRP1, SLC39A6, TMEM45B, TYMS, UBE2C, UBE2T
mirna: hsa-mir-10b, hsa-mir-18a, hsa-mir-21, hsa-mir-135b, hsa-mir-155, hsa-mir-190b, hsa-mir-200c, hsa-mir-205, hsa-mir-221, hsa-mir-342
"""  # noqa: E501 - one modality a line


class SubtypeHistologyNet(nn.Module):
    """Tokens of images and of genes, beside a line from the genes.

    Where a study has both they attend to each other, and what they say before that is multiplied.
    """

    def __init__(self, task: Task, config: StudySettings) -> None:
        super().__init__()
        kinds = task.modalities
        self.outputs = {name: target.outputs for name, target in task.targets.items()}
        counts = {name: _token_count(kind) for name, kind in kinds.items()}
        self.tokens = TokenSets(
            {name: _token_encoder(kind, config) for name, kind in kinds.items()}, counts, TOKEN_WIDTH
        )
        images = [name for name, kind in kinds.items() if not isinstance(kind, Table)]
        self.sides = [side for side in (images, list(task.tables)) if side]
        self.norms = nn.ModuleList(nn.LayerNorm(TOKEN_WIDTH) for _ in self.sides)
        attends = config.fusion == "task" and len(self.sides) == 2
        self.attention = MutualAttention(TOKEN_WIDTH) if attends else None
        self.heads = nn.ModuleDict(
            {name: FusionHead(2 * len(self.sides), TOKEN_WIDTH, count, 64) for name, count in self.outputs.items()}
        )
        width = 2 * TOKEN_WIDTH
        self.products = nn.ModuleDict(
            {name: ProductHead(width, width, count) for name, count in self.outputs.items()} if attends else {}
        )
        self.wide = LinearPaths.of(task, config)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Logits of each target from images and tables.

        Args:
            inputs: `tile_features` `(N, T, W)`, `tiles` `(N, 3, T, H, W)`, tables `(N, width)`.
            present: `(N, M)`, 1 where a patient has the modality.

        Returns:
            `{target: (N, outputs)}`.
        """
        tokens = self.tokens(inputs, present)
        sides = [
            norm(torch.cat([tokens[name] for name in names], dim=1))
            for norm, names in zip(self.norms, self.sides, strict=True)
        ]
        before = [_pooled(side) for side in sides]
        after = before if self.attention is None else [_pooled(side) for side in self.attention(*sides)]
        logits = {name: head(torch.cat(after, dim=1)) for name, head in self.heads.items()}
        for name, product in self.products.items():
            logits[name] = logits[name] + product(*(side.flatten(start_dim=1) for side in before))
        if self.wide is None:
            return logits
        return {name: logits[name] + score for name, score in self.wide(inputs, present).items()}

    def output_layers(self) -> dict[str, nn.Linear]:
        """The layer of each target whose bias starts at the base rate."""
        return {name: head.linear for name, head in self.heads.items() if isinstance(head, FusionHead)}


def _pooled(tokens: Tensor) -> Tensor:
    """Mean and maximum `(N, 2, width)` over tokens `(N, T, width)`: a few tiles may tell what the mean of all hides."""
    return torch.stack([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)


def build_model(task: Task, config: StudySettings) -> nn.Module:
    """The network with the study's fusion."""
    if config.fusion != "late":
        return SubtypeHistologyNet(task, config)
    outputs = {name: target.outputs for name, target in task.targets.items()}
    total = sum(outputs.values())
    encoders = {
        name: start_at_zero(
            TabularEncoder(kind.width, total, config.hidden_units)
            if isinstance(kind, Table)
            else nn.Sequential(_token_encoder(kind, config), MeanOfTokens(), nn.Linear(TOKEN_WIDTH, total))
        )
        for name, kind in task.modalities.items()
    }
    return LateFusion(encoders, outputs)


def _token_encoder(kind: Modality, config: StudySettings) -> nn.Module:
    if isinstance(kind, Table):
        return Pathways(kind.width, TOKEN_WIDTH, PATHWAYS)
    if isinstance(kind, Bag):
        return TileFeatures(kind.shape[1], TOKEN_WIDTH)
    if config.backbone != "task":
        return PretrainedTiles(TOKEN_WIDTH, config.backbone)
    return RawTiles(kind.shape[0], TOKEN_WIDTH)


def _token_count(kind: Modality) -> int:
    if isinstance(kind, Table):
        return PATHWAYS
    return kind.shape[0] if isinstance(kind, Bag) else kind.shape[1]


TASK = Task(
    modalities={
        "tile_features": Bag(shape=(50, 2048)),
        "tiles": Volume(shape=(3, 16, 64, 64), spacing_mm=(1.0, 1.0, 1.0), tiles=True),
        **{name: Table(features) for name, features in parse_features(TABLES).items()},
    },
    targets={"basal_or_her2": Binary(), "pam50": Categorical(("LumA", "LumB", "Her2", "Basal"))},
    build_model=build_model,
    on_request=("tiles", "mirna"),
    # Faster, or with more patients who show one side alone, the network learns them by heart before it finds what tiles
    # and genes say together only.
    training={
        **TRAINING_ON_IMAGES,
        "learning_rate": 0.0005,
        "wide_learning_rate_factor": 40.0,
        "modality_dropout": 0.1,
    },
)
