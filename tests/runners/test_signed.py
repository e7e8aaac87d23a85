"""Two classes as one output of +1 or -1."""

import numpy as np
import pytest

from runners import data
from runners.errors import DataError
from runners.formats.cifar10 import RECORD_BYTES
from runners.spec import CustomData

SIGNED = "runners.sources.signed:cifar10"


def write(path, labels):
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), RECORD_BYTES - 1), dtype=np.uint8)
    path.write_bytes(np.column_stack([np.asarray(labels, np.uint8), pixels]).tobytes())


def test_the_first_five_classes_are_plus_one_and_the_others_minus_one(tmp_path):
    write(tmp_path / "data_batch_1.bin", [0, 4, 5, 9, 3])
    write(tmp_path / "test_batch.bin", [7, 2])

    found = data.load(CustomData(target=SIGNED, arguments={"dir": str(tmp_path)}, standardize="channel"), seed=0, precision="float64")

    assert found.description.task == "regression"
    assert found.y.tolist() == [[1.0], [1.0], [-1.0], [-1.0], [1.0]]
    assert found.y_test.tolist() == [[-1.0], [1.0]]
    np.testing.assert_allclose(found.x.mean(axis=(0, 1, 2)), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.x.std(axis=(0, 1, 2)), 1.0, atol=1e-12)


def test_a_copy_without_a_test_split_has_none(tmp_path, monkeypatch):
    write(tmp_path / "data_batch_1.bin", [0, 9])
    monkeypatch.setenv("EOS_DATA", str(tmp_path))

    found = data.load(CustomData(target=SIGNED), seed=0, precision="float32")

    assert (found.x.shape, found.x_test.shape) == ((2, 32, 32, 3), (0, 32, 32, 3))


def test_missing_files_are_told_with_where_they_come_from(tmp_path):
    with pytest.raises(DataError, match=r"no CIFAR-10 files here.*Download"):
        data.load(CustomData(target=SIGNED, arguments={"dir": str(tmp_path)}), seed=0, precision="float32")
