"""What every data set is turned into before examples are chosen and standardised."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runners.errors import DataError

AnyArray: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawData:
    """Every example of a data set, in the numbers of its source."""

    x: AnyArray
    """[examples, *input_shape], of any real type."""
    y: AnyArray
    """Labels [examples] int32, or targets [examples, outputs] float64."""
    num_outputs: int
    source: str
    x_test: AnyArray | None = None
    """None where the source has no test split."""
    y_test: AnyArray | None = None
    unit: float = 1.0
    """An input is x / unit: 255 for pixels in bytes."""
    holds_codes: bool = False
    """Whether inputs are numbers that stand for characters, and so stay integers."""

    @property
    def has_labels(self) -> bool:
        """Whether y holds class labels and not real targets."""
        return self.y.ndim == 1


def from_arrays(x: AnyArray, y: AnyArray, x_test: AnyArray | None, y_test: AnyArray | None, *, where: str) -> RawData:
    """A user's arrays, checked: an integer y [examples] holds labels, any other y real targets.

    Labels other than 0 to C - 1 are numbered in sorted order, which `source` then says.

    Raises:
        DataError: If an array is not made of finite real numbers, or shapes do not agree.
    """
    x, y = _inputs(x, f"{where}: x"), _numbers(y, f"{where}: y")
    if (x_test is None) != (y_test is None):
        raise DataError(f"{where}: of x_test and y_test only one is there; expected both or none.")
    if x_test is not None and y_test is not None:
        x_test, y_test = _inputs(x_test, f"{where}: x_test"), _numbers(y_test, f"{where}: y_test")
        if x_test.shape[1:] != x.shape[1:] or y_test.shape[1:] != y.shape[1:]:
            raise DataError(
                f"{where}: the test examples have the shapes {x_test.shape[1:]} and {y_test.shape[1:]}, those to train on "
                f"{x.shape[1:]} and {y.shape[1:]}: expected the same."
            )
    for name, inputs, outputs in (("", x, y), ("_test", x_test, y_test)):
        if inputs is not None and outputs is not None and len(inputs) != len(outputs):
            raise DataError(f"{where}: x{name} has {len(inputs):,} examples and y{name} {len(outputs):,}: expected as many of both.")
    y_all = y if y_test is None else np.concatenate([y, y_test])
    targets: AnyArray
    if y_all.ndim == 1 and y_all.dtype.kind in "iub":
        targets, classes = label_codes(y_all, where=where)
        num_outputs, source = len(classes), where + class_note(classes)
    else:
        targets = y_all.astype(np.float64).reshape(len(y_all), -1)
        num_outputs, source = targets.shape[1], where
    tested = None if y_test is None else targets[len(y) :]
    return RawData(x=x, y=targets[: len(y)], num_outputs=num_outputs, source=source, x_test=x_test, y_test=tested)


def label_codes(labels: AnyArray, *, where: str) -> tuple[NDArray[np.int32], AnyArray]:
    """Each label's place among the sorted distinct ones, and these.

    Raises:
        DataError: If there is only one class.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"{where}: every label is {classes[0]}; expected at least two classes.")
    return codes.astype(np.int32), classes


def class_note(classes: AnyArray) -> str:
    """Which classes the labels 0, 1, ... stand for, cut after the first ten; nothing where they stand for themselves."""
    if np.array_equal(classes, np.arange(len(classes))):
        return ""
    shown = ", ".join(str(name) for name in classes[:10])
    return f"; classes in order: {shown}" + (f", ... ({len(classes)} in all)" if len(classes) > 10 else "")


def _inputs(array: AnyArray, what: str) -> AnyArray:
    found = _numbers(array, what)
    if found.size == 0:
        raise DataError(f"{what} has the shape {found.shape}: expected at least one example with at least one number.")
    return found[:, None] if found.ndim == 1 else found


def _numbers(array: AnyArray, what: str) -> AnyArray:
    found = np.asarray(array)
    if found.dtype.kind not in "fiub":
        raise DataError(f"{what} has the type {found.dtype}: expected real numbers.")
    if found.ndim == 0:
        raise DataError(f"{what} is a single number: expected one entry or row an example.")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(found))[0])
        raise DataError(f"{what}{list(place)} is {found[place]}: expected finite numbers. Remove or fill in the example.")
    return found
