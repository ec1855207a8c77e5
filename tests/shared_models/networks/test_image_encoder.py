import pytest
import torch
from torch import Tensor, nn

from shared_models.modalities import FAR_INSIDE_MM
from shared_models.networks.image_encoder import ImageEncoder, TumourEncoder
from shared_models.networks.standardisation import FixedStandardisation
from shared_models.task import Volume

KIND = Volume((2, 8, 12, 12), (4.0, 3.0, 3.0), tumour=True)


def encoders() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "image": ImageEncoder(KIND, 5, grid_mm=4.0),
        "tumour": TumourEncoder(KIND, 5, grid_mm=4.0),
        "tumour without attention": TumourEncoder(KIND, 5, grid_mm=4.0, attention=False),
    }


def volumes(rows: int) -> Tensor:
    volume = torch.rand(rows, *KIND.shape)
    volume[:, 1] = 40 * volume[:, 1] - 20
    return volume


@pytest.mark.parametrize("name", list(encoders()))
def test_patients_do_not_mix(name: str) -> None:
    encoder, images = encoders()[name].train(), volumes(3)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), rtol=1e-4, atol=1e-5)
    assert encoder(images[:0]).shape == (0, 5)


@pytest.mark.parametrize("name", list(encoders()))
@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_an_image_without_contrast_or_mask_is_no_division_by_zero(name: str, value: float) -> None:
    encoder, flat = encoders()[name], torch.full((2, *KIND.shape), value)
    flat[:, 1] = FAR_INSIDE_MM
    encoded = encoder(flat)
    encoded.sum().backward()
    assert encoded.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_regions_start_alike_and_a_patients_own_maps_weigh_them() -> None:
    encoder, images = encoders()["tumour"], volumes(2)
    gate = encoder.token.gate
    gates: list[Tensor] = []
    gate.register_forward_hook(lambda _, __, shares: gates.append(shares))
    encoder(images)
    torch.testing.assert_close(gates[-1], torch.ones(2, 4, 1))
    nn.init.normal_(gate.score.weight)
    encoder(images)
    torch.testing.assert_close(gates[-1].sum(dim=1), torch.full((2, 1), 4.0))
    assert not torch.allclose(gates[-1][0], gates[-1][1])


def test_an_image_of_another_grid_goes_through() -> None:
    for side in (1, 5, 9):
        kind = Volume((2, side, side, side), (2.0, 2.0, 2.0), tumour=True)
        assert TumourEncoder(kind, 3, grid_mm=4.0)(torch.rand(2, *kind.shape)).isfinite().all()


def test_every_scale_is_standardised_by_itself() -> None:
    encoder = encoders()["tumour"]
    widths = [layer.centre.numel() for layer in encoder.modules() if isinstance(layer, FixedStandardisation)]
    assert widths == [4 * width for width in (16, 8, 32, 64, 128)]
