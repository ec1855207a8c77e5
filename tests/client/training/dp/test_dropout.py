"""Dropout by each patient's own draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from client.training.dp.dropout import PatientDropout, current_draws, replace_dropout, use_draws
from client.training.dp.randomness import fingerprints, patient_draws

NAMES = [f"patient {number}" for number in range(40)]


def draws(names=NAMES, step=0):
    return patient_draws(0, step, fingerprints(names))


def test_it_drops_at_the_rate_and_keeps_the_mean():
    layer = PatientDropout(0.3)
    use_draws(layer, draws())
    output = layer(torch.ones(40, 50, 20))
    assert (output == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert output.mean().item() == pytest.approx(1.0, abs=0.015)
    assert output.unique().tolist() == pytest.approx([0.0, 1 / 0.7])


def test_a_patients_mask_depends_on_nobody_else():
    layer = PatientDropout(0.5)
    use_draws(layer, draws())
    together = layer(torch.ones(40, 9))
    use_draws(layer, draws(NAMES[7:8]))
    assert torch.equal(layer(torch.ones(1, 9))[0], together[7])


def test_layers_steps_and_uses_have_masks_of_their_own():
    layers = nn.Sequential(PatientDropout(0.5), PatientDropout(0.5))
    masks = []
    for step in (0, 1):
        use_draws(layers, draws(step=step))
        masks += [layers[0](torch.ones(40, 16)), layers[1](torch.ones(40, 16)), layers[0](torch.ones(40, 16))]
    for index, one in enumerate(masks):
        assert all((one == other).float().mean() < 0.6 for other in masks[index + 1 :])


def test_scoring_drops_nothing_and_takes_no_draws():
    layer = PatientDropout(0.9).eval()
    assert torch.equal(layer(torch.ones(2, 3)), torch.ones(2, 3))


def test_what_is_dropped_is_zero_even_where_it_was_no_number():
    layer = PatientDropout(0.5)
    use_draws(layer, draws())
    output = layer(torch.full((40, 10), torch.inf))
    assert set(output.unique().tolist()) == {0.0, torch.inf}


def test_no_masks_without_draws():
    with pytest.raises(RuntimeError, match="draws"):
        PatientDropout(0.5)(torch.ones(2, 2))


def test_every_dropout_of_a_network_is_replaced_and_the_weights_keep_their_names():
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Dropout(0.4), nn.Linear(3, 1)))
    names = list(model.state_dict())
    assert current_draws(model) is None
    replace_dropout(model)
    assert list(model.state_dict()) == names
    assert model[1][0].drop_prob == 0.4
    own = draws()
    use_draws(model, own)
    assert current_draws(model) is own
