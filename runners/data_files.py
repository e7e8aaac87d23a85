"""Whether the data that a spec names can be had, found out before anything starts.

The command line calls `check`; the loaders share `split` and the readers in `formats`. Standard library and msgspec
only: importing this module must not import numpy or jax. Sizes and headers are checked here, every byte when it is
loaded.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from runners import imports
from runners.errors import DataError, SpecError
from runners.formats import cifar10, csv_table, idx, npz, text
from runners.formats.files import table_file
from runners.spec import Chebyshev, Cifar10, Csv, CustomData, Data, Digits, DigitsFeatures, FashionMnist, Gaussian, Mnist, Npz, Text

NUM_DIGITS = 1797
GAUSSIAN_NUM_TRAIN = 200
"""Training examples of `gaussian` when none are asked for."""


@dataclass(frozen=True)
class Split:
    """How many examples go where."""

    num_train: int
    num_test: int


def check(data: Data, *, base: Path | None = None) -> int | None:
    """The number of training examples that a run on `data` would use; None when only running a user's function can tell.

    Args:
        data: The spec's table.
        base: Where relative paths start; the working folder when absent.

    Raises:
        DataError: If files are missing, of another format, truncated, or hold fewer examples than are asked for.
        SpecError: If keys contradict each other, or a user's module is not there.
    """
    match data:
        case Gaussian():
            return check_gaussian(data).num_train
        case CustomData():
            imports.find(data.target, key="data.name", base=base)
            return data.num_train
        case _:
            available, test, where = _counts(data, base)
            return split(data, available=available, test=test, where=where).num_train


def split(data: Data, *, available: int, test: int | None, where: str = "the data set") -> Split:
    """How many examples train and test, which never share one.

    Args:
        data: The spec's table.
        available: Examples of the training split, or of the whole where there is no other.
        test: Examples of the test split; None where there is none, and the test takes what training leaves over.
        where: What holds the examples, for messages.

    Raises:
        DataError: If there are fewer than are asked for.
    """
    wanted = data.num_test or 0
    num_train = data.num_train if data.num_train is not None else available - (wanted if test is None else 0)
    left = available - num_train if test is None else test
    if num_train > available:
        raise DataError(f"data.num_train = {num_train:,}: {where} has {available:,} training examples. Ask for fewer, or leave it out.")
    if wanted > left or num_train < 1:
        have = f"no test split, and {available:,} examples in all" if test is None else f"{test:,} test examples"
        training = f", of which training takes {num_train:,}" if test is None and data.num_train else ""
        raise DataError(f"data.num_test = {wanted:,}: {where} has {have}{training}. Ask for fewer.")
    return Split(num_train=num_train, num_test=left if data.num_test is None else wanted)


def text_windows(data: Text) -> text.Windows:
    """How a text is cut into examples."""
    return text.Windows(size=data.context + 1, stride=data.stride or data.context)


def idx_name(data: Mnist | FashionMnist) -> idx.SetName:
    """Which of the two sets in the IDX format `data` is."""
    return "mnist" if isinstance(data, Mnist) else "fashion-mnist"


def check_gaussian(data: Gaussian) -> Split:
    """How many examples are drawn to train and test.

    Raises:
        SpecError: If the spectrum has another length than there are features, or is asked of too few examples.
    """
    num_train = data.num_train or GAUSSIAN_NUM_TRAIN
    if data.spectrum is not None and len(data.spectrum) != data.num_features:
        raise SpecError(f"data.spectrum has {len(data.spectrum)} eigenvalues, expected data.num_features = {data.num_features} of them.")
    if data.covariance == "empirical" and num_train < data.num_features:
        raise SpecError(
            f'data.covariance = "empirical": the covariance of {num_train} training examples has rank {num_train} at most and cannot '
            f"have {data.num_features} eigenvalues set. Expected data.num_train >= data.num_features."
        )
    return Split(num_train=num_train, num_test=data.num_test or 0)


def _counts(
    data: Digits | DigitsFeatures | Cifar10 | Mnist | FashionMnist | Npz | Csv | Text | Chebyshev, base: Path | None
) -> tuple[int, int | None, str]:
    """Examples to train on, examples of the test split (None where there is none), and what holds them."""
    match data:
        case Digits() | DigitsFeatures():
            if importlib.util.find_spec("sklearn") is None:
                name = data.__struct_config__.tag
                raise DataError(
                    f'data.name = "{name}": its images come with scikit-learn, which is not installed. pip install scikit-learn'
                )
            return NUM_DIGITS, None, "digits"
        case Cifar10():
            cifar = cifar10.find(data.dir, base=base)
            return sum(map(cifar10.count, cifar.train)), cifar10.count(cifar.test) if cifar.test else None, str(cifar.folder)
        case Mnist() | FashionMnist():
            files = idx.find(idx_name(data), data.dir, base=base)
            return idx.check(files.train)[0], idx.check(files.test)[0] if files.test else None, str(files.folder)
        case Npz():
            arrays = npz.headers(table_file(data.path, base=base))
            return arrays["x"].shape[0], arrays["x_test"].shape[0] if "x_test" in arrays else None, data.path
        case Csv():
            table = csv_table.read(table_file(data.path, base=base))
            csv_table.target_columns(table, data.target)
            return len(table.rows), None, data.path
        case Text():
            path, windows = table_file(data.path, base=base), text_windows(data)
            train, test = text.split(path, text.read(path), windows)
            return windows.count(train), windows.count(test), data.path
        case Chebyshev():
            return data.num_points, None, "chebyshev"
        case _:
            assert_never(data)
