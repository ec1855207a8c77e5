"""Saliency maps at a hospital: they show the voxels that a network reads, with the outline, of images alone."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.errors import SiteError
from client.imaging.planes import planes
from client.inference.saliency import SaliencyMap, require_images, saliency
from client.training.dataset import PatientDataset
from client.verbs.saliency_page import page_of
from shared_models.targets import Binary
from shared_models.task import Table, Volume
from shared_models.trained_model import TrainedModel

SHAPE = (2, 6, 8, 8)
CORNER = np.s_[1:3, 2:5, 2:5]


class ReadsACorner(nn.Module):
    """The mean of one corner of the image, and of its tumour's distance."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        corner = inputs["mri"][:, 0, *CORNER].mean(dim=(1, 2, 3))
        return {"label": (self.scale * corner + inputs["mri"][:, 1].mean()).unsqueeze(1)}


def patients() -> PatientDataset:
    image = np.random.default_rng(0).normal(5, 1, (1, *SHAPE)).astype(np.float32)
    image[:, 1] = -1
    image[0, 1, *CORNER] = 1  # the distance to the tumour's surface: the corner is inside
    one = np.ones((1, 1), bool)
    return PatientDataset({"mri": image}, one, {"label": np.ones(1)}, np.arange(2), np.ones(1), np.arange(1), 0, ["P"])


def test_a_map_is_of_the_voxels_that_the_network_reads_and_of_no_distance() -> None:
    _, heat = saliency(ReadsACorner(), patients(), 0, "mri", ("label", Binary()), tumour=True)
    inside = np.zeros(SHAPE[1:], bool)
    inside[CORNER] = True
    np.testing.assert_allclose(heat[inside], 3 / 18, rtol=1e-5)
    assert not heat[~inside].any()


class RemembersInputs(ReadsACorner):
    """The same, with what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        self.given.append(inputs["mri"].detach())
        return super().forward(inputs, present)


def test_noise_is_a_share_of_each_phases_own_deviation_and_leaves_the_mask_where_it_is() -> None:
    network, data = RemembersInputs(), patients()
    image = np.array(data.inputs["mri"])
    image[:, 1] *= 100  # millimetres
    saliency(network, dataclasses.replace(data, inputs={"mri": image}), 0, "mri", ("label", Binary()), tumour=True)
    noise = torch.cat(network.given).numpy() - image
    assert noise[:, 0].std() == pytest.approx(0.1 * image[:, 0].std(), rel=0.1)
    assert not noise[:, 1].any()


def test_of_a_slide_the_tiles_with_most_heat_are_shown() -> None:
    heat = np.zeros((5, 8, 8), np.float32)
    heat[3, 2:4], heat[1, 0] = 1.0, 0.5
    tiles = Volume(shape=(3, 5, 8, 8), spacing_mm=(1.0, 1.0, 1.0), tiles=True)
    image = np.full((3, 5, 8, 8), 0.5, np.float32)
    assert [one.plane for one in planes(image, tiles, heat)] == ["tile 4", "tile 2", "tile 1"]
    assert [one.plane for one in planes(image, tiles)] == ["tile 1", "tile 2", "tile 3"]


def test_the_page_has_outlined_planes_names_nobody_as_markup_and_loads_nothing() -> None:
    image, heat = saliency(ReadsACorner(), patients(), 0, "mri", ("label", Binary()), tumour=True)
    kind = Volume(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0), tumour=True)
    model = model_with({"mri": kind})
    page, plain = (
        page_of([SaliencyMap("P<1>", "mri", "label", image, shown, 2.0)], model) for shown in (heat, 0 * heat)
    )
    assert page.count("<img") == 3
    assert page != plain
    assert "P&lt;1&gt;: mri, label (2.00 times as much inside the mask)" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_network_without_images_has_no_maps() -> None:
    with pytest.raises(SiteError, match="only images have saliency maps"):
        require_images(model_with({"clinical": Table(())}))


def model_with(modalities: dict[str, Any]) -> TrainedModel:
    config = SimpleNamespace(study="small")
    return cast("TrainedModel", SimpleNamespace(task=SimpleNamespace(modalities=modalities), config=config, round=2))
