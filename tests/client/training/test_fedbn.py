from __future__ import annotations

import pytest
import torch
from torch import nn

from client.training.fedbn import restore, store_local_layers
from shared_models.settings import SettingsError
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from shared_models.trained_parts import build_network, normalisation_names


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Conv3d(1, 4, 3), nn.GroupNorm(2, 4))
        self.norm = nn.LayerNorm(3)
        self.out = nn.Linear(3, 1)


def test_the_names_are_those_of_normalisation_layers() -> None:
    assert normalisation_names(Net()) == ["stages.1.weight", "stages.1.bias", "norm.weight", "norm.bias"]


def filled(value: float) -> Net:
    net = Net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)
    return net


def test_a_rounds_own_values_come_back_and_nothing_else(tmp_path) -> None:
    store_local_layers(filled(1.0), tmp_path, 1)
    store_local_layers(filled(2.0), tmp_path, 2)
    store_local_layers(filled(5.0), tmp_path, 5)
    for server_round, expected in ((0, 9.0), (1, 1.0), (2, 2.0), (4, 2.0), (5, 5.0), (8, 5.0)):
        net = filled(9.0)
        restore(net, tmp_path, server_round)
        assert net.norm.weight.tolist() == [expected] * 3
        assert net.stages[1].bias.tolist() == [expected] * 4
        assert net.out.weight.tolist() == [[9.0] * 3]


def test_a_site_that_never_trained_takes_the_global_values_and_a_new_run_forgets(tmp_path) -> None:
    net = filled(9.0)
    restore(net, tmp_path / "none", 3)
    assert net.norm.weight.tolist() == [9.0] * 3
    store_local_layers(filled(4.0), tmp_path, 4)
    store_local_layers(filled(1.0), tmp_path, 1)
    restore(net, tmp_path, 4)
    assert net.norm.weight.tolist() == [1.0] * 3


def test_a_network_without_such_layers_is_refused() -> None:
    config = parse_study_settings({"task": "recurrence_clinical", "normalisation": "local"})
    with pytest.raises(SettingsError, match=r"normalisation: .* has no normalisation layers"):
        build_network(load_task(config), config)
