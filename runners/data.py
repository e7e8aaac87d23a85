"""Data sets as arrays: read, split into training and test examples, standardised, and described for the log.

The runner calls `load` once; everything random in it follows from `seed`. Reading the sources is `sources`' work.
Arithmetic is in float64 and cast at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
from jaxtyping import Float, Int32
from numpy.typing import NDArray

from runners import data_files
from runners.errors import SpecError
from runners.records import DataDescription
from runners.sources import characters, images, synthetic, tables
from runners.sources.raw import AnyArray, RawData
from runners.spec import Chebyshev, Cifar10, Csv, CustomData, Data, Digits, DigitsFeatures, FashionMnist, Gaussian, Mnist, Npz, Text

Mode = Literal["none", "feature", "channel", "global", "min-max"]
SUBSET_STREAM = 1
"""Sets the numbers of the subset apart from those of the synthetic sets (0) and the initial parameters (2) at the same seed."""
CHUNK = 1000
"""Examples that are converted at once, so that images in bytes never stand in memory as float64."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The examples of a run. Labels and characters are int32, real targets and other inputs of the run's precision."""

    x: Float[np.ndarray, "train *input"] | Int32[np.ndarray, "train context"]
    y: Int32[np.ndarray, " train"] | Float[np.ndarray, "train outputs"]
    x_test: Float[np.ndarray, "test *input"] | Int32[np.ndarray, "test context"]
    y_test: Int32[np.ndarray, " test"] | Float[np.ndarray, "test outputs"]
    """No examples where there is no test split."""
    description: DataDescription


def load(data: Data, *, seed: int, precision: Literal["float32", "float64"], base: Path | None = None) -> Dataset:
    """The examples that the table `data` asks for.

    Args:
        data: The spec's table.
        seed: Of everything random: the subset, synthetic numbers, and a user's function.
        precision: Of the inputs and real targets.
        base: Where relative paths start; the working folder when absent.

    Raises:
        DataError: If files are missing, corrupt, or hold fewer examples than are asked for.
        SpecError: If keys of the table contradict each other or the data.
    """
    raw = _read(data, seed=seed, base=base)
    x, y, x_test, y_test = _chosen(raw, data, seed=seed)
    mode = _mode(data)
    mean, deviation = _range(x, unit=raw.unit) if mode == "min-max" else _moments(x, mode=mode, unit=raw.unit)
    dtype = np.dtype(precision)
    input_dtype = np.dtype(np.int32) if raw.holds_codes else dtype
    description = DataDescription(
        name=data.target if isinstance(data, CustomData) else str(data.__struct_config__.tag),
        source=raw.source,
        task="classification" if raw.has_labels else "regression",
        num_train=len(x),
        num_test=len(x_test),
        input_shape=x.shape[1:],
        num_outputs=raw.num_outputs,
        standardization=_in_words(mode, len(x)),
    )
    return Dataset(
        x=_converted(x, mean=mean, deviation=deviation, unit=raw.unit, dtype=input_dtype),
        y=y if raw.has_labels else y.astype(dtype),
        x_test=_converted(x_test, mean=mean, deviation=deviation, unit=raw.unit, dtype=input_dtype),
        y_test=y_test if raw.has_labels else y_test.astype(dtype),
        description=description,
    )


def _read(data: Data, *, seed: int, base: Path | None) -> RawData:
    match data:
        case Digits():
            return images.digits()
        case DigitsFeatures():
            return images.digits_features(data, seed=seed)
        case Cifar10():
            return images.cifar(data, base=base)
        case Mnist() | FashionMnist():
            return images.mnist(data, base=base)
        case Npz():
            return tables.archive(data, base=base)
        case Csv():
            return tables.csv_file(data, base=base)
        case Text():
            return characters.windows(data, base=base)
        case Chebyshev():
            return synthetic.chebyshev(data)
        case Gaussian():
            return synthetic.gaussian(data, seed=seed)
        case CustomData():
            return tables.custom(data, seed=seed)
        case _:
            assert_never(data)


def _chosen(raw: RawData, data: Data, *, seed: int) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
    """The examples x, y to train on and x, y to test on; without a test split the test takes what training leaves over."""
    sizes = data_files.split(data, available=len(raw.x), test=None if raw.x_test is None else len(raw.x_test), where=raw.source)
    order = np.random.default_rng([seed, SUBSET_STREAM]).permutation(len(raw.x)) if data.subset == "random" else np.arange(len(raw.x))
    train = order[: sizes.num_train]
    if raw.x_test is None or raw.y_test is None:
        test = order[sizes.num_train : sizes.num_train + sizes.num_test]
        return raw.x[train], raw.y[train], raw.x[test], raw.y[test]
    return raw.x[train], raw.y[train], raw.x_test[: sizes.num_test], raw.y_test[: sizes.num_test]


def _mode(data: Data) -> Mode:
    if data.standardize is False:
        return "none"
    if data.standardize is not True:
        return data.standardize
    if isinstance(data, Cifar10):
        return "channel"
    return "global" if isinstance(data, Mnist | FashionMnist) else "feature"


def _range(x: AnyArray, *, unit: float) -> tuple[AnyArray, AnyArray]:
    """The least of all numbers, and how far the largest is from it; 1 where all are equal."""
    low, high = float(x.min()) / unit, float(x.max()) / unit
    return np.asarray(low), np.asarray(high - low if high > low else 1.0)


def _moments(x: AnyArray, *, mode: Mode, unit: float) -> tuple[AnyArray, AnyArray]:
    """Mean and population standard deviation, broadcastable to an example; the deviation is 1 where all values are equal."""
    if mode == "none":
        return np.zeros(()), np.ones(())
    if mode == "channel" and x.ndim < 4:
        raise SpecError(f'data.standardize = "channel": the inputs have the shape {x.shape[1:]}, expected [height, width, channels].')
    mean = sum(chunk.sum(axis=0) for chunk in _chunks(x, unit)) / len(x)
    variance = sum(((chunk - mean) ** 2).sum(axis=0) for chunk in _chunks(x, unit)) / len(x)
    low, high = x.min(axis=0), x.max(axis=0)
    axes = {"feature": (), "channel": tuple(range(x.ndim - 2)), "global": tuple(range(x.ndim - 1))}[mode]
    if axes:
        # The law of total variance: within each input coordinate, and between coordinates.
        variance = variance.mean(axis=axes) + mean.var(axis=axes)
        mean, low, high = mean.mean(axis=axes), low.min(axis=axes), high.max(axis=axes)
    return np.asarray(mean), np.where(low == high, 1.0, np.sqrt(variance))


def _converted(x: AnyArray, *, mean: AnyArray, deviation: AnyArray, unit: float, dtype: np.dtype[Any]) -> AnyArray:
    converted = np.empty(x.shape, dtype)
    for index, chunk in enumerate(_chunks(x, unit)):
        converted[index * CHUNK : (index + 1) * CHUNK] = (chunk - mean) / deviation
    return converted


def _chunks(x: AnyArray, unit: float) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(x), CHUNK):
        yield x[start : start + CHUNK].astype(np.float64) / unit


def _in_words(mode: Mode, num_train: int) -> str:
    if mode == "none":
        return "none"
    if mode == "min-max":
        return f"min-max: all input coordinates together minus their least, over their range, of the {num_train:,} training examples"
    group = {"feature": "each input coordinate", "channel": "each channel", "global": "all input coordinates together"}[mode]
    return f"{mode}: {group} minus mean, over standard deviation (1 if constant), of the {num_train:,} training examples"
