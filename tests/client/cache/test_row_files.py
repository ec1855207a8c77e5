"""Rows in files of their own are read as those of one array."""

import pickle

import numpy as np
import pytest

from client.cache.row_files import RowFiles

SHAPE = (2, 3, 4)


@pytest.fixture
def rows(tmp_path):
    """Five rows, of which the second has nothing, and what they are."""
    array = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float16)
    array[1] = 0
    for number in (0, 2, 3, 4):
        np.save(tmp_path / f"{number}.npy", array[number])
    return RowFiles([None if number == 1 else tmp_path / f"{number}.npy" for number in range(5)], SHAPE), array


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        slice(1, 4),
        slice(None, None, -2),
        np.array([3, 0, 0, 1]),
        [2, 2],
        np.array([True, False, True, False, True]),
        np.zeros(0, dtype=np.int64),
        np.array([[0, 1], [4, 2]]),
        (slice(None), 1),
        (3, 0, slice(1, None)),
        (np.array([1, 4]), ..., 0),
        ...,
    ],
)
def test_it_is_indexed_as_an_array(rows, key):
    part, expected = rows[0][key], rows[1][key]
    assert part.dtype == expected.dtype
    np.testing.assert_array_equal(part, expected)


def test_it_becomes_an_array(rows):
    files, array = rows
    assert (files.shape, files.ndim, len(files), files.dtype) == (array.shape, 4, 5, np.float16)
    np.testing.assert_array_equal(np.concatenate([files, files]), np.concatenate([array, array]))
    assert np.asarray(files, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(files))[2:], array[2:])


@pytest.mark.parametrize("key", [5, [0, 7]])
def test_a_row_too_many_is_an_index_error(rows, key):
    with pytest.raises(IndexError):
        rows[0][key]


def test_a_row_is_one_number(tmp_path):
    np.save(tmp_path / "a.npy", np.asarray(2.5))
    np.testing.assert_array_equal(RowFiles([tmp_path / "a.npy", None], ())[:], [2.5, 0])


def test_rows_of_no_patient_take_no_file():
    assert not RowFiles([None, None], SHAPE)[:].any()


def test_files_that_are_gone_cut_short_or_of_another_shape_are_found_at_once(tmp_path, rows):
    np.save(tmp_path / "other.npy", np.zeros(SHAPE, dtype=np.float32))
    paths = [tmp_path / "0.npy", tmp_path / "2.npy"]
    with pytest.raises(ValueError, match="cut short"):
        RowFiles([*paths, tmp_path / "other.npy"], SHAPE)
    with pytest.raises(ValueError, match="shape"):
        RowFiles(paths, (2, 3, 5))
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        RowFiles(paths, SHAPE)
    paths[1].unlink()
    with pytest.raises(FileNotFoundError):
        RowFiles(paths, SHAPE)


def test_arrays_of_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.full(SHAPE, None), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        RowFiles([tmp_path / "a.npy"], SHAPE)
