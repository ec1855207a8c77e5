from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp.strategy import MultiKrum
from hypothesis import given, settings
from hypothesis import strategies as st

from server.study.aggregation.clipping import clip_updates
from server.study.aggregation.guard import Update
from server.study.aggregation.owners import as_reply
from server.study.aggregation.rule import Round, load_rule, take_step
from server.study.aggregation.rules import rule_names
from server.study.enrolment import Enrolment
from server.study.exchange import StudyError
from server.study.weights import spool
from server.study.weights.spool import Spool, SpooledArrays, pieces
from shared_models.messages import Arrays
from shared_models.study_settings import StudySettings

START: Arrays = {
    "tokens.encoders.mri.weight": np.linspace(-1, 1, 35, dtype=np.float32).reshape(5, 7),
    "head.weight": np.full((3, 2), 5, np.float32),
    "head.steps": np.array(3, np.int64),
    "head.nothing": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Spool:
    """A spool that has no memory, and pieces of a few numbers."""
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(spool, "PIECE_NUMBERS", 30)
    return Spool(tmp_path)


def update(site: int) -> Update:
    chance = np.random.default_rng(site)
    model = {
        name: (array + site * chance.standard_normal(array.shape)).astype(array.dtype) for name, array in START.items()
    }
    change = {name: model[name] - START[name] for name in model if model[name].dtype.kind == "f"}
    return Update((f"site{site}",), model, 10.0 + site, {"mri": 10.0 + site}, 0.0, change)


def test_arrays_come_back_as_they_were_and_no_file_has_a_name(on_disk: Spool, tmp_path: Path) -> None:
    arrays = {**START, "crooked": np.arange(12.0).reshape(3, 4).T, "flag": np.array([True, False])}
    first, second = on_disk.store(arrays), on_disk.store(START)
    for spooled, own in ((first, arrays), (second, START)):
        assert isinstance(spooled, SpooledArrays)
        assert list(spooled) == list(own)
        for name, array in own.items():
            assert (spooled[name].dtype, spooled[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(spooled[name], array)
    assert list(tmp_path.iterdir()) == []


def test_small_networks_never_reach_the_disk(tmp_path: Path) -> None:
    assert Spool(tmp_path / "nowhere").store(START) is START


def test_a_spool_that_cannot_be_written_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    with pytest.raises(StudyError, match="the center cannot write a file of the study"):
        Spool(tmp_path / "nowhere").store(START)


@pytest.mark.parametrize("name", rule_names())
def test_a_rule_gives_the_same_bits_from_the_disk_piece_by_piece_as_from_memory(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = StudySettings(strategy=name, secure_aggregation="off")
    updates = [update(site) for site in range(1, 7)]
    enrolled = {one.sites[0]: Enrolment(True, {"train": int(one.patients)}, {"mri": 10}, 0) for one in updates}

    def after(updates: list[Update]) -> Arrays:
        clipped, influences = clip_updates(updates, START, 1.5)
        assert any(one.clipped for one in influences.values())
        return take_step(load_rule(config), Round(1, START, clipped, config, enrolled), {})[0]

    in_memory = after(updates)
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(spool, "PIECE_NUMBERS", 30)
    disk = Spool(tmp_path)
    spooled = after(
        [
            Update(
                one.sites,
                disk.store(one.model),
                one.patients,
                one.patients_by_modality,
                0.0,
                disk.store(one.rule_change),
            )
            for one in updates
        ]
    )
    for parameter, array in in_memory.items():
        # norms are added up in another order, and a share of clipping may differ in its last place
        np.testing.assert_allclose(spooled[parameter], array, rtol=1e-6)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.sampled_from([2**16, 2**18, 2**20, 2**21]))
def test_pieces_hold_each_number_once_and_no_more_than_there_is_room_for(sizes: list[int], copies: int) -> None:
    shapes = {str(index): (size,) for index, size in enumerate(sizes)}
    counted = {name: np.zeros(shape, int) for name, shape in shapes.items()}
    most = max(spool.PIECE_NUMBERS // copies, 1)
    for piece in pieces(shapes, copies):
        assert sum(part.stop - part.start for part in piece.values()) <= most
        for name, part in piece.items():
            counted[name][part] += 1
    assert all((count == 1).all() for count in counted.values())


@settings(max_examples=20)
@given(st.integers(4, 9), st.integers(0, 3), st.integers(0, 10**6))
def test_multi_krum_chooses_whom_flowers_would(more: int, hostile: int, seed: int) -> None:
    """Of sites enough to be judged by two neighbours or more: two nearest to each other tie by one alone."""
    sites = more + hostile
    chance, zeros = np.random.default_rng(seed), {"head": np.zeros(20, np.float32)}
    models = [{"head": chance.standard_normal(20).astype(np.float32)} for _ in range(sites)]
    config = StudySettings(strategy="krum", secure_aggregation="off", hostile_sites=hostile)
    updates = [Update((str(n),), one, 1.0, {}, 0.0) for n, one in enumerate(models)]
    ours = take_step(load_rule(config), Round(1, zeros, updates, config, {}), {})[0]["head"]
    flowers = MultiKrum(num_malicious_nodes=hostile, num_nodes_to_select=max(1, sites - hostile))
    arrays, _ = flowers.aggregate_train(1, [as_reply({"head": one["head"].astype(np.float64)}) for one in models])
    assert arrays is not None
    np.testing.assert_allclose(ours, arrays["head"].numpy(), rtol=1e-5, atol=1e-6)
