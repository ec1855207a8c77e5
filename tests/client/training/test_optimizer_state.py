from pathlib import Path

import pytest
import torch
from torch import nn

from client.training.loop import make_optimizer
from client.training.optimizer_state import stored_moments
from shared_models.study_settings import StudySettings


def trained(
    folder: Path | None, rounds: int, start: int = 1, state: dict[str, torch.Tensor] | None = None
) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    if state:
        model.load_state_dict(state)
    for server_round in range(start, start + rounds):
        optimizer = make_optimizer(model.parameters(), StudySettings(learning_rate=0.1))
        with stored_moments(optimizer, folder, server_round):
            for step in range(4):
                optimizer.zero_grad()
                (model(torch.eye(3) * (step + server_round)) ** 2).sum().backward()
                optimizer.step()
    return model


def weights(model: nn.Module) -> list[float]:
    return [round(value, 6) for value in model.weight.flatten().tolist()]


def test_rounds_with_stored_moments_are_one_long_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = make_optimizer(model.parameters(), StudySettings(learning_rate=0.1))
    for server_round in (1, 2, 3):
        for step in range(4):
            optimizer.zero_grad()
            (model(torch.eye(3) * (step + server_round)) ** 2).sum().backward()
            optimizer.step()
    assert weights(trained(tmp_path, 3)) == weights(model)
    assert weights(trained(None, 3)) != weights(model)


def test_a_round_that_is_asked_again_starts_from_the_moments_of_the_one_before(tmp_path: Path) -> None:
    after_two = trained(tmp_path, 2).state_dict()
    once = weights(trained(tmp_path, 1, start=3, state=after_two))
    assert weights(trained(tmp_path, 1, start=3, state=after_two)) == once
    assert [path.stem for path in sorted(tmp_path.iterdir())] == ["00002", "00003"]


def test_a_file_that_another_process_has_deleted_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def deleted_before(path: Path, missing_ok: bool = False) -> None:
        unlink(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", deleted_before)
    trained(tmp_path, 4)
    assert [path.stem for path in sorted(tmp_path.iterdir())] == ["00003", "00004"]


def test_the_first_round_forgets_an_earlier_run_and_other_weights_are_left_alone(tmp_path: Path) -> None:
    first = weights(trained(tmp_path, 1))
    trained(tmp_path, 2)
    assert weights(trained(tmp_path, 1)) == first
    other = nn.Linear(5, 2)
    optimizer = make_optimizer(other.parameters(), StudySettings())
    with stored_moments(optimizer, tmp_path, 2):
        assert not optimizer.state_dict()["state"]


def test_moments_of_a_round_that_diverged_do_not_spoil_the_next(tmp_path: Path) -> None:
    before = trained(tmp_path, 1).state_dict()
    optimizer = make_optimizer((model := nn.Linear(3, 1)).parameters(), StudySettings())
    with stored_moments(optimizer, tmp_path, 2):
        (model(torch.full((1, 3), torch.inf)) ** 2).sum().backward()
        optimizer.step()
    assert [path.stem for path in tmp_path.iterdir()] == ["00001"]
    assert all(value.isfinite().all() for value in trained(tmp_path, 1, start=3, state=before).state_dict().values())
