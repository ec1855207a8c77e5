import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared_models.networks.shared_trunk import SharedTrunk


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), st.integers(1, 3), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), min_size=1))
def test_each_target_has_its_outputs(rows: int, modalities: int, targets: dict[str, int]) -> None:
    network = SharedTrunk({f"m{index}": nn.Linear(3, 5) for index in range(modalities)}, 5, targets, hidden_units=4)
    inputs = {f"m{index}": torch.randn(rows, 3) for index in range(modalities)}
    outputs = network(inputs, torch.ones(rows, modalities))
    assert {name: output.shape for name, output in outputs.items()} == {k: (rows, v) for k, v in targets.items()}
    assert {name: layer.out_features for name, layer in network.output_layers().items()} == targets


def away_from_zero(network: SharedTrunk) -> SharedTrunk:
    for layer in (*network.heads.values(), *network.linear.values()):
        nn.init.normal_(layer.weight)
    return network


def test_it_starts_as_the_base_rate() -> None:
    network = SharedTrunk({"m": nn.Linear(3, 4)}, 4, {"er": 1})
    nn.init.constant_(network.outputs["er"].bias, 0.7)
    torch.testing.assert_close(network({"m": torch.randn(5, 3)}, torch.ones(5, 1))["er"], torch.full((5, 1), 0.7))


def test_a_logit_is_a_plain_computation() -> None:
    network = away_from_zero(SharedTrunk({"m": nn.Identity()}, 3, {"er": 1, "pr": 1}, hidden_units=6).eval())
    inputs = torch.randn(4, 3)
    layer, head = network.trunk[0], network.heads["pr"]
    hidden = (inputs @ layer.weight.T + layer.bias).relu()
    output = network({"m": inputs}, torch.ones(4, 1))
    expected = hidden @ head.weight.T + inputs @ network.linear["pr"].weight.T
    torch.testing.assert_close(output["pr"], expected)


def test_one_target_teaches_the_trunk_and_not_the_other_head() -> None:
    network = away_from_zero(SharedTrunk({"m": nn.Linear(3, 4)}, 4, {"er": 1, "pr": 1}))
    network({"m": torch.randn(8, 3)}, torch.ones(8, 1))["er"].sum().backward()
    assert network.trunk[0].weight.grad.abs().sum() > 0
    assert network.heads["er"].weight.grad.abs().sum() > 0
    assert network.heads["pr"].weight.grad is None


def test_a_time_to_event_has_one_risk_and_a_line_an_interval() -> None:
    network = SharedTrunk({"m": nn.Linear(3, 4)}, 4, {"recurrence": 5}, scores={"recurrence": 1})
    nn.init.normal_(network.heads["recurrence"].weight)
    output = network.eval()({"m": torch.randn(6, 3)}, torch.ones(6, 1))["recurrence"]
    assert output.shape == (6, 5)
    torch.testing.assert_close(output, output[:, :1].expand(6, 5))
    assert network.output_layers()["recurrence"].bias.shape == (5,)


def test_products_say_what_two_modalities_show_together_and_neither_alone():
    torch.manual_seed(0)
    network = SharedTrunk({"a": nn.Identity(), "b": nn.Identity()}, 4, {"er": 1, "stage": 3})
    for products in network.products:
        nn.init.normal_(products.last.weight)
    rows, other = torch.randn(2, 5, 4)
    present = torch.ones(5, 2)

    def scores(a, b):
        return network({"a": a, "b": b}, present)

    both, first, second, neither = scores(rows, rows), scores(rows, other), scores(other, rows), scores(other, other)
    for name, count in {"er": 1, "stage": 3}.items():
        together = both[name] - first[name] - second[name] + neither[name]  # nothing of what each says alone is left
        assert together.shape == (5, count)
        assert bool((together.abs() > 1e-3).all())
