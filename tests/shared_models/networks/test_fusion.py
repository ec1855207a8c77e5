import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import nn

from shared_models.networks.fusion import FusionHead, LateFusion, ProductHead, Tokens, TokenSets

modalities = st.integers(1, 5)


def tokens_of(count: int, width: int) -> Tokens:
    tokens = Tokens({f"m{index}": nn.Linear(3 + index, width) for index in range(count)}, width)
    nn.init.normal_(tokens.absent.weight)
    return tokens


def inputs_of(count: int, rows: int) -> dict[str, torch.Tensor]:
    return {f"m{index}": torch.randn(rows, 3 + index) for index in range(count)}


@settings(max_examples=30, deadline=None)
@given(modalities, st.integers(0, 4), st.integers(1, 6), st.data())
def test_a_token_is_its_encoders_output_or_the_learned_one(
    count: int, rows: int, width: int, data: st.DataObject
) -> None:
    mask = data.draw(st.lists(st.lists(st.booleans(), min_size=count, max_size=count), min_size=rows, max_size=rows))
    present = torch.tensor(mask, dtype=torch.float32).reshape(rows, count)
    tokens, inputs = tokens_of(count, width), inputs_of(count, rows)
    output = tokens(inputs, present)
    assert output.shape == (rows, count, width)
    for index in range(count):
        encoded = tokens.encoders[f"m{index}"](inputs[f"m{index}"])
        for row in range(rows):
            expected = encoded[row] if present[row, index] else tokens.absent.weight[index]
            torch.testing.assert_close(output[row, index], expected)


def test_an_absent_input_is_never_looked_at() -> None:
    tokens, inputs = tokens_of(2, 4), inputs_of(2, 3)
    inputs["m1"][1] = float("nan")
    inputs["m1"][2] = float("inf")
    output = tokens(inputs, torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))
    output.sum().backward()
    assert output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in tokens.parameters() if parameter.grad is not None)


def test_an_encoder_learns_nothing_where_its_modality_is_absent() -> None:
    tokens = tokens_of(2, 4)
    tokens(inputs_of(2, 3), torch.tensor([[1.0, 0.0]] * 3)).square().sum().backward()
    for parameter in tokens.encoders["m1"].parameters():
        assert parameter.grad is None or not parameter.grad.any()
    assert tokens.absent.weight.grad is not None
    assert tokens.absent.weight.grad.any(dim=1).tolist() == [False, True]
    assert any(name.startswith("encoders.m1.") for name, _ in tokens.named_parameters())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 4))
def test_token_sets_are_their_encoders_outputs_or_the_learned_ones(counts: list[int], rows: int) -> None:
    encoders = {f"m{i}": nn.Sequential(nn.Linear(3 + i, 5 * n), nn.Unflatten(1, (n, 5))) for i, n in enumerate(counts)}
    sets = TokenSets(encoders, {f"m{i}": count for i, count in enumerate(counts)}, width=5)
    inputs, present = inputs_of(len(counts), rows), (torch.rand(rows, len(counts)) < 0.5).float()
    spoilt = {name: torch.where(present[:, [i]] > 0, x, torch.nan) for i, (name, x) in enumerate(inputs.items())}
    output = sets(spoilt, present)
    learned = dict(zip(encoders, sets.absent.weight.split(counts), strict=True))
    for index, (name, encoder) in enumerate(encoders.items()):
        assert output[name].shape == (rows, counts[index], 5)
        encoded = encoder(inputs[name])
        for row in range(rows):
            torch.testing.assert_close(output[name][row], encoded[row] if present[row, index] else learned[name])


@settings(max_examples=30, deadline=None)
@given(modalities, st.integers(0, 4), st.integers(1, 6), st.integers(1, 3))
def test_a_head_joins_tokens_into_outputs(count: int, rows: int, width: int, outputs: int) -> None:
    head = FusionHead(count, width, outputs).eval()
    tokens = torch.randn(rows, count, width)
    output = head(tokens)
    assert output.shape == (rows, outputs)
    torch.testing.assert_close(output, head.linear(tokens.flatten(1)))


@settings(max_examples=30, deadline=None)
@given(modalities, st.integers(0, 4), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_late_fusion_starts_as_the_sum_of_the_modalities_own_logits(count: int, rows: int, outputs: list[int]) -> None:
    encoders = {f"m{index}": nn.Linear(3 + index, sum(outputs)) for index in range(count)}
    fusion = LateFusion(encoders, {f"t{index}": number for index, number in enumerate(outputs)})
    inputs, present = inputs_of(count, rows), (torch.rand(rows, count) < 0.5).float()
    output = fusion(inputs, present)
    expected = sum(present[:, index, None] * encoders[name](inputs[name]) for index, name in enumerate(encoders))
    assert [logits.shape for logits in output.values()] == [(rows, number) for number in outputs]
    torch.testing.assert_close(torch.cat(list(output.values()), dim=1), expected)
    assert {name: layer.out_features for name, layer in fusion.output_layers().items()} == {
        f"t{index}": number for index, number in enumerate(outputs)
    }


def test_what_one_modality_adds_in_late_fusion_does_not_depend_on_another() -> None:
    fusion = LateFusion({f"m{index}": nn.Linear(3 + index, 1) for index in range(2)}, {"er": 1})
    one, other, present = inputs_of(2, 4), inputs_of(2, 4), torch.ones(4, 2)
    first = fusion({**one, "m1": other["m1"]}, present)["er"] - fusion(one, present)["er"]
    second = fusion(other, present)["er"] - fusion({**other, "m1": one["m1"]}, present)["er"]
    torch.testing.assert_close(first, second)


def test_late_fusion_of_linear_tables_learns_what_logistic_regression_does() -> None:
    torch.manual_seed(0)
    table = torch.randn(200, 4)
    truth = (torch.rand(200) < (table @ torch.tensor([1.0, -1.0, 0.5, 0.0]) - 0.5).sigmoid()).float()
    fusion = LateFusion({"a": nn.Linear(2, 1), "b": nn.Linear(2, 1)}, {"relapse": 1})
    inputs = {"a": table[:, :2], "b": table[:, 2:]}
    optimizer = torch.optim.LBFGS(fusion.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = fusion(inputs, torch.ones(200, 2))["relapse"][:, 0]
        value = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        value.backward()
        return value

    optimizer.step(loss)
    reference = LogisticRegression(C=float("inf"), tol=1e-8).fit(table.numpy(), truth.numpy())
    expected = torch.from_numpy(reference.decision_function(table.numpy())).float()
    torch.testing.assert_close(fusion(inputs, torch.ones(200, 2))["relapse"][:, 0], expected, rtol=0, atol=1e-2)


def test_products_learn_an_exclusive_or_of_two_sides() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(400, 8), torch.randn(400, 8)
    truth = ((first[:, 0] > 0) ^ (second[:, 3] > 0)).float()
    head = ProductHead(8, 8, 1)
    assert not head(first, second).any(), "it starts at zero"
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(head(first[:300], second[:300])[:, 0], truth[:300])
        loss.backward()
        optimizer.step()
    right = (head(first[300:], second[300:])[:, 0] > 0) == (truth[300:] > 0)
    assert right.float().mean() > 0.85
