"""Two classes as one output of +1 or -1, for what is about a single output; named in a spec as `runners.sources.signed:cifar10`."""

import numpy as np

from runners.sources import images
from runners.sources.raw import AnyArray
from runners.spec import Cifar10

POSITIVE_CLASSES = 5
"""CIFAR-10's classes 0 to 4 are +1, 5 to 9 are -1."""


def cifar10(*, seed: int, dir: str | None = None) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray] | tuple[AnyArray, AnyArray]:  # noqa: ARG001
    """CIFAR-10 images with a target of +1 for the first five classes and -1 for the others.

    Args:
        seed: Not used: nothing here is random.
        dir: The folder that holds the files; `$EOS_DATA` when absent.

    Returns:
        Pixels in bytes [examples, 32, 32, 3] and targets [examples, 1]; those of the test split too, where there is one.

    Raises:
        DataError: If files are missing, truncated or corrupt.
    """
    raw = images.cifar(Cifar10(dir=dir), base=None)
    if raw.x_test is None or raw.y_test is None:
        return raw.x, _signs(raw.y)
    return raw.x, _signs(raw.y), raw.x_test, _signs(raw.y_test)


def _signs(labels: AnyArray) -> AnyArray:
    return np.where(labels < POSITIVE_CLASSES, 1.0, -1.0)[:, None]
