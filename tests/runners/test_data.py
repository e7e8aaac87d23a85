import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from runners import data
from runners.errors import DataError, SpecError
from runners.sources import images
from runners.spec import Cifar10, Digits, DigitsFeatures, FashionMnist, Gaussian, Mnist, Npz


def load(table, *, seed=0, precision="float64", base=None):
    return data.load(table, seed=seed, precision=precision, base=base)


def cifar_records(labels: list[int], pixels: np.ndarray) -> bytes:
    """Records of images [examples, 32, 32, 3] in the file's order."""
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return b"".join(bytes([label]) + plane.tobytes() for label, plane in zip(labels, planes, strict=True))


def write_idx(folder: Path, prefix: str, *, pixels: np.ndarray, labels: list[int]) -> None:
    shape = struct.pack(">3I", *pixels.shape)
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">I", 0x803) + shape + pixels.tobytes()))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(labels)) + bytes(labels))


# --- image sets ---


def test_digits_are_scikit_learns(monkeypatch):
    from sklearn.datasets import load_digits

    loaded = load(Digits(standardize=False))

    reference = load_digits()
    np.testing.assert_array_equal(loaded.x * 16, reference.images)
    np.testing.assert_array_equal(loaded.y, reference.target)
    assert loaded.description.input_shape == (8, 8)
    assert (loaded.description.num_outputs, loaded.description.task, loaded.y.dtype) == (10, "classification", np.int32)


def test_digits_are_found_where_scikit_learn_keeps_them_elsewhere(monkeypatch):
    direct = load(Digits())
    monkeypatch.setattr(images, "DIGITS_FILE", "nowhere.csv.gz")

    fallback = load(Digits())

    np.testing.assert_array_equal(fallback.x, direct.x)
    np.testing.assert_array_equal(fallback.y, direct.y)


def test_cifar10_pixels_are_rows_of_columns_of_red_green_and_blue(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_records([3, 0], pixels[:2]))
    (tmp_path / "data_batch_2.bin").write_bytes(cifar_records([9], pixels[2:3]))
    (tmp_path / "test_batch.bin").write_bytes(cifar_records([1, 2], pixels[3:]))

    loaded = load(Cifar10(dir=str(tmp_path), standardize=False))

    np.testing.assert_array_equal(loaded.x, pixels[:3] / 255)
    np.testing.assert_array_equal(loaded.x_test, pixels[3:] / 255)
    assert (loaded.y.tolist(), loaded.y_test.tolist(), loaded.description.num_outputs) == ([3, 0, 9], [1, 2], 10)


def test_a_label_above_nine_in_a_cifar10_file_is_refused(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_records([3, 10], np.zeros((2, 32, 32, 3), np.uint8)))

    with pytest.raises(DataError, match=r"data_batch_1\.bin: record 1 has label 10, expected 0 to 9"):
        load(Cifar10(dir=str(tmp_path)))


@pytest.mark.parametrize("kind", [Mnist, FashionMnist])
def test_idx_files_are_read_gzipped_or_not(tmp_path, kind):
    pixels = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
    write_idx(tmp_path, "train", pixels=pixels[:3], labels=[0, 4, 9])
    write_idx(tmp_path, "t10k", pixels=pixels[3:], labels=[7, 7])

    loaded = load(kind(dir=str(tmp_path), standardize=False))

    np.testing.assert_array_equal(loaded.x, pixels[:3] / 255)
    np.testing.assert_array_equal(loaded.x_test, pixels[3:] / 255)
    assert (loaded.y.tolist(), loaded.y_test.tolist(), loaded.description.num_outputs) == ([0, 4, 9], [7, 7], 10)


def test_without_training_files_the_first_test_images_train_and_the_others_test(tmp_path):
    pixels = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
    write_idx(tmp_path, "t10k", pixels=pixels, labels=[0, 1, 2, 3, 4])

    loaded = load(Mnist(dir=str(tmp_path), num_train=3))

    assert (loaded.y.tolist(), loaded.y_test.tolist()) == ([0, 1, 2], [3, 4])
    assert "t10k images only" in loaded.description.source


