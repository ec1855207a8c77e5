import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared_models.networks.volume import VolumeEncoder

sides = st.integers(8, 14)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.integers(1, 5), st.tuples(sides, sides, sides), st.integers(1, 7))
def test_a_volume_of_any_size_becomes_its_outputs(
    rows: int, channels: int, shape: tuple[int, int, int], outputs: int
) -> None:
    encoder = VolumeEncoder(channels, outputs)
    encoded = encoder(torch.randn(rows, channels, *shape))
    assert encoded.shape == (rows, outputs)
    assert encoded.isfinite().all()


def test_patients_do_not_mix() -> None:
    encoder = VolumeEncoder(2, 4).train()
    volumes = torch.randn(3, 2, 8, 12, 12)
    torch.testing.assert_close(encoder(volumes)[:1], encoder(volumes[:1]), rtol=1e-4, atol=1e-5)
    assert not [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_a_volume_without_contrast_is_no_division_by_zero(value: float) -> None:
    encoder = VolumeEncoder(2, 4)
    encoded = encoder(torch.full((2, 2, 8, 12, 12), value))
    encoded.sum().backward()
    assert encoded.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_a_small_lesion_changes_the_encoding() -> None:
    torch.manual_seed(0)
    encoder, volume = VolumeEncoder(1, 8), 0.1 * torch.randn(1, 1, 16, 32, 32)
    lesion = volume.clone()
    lesion[..., 6:9, 14:18, 14:18] += 2.0
    assert (encoder(lesion) - encoder(volume)).abs().max() > 1e-2
