"""Feedback on learning rate and batch size: what they become so that a measured ratio comes to its target.

Called by the training runner after a measurement. Pure functions of numbers; nothing knows how the ratio was measured.
"""

import math
from collections.abc import Mapping
from typing import Literal

from msgspec import structs

from runners.measure import noise_kernel
from runners.spec import EdgeBatch, EdgeRate, Optimizer


def next_lr(control: EdgeRate, lr: float, ratio: float) -> float:
    """The learning rate after a measurement: lr (target / ratio)^gain, within a `factor` of lr and within the limits.

    The sharpness of gradient descent over its threshold is lr sharpness / 2: with gain 1 the target is met at once. K grows faster than lr,
    so that the same step goes past the target from above and falls short of it from below. A smaller gain averages over
    measurements that scatter.

    Args:
        control: Target, gain and limits.
        lr: The learning rate that the ratio was measured for.
        ratio: How near the edge is, 1 at it. Where it is not positive lr rises as far as it may, where it is infinite, as K is
            beyond the edge of the sharpness, lr falls as far.
    """
    change = (control.target / ratio) ** control.gain if ratio > 0 else control.factor
    change = min(max(change, 1 / control.factor), control.factor)
    return min(max(lr * change, control.min), control.max)


def followed(control: EdgeRate, standing: Mapping[str, float]) -> float | None:
    """The ratio that the learning rate follows, from those measured at this step; None where one that it needs was not.

    Args:
        control: Says which.
        standing: Ratios by name, `sharpness` and `noise_kernel`.
    """
    names = ("sharpness", "noise_kernel") if control.of == "nearest" else (control.of,)
    return max(standing[name] for name in names) if all(name in standing for name in names) else None


def next_batch_size(control: EdgeBatch, optimizer: Optimizer, ratio: float, *, num_examples: int) -> int:
    """The batch size after a measurement of K: doubled until K is expected to be at most the target, or the limit is reached; never less.

    K is taken to be proportional to the variance factor p of a batch mean, as its trace part is; it falls a little faster.

    Args:
        control: Target and limit.
        optimizer: Its table in the spec, with the batch size that K was measured for.
        ratio: K; infinite beyond the edge of the sharpness, where no batch helps.
        num_examples: That the batches are drawn from.
    """
    size = optimizer.batch_size
    assert isinstance(size, int)
    if math.isinf(ratio):
        return size
    before = noise_kernel.variance_factor(optimizer, num_examples)
    most = min(control.max or num_examples, num_examples)
    while ratio * noise_kernel.variance_factor(resized(optimizer, size), num_examples) > control.target * before and 2 * size <= most:
        size *= 2
    return size


def resized(optimizer: Optimizer, batch_size: int | Literal["full"]) -> Optimizer:
    """The table with another batch size."""
    return structs.replace(optimizer, batch_size=batch_size)
