"""The image sets: digits, CIFAR-10, MNIST and Fashion-MNIST, pixels as the files have them."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from runners import data_files
from runners.formats import cifar10, idx
from runners.sources.raw import AnyArray, RawData
from runners.spec import Cifar10, DigitsFeatures, FashionMnist, Mnist

DIGITS_FILE = "datasets/data/digits.csv.gz"
"""Where scikit-learn keeps its digits. Reading it takes 25 ms, importing sklearn.datasets first 1.7 s (two cores, scikit-learn 1.9)."""
DIGITS_UNIT = 16.0
"""Its pixels are 0 to 16."""
NUM_CLASSES = 10
FEATURES_STREAM = 3
"""Sets the features' numbers apart from those of the synthetic sets (0), the subset (1) and the initial parameters (2) at the same seed."""


def digits() -> RawData:
    """scikit-learn's 1,797 images [8, 8], pixels 0 to 1."""
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / DIGITS_FILE if folders else Path(DIGITS_FILE)
    rows = _digits_rows(path) if path.is_file() else _digits_rows_by_sklearn()
    labels = rows[:, 64].astype(np.int32)
    return RawData(
        x=rows[:, :64].reshape(-1, 8, 8), y=labels, num_outputs=NUM_CLASSES, source="scikit-learn's digits, pixels / 16", unit=DIGITS_UNIT
    )


def digits_features(data: DigitsFeatures, *, seed: int) -> RawData:
    """The digits' images as rows of random features.

    The source's relu is shifted and scaled to the mean and size that it has on normal inputs. That is left out, as nothing of it stays
    once all numbers go to [0, 1]; nor does the unit of the pixels.

    Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382.
    """
    raw = digits()
    weights = np.random.default_rng([seed, FEATURES_STREAM]).standard_normal((64, data.num_features))
    features = random_features(raw.x.reshape(-1, 64) / raw.unit, weights)
    return RawData(x=features, y=raw.y, num_outputs=NUM_CLASSES, source=f"{data.num_features} random relu features of {raw.source}")


def random_features(x: AnyArray, weights: AnyArray) -> AnyArray:
    """relu(x W / sqrt(inputs)) of rows x."""
    features: AnyArray = np.maximum(x @ weights / np.sqrt(len(weights)), 0.0)
    return features


def _digits_rows(path: Path) -> AnyArray:
    with gzip.open(path) as file:
        return np.loadtxt(file, delimiter=",")


def _digits_rows_by_sklearn() -> AnyArray:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.column_stack([images, labels])


def cifar(data: Cifar10, *, base: Path | None) -> RawData:
    """CIFAR-10 as [32, 32, 3], pixels 0 to 1.

    Raises:
        DataError: If files are missing, truncated or corrupt.
    """
    files = cifar10.find(data.dir, base=base)
    x, y = _cifar_arrays(b"".join(cifar10.read(path) for path in files.train))
    x_test, y_test = _cifar_arrays(cifar10.read(files.test)) if files.test else (None, None)
    return RawData(x=x, y=y, num_outputs=NUM_CLASSES, source=f"{files.folder}, pixels / 255", x_test=x_test, y_test=y_test, unit=255.0)


def _cifar_arrays(content: bytes) -> tuple[AnyArray, AnyArray]:
    records = np.frombuffer(content, np.uint8).reshape(-1, cifar10.RECORD_BYTES)
    # examples x planes x rows x columns -> examples x rows x columns x channels
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0].astype(np.int32)


def mnist(data: Mnist | FashionMnist, *, base: Path | None) -> RawData:
    """MNIST or Fashion-MNIST as [28, 28], pixels 0 to 1.

    Raises:
        DataError: If files are missing, truncated or corrupt.
    """
    files = idx.find(data_files.idx_name(data), data.dir, base=base)
    x, y = _idx_arrays(files.train)
    x_test, y_test = _idx_arrays(files.test) if files.test else (None, None)
    note = ", the t10k images only: the first ones train, the others test" if files.trains_on_test_files else ""
    return RawData(
        x=x, y=y, num_outputs=NUM_CLASSES, source=f"{files.folder}, pixels / 255{note}", x_test=x_test, y_test=y_test, unit=255.0
    )


def _idx_arrays(split: idx.Split) -> tuple[AnyArray, AnyArray]:
    pixels, labels = idx.read(split)
    shape = idx.check(split)
    return np.frombuffer(pixels, np.uint8).reshape(shape), np.frombuffer(labels, np.uint8).astype(np.int32)