def test_a_gzip_stream_that_is_damaged_inside_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    write_idx(tmp_path, "train", pixels=pixels, labels=[1] * 20)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: (the gzip stream is corrupt|cannot be read \(CRC)"):
        load(Mnist(dir=str(tmp_path)))


def test_a_label_above_nine_in_an_idx_file_is_refused(tmp_path):
    write_idx(tmp_path, "train", pixels=np.zeros((2, 2, 2), np.uint8), labels=[1, 26])

    with pytest.raises(DataError, match="holds the label 26, expected 0 to 9"):
        load(Mnist(dir=str(tmp_path)))


# --- which examples ---


def test_training_and_test_examples_never_overlap():
    every = load(Digits(standardize=False)).x

    first = load(Digits(num_train=1500, num_test=200, standardize=False))
    rest = load(Digits(num_train=1500, standardize=False))
    kept = load(Digits(num_test=297, standardize=False))

    np.testing.assert_array_equal(first.x, every[:1500])
    np.testing.assert_array_equal(first.x_test, every[1500:1700])
    np.testing.assert_array_equal(rest.x_test, every[1500:])
    np.testing.assert_array_equal(kept.x, every[:1500])


def test_a_random_subset_follows_the_seed_and_leaves_the_others_to_test(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(30), y=np.arange(30.0))
    table = Npz(path="a.npz", num_train=20, subset="random")

    one, same, other = (load(table, seed=seed, base=tmp_path) for seed in (1, 1, 2))

    np.testing.assert_array_equal(one.x, same.x)
    assert one.x.tolist() != other.x.tolist()
    assert one.x[:, 0].tolist() != sorted(one.x[:, 0])
    assert sorted([*one.x[:, 0], *one.x_test[:, 0]]) == list(range(30))
    np.testing.assert_array_equal(one.x, one.y)


@pytest.mark.parametrize("table", [Gaussian(num_test=3), Digits(num_train=50, subset="random")])
def test_everything_follows_from_the_seed(table):
    one, same, other = (load(table, seed=seed) for seed in (1, 1, 2))

    for name in ("x", "y", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.x, other.x)


# --- standardisation ---


@pytest.fixture
def photographs(tmp_path):
    """2,500 training and 3 test images in float [4, 5, 3], one coordinate of them constant."""
    x = np.random.default_rng(0).normal(3.0, 2.0, (2503, 4, 5, 3)) * np.array([1.0, 2.0, 3.0])
    x[:, 1, 2, 0] = 0.1
    np.savez(tmp_path / "photographs.npz", x=x[:2500], y=np.zeros(2500), x_test=x[2500:], y_test=np.zeros(3))
    return tmp_path / "photographs.npz", x[:2500], x[2500:]


@pytest.mark.parametrize(("mode", "axes"), [("feature", (0,)), ("channel", (0, 1, 2)), ("global", None), (True, (0,))])
def test_mean_and_deviation_are_those_of_the_training_examples(photographs, mode, axes):
    path, train, test = photographs

    loaded = load(Npz(path=str(path), standardize=mode))

    mean, deviation = train.mean(axis=axes), train.std(axis=axes)
    constant = train.max(axis=axes) == train.min(axis=axes)
    deviation = np.where(constant, 1.0, deviation)
    np.testing.assert_allclose(loaded.x, (train - mean) / deviation, atol=1e-12)
    np.testing.assert_allclose(loaded.x_test, (test - mean) / deviation, atol=1e-12)
    expected = "feature" if mode is True else mode
    assert loaded.description.standardization.startswith(f"{expected}: ")
    assert "2,500 training examples" in loaded.description.standardization


def test_min_max_takes_the_training_examples_to_0_and_1(photographs):
    path, train, test = photographs

    loaded = load(Npz(path=str(path), standardize="min-max"))

    span = train.max() - train.min()
    np.testing.assert_allclose(loaded.x, (train - train.min()) / span, atol=1e-12)
    np.testing.assert_allclose(loaded.x_test, (test - train.min()) / span, atol=1e-12)
    assert loaded.description.standardization.startswith("min-max: all input coordinates together")


def test_min_max_of_pixels_is_the_same_in_any_unit():
    in_bytes = load(Digits(standardize="min-max")).x

    assert (in_bytes.min(), in_bytes.max()) == (0, 1)
    np.testing.assert_allclose(in_bytes, load(Digits(standardize=False)).x, atol=1e-15)


def test_features_of_the_digits_follow_the_seed_and_keep_the_labels():
    features, digits = load(DigitsFeatures(num_features=9)), load(Digits())

    assert features.x.shape == (1797, 9)
    assert (features.x.min(), features.x.max()) == (0, 1)
    np.testing.assert_array_equal(features.y, digits.y)
    np.testing.assert_array_equal(features.x, load(DigitsFeatures(num_features=9)).x)
    assert not np.array_equal(features.x, load(DigitsFeatures(num_features=9), seed=1).x)


def test_random_features_are_relu_of_a_mean_square_1_map():
    pixels, weights = np.array([[1.0, -2.0, 0.5, 3.0]]), np.array([[1.0], [1.0], [2.0], [1.0]])

    assert images.random_features(pixels, weights) == pytest.approx(1.5)
    assert images.random_features(-pixels, weights) == pytest.approx(0)


def test_without_standardisation_the_numbers_are_the_sources(photographs):
    path, train, _ = photographs

    loaded = load(Npz(path=str(path)))

    np.testing.assert_array_equal(loaded.x, train)
    assert loaded.description.standardization == "none"


def test_channels_are_those_of_images_only():
    with pytest.raises(SpecError, match=r'standardize = "channel": the inputs have the shape \(8, 8\)'):
        load(Digits(standardize="channel"))


def test_true_means_the_data_sets_own_way(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_records([1, 2, 3, 4], pixels))
    write_idx(tmp_path, "train", pixels=pixels[..., 0], labels=[1, 2, 3, 4])

    tables = [Digits(), Cifar10(dir=str(tmp_path)), Mnist(dir=str(tmp_path)), Gaussian(standardize=True), Gaussian()]

    modes = [load(table).description.standardization.partition(":")[0] for table in tables]
    assert modes == ["feature", "channel", "global", "feature", "none"]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_inputs_and_targets_have_the_runs_precision(precision):
    loaded = load(Gaussian(num_test=1), precision=precision)
    exact = load(Gaussian(num_test=1))

    assert {loaded.x.dtype, loaded.y.dtype, loaded.x_test.dtype, loaded.y_test.dtype} == {np.dtype(precision)}
    np.testing.assert_array_equal(loaded.x, exact.x.astype(precision))
