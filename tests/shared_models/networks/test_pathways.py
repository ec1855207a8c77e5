import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.networks.pathways import Pathways

sizes = st.integers(1, 9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), sizes, sizes, sizes, sizes)
def test_a_table_becomes_a_token_a_pathway(rows: int, width: int, outputs: int, pathways: int, rank: int) -> None:
    tokens = Pathways(width, outputs, pathways, rank)(torch.randn(rows, width))
    assert tokens.shape == (rows, pathways, outputs)


def test_each_pathway_has_genes_of_its_own() -> None:
    layer = Pathways(6, 4, pathways=3, rank=5)
    layer(torch.randn(20, 6))[:, 1].square().sum().backward()
    assert layer.activity.weight.grad is not None
    assert layer.activity.weight.grad.view(3, 5, 6).flatten(1).any(dim=1).tolist() == [False, True, False]


def test_600_genes_stay_small() -> None:
    assert sum(parameter.numel() for parameter in Pathways(2 * 645, 128).parameters()) < 350_000
