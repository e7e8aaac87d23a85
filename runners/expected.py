"""What the Volterra equation expects of the loss of a training run that is least squares: of a linear model, MSE and plain SGD in batches.

Called by `train`, which draws it beside the measured loss. Each output is a problem of its own on the same examples, and the expected
losses add up; batches of distinct examples count as independent draws of the same variance.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from runners.experiments import Descent
from runners.measure.noise_kernel import variance_factor
from runners.spec import Linear, Mse, Sgd, Train

MOST_FEATURES = 1000
"""Of which the examples are decomposed: half a second at 5,000 examples."""


def is_least_squares(spec: Descent) -> bool:
    """Whether a run is one whose expected loss is drawn."""
    if not isinstance(spec, Train) or not isinstance(spec.model, Linear) or not isinstance(spec.objective, Mse):
        return False
    table, objective = spec.optimizer, spec.objective
    is_plain = isinstance(table, Sgd) and not table.warm_steps and isinstance(table.lr, int | float) and isinstance(table.batch_size, int)
    is_whole = objective.transform == "none" and not objective.weight_decay and spec.model.parametrization == "sp"
    return is_plain and is_whole and spec.measure.num_examples == "all"


def expected_loss(
    spec: Train,
    *,
    x: Float[np.ndarray, "examples *input"],
    targets: Float[np.ndarray, "examples outputs"],
    kernel: Float[np.ndarray, "features outputs"],
    bias: Float[np.ndarray, " outputs"] | None,
) -> Callable[[int], float] | None:
    """The expected loss by step; None where there are too many features, batches are all examples, or K in steps is not below 1.

    There the equation in steps grows without end, while SGD may stay stable where one eigenvalue stands out; and the one in continuous
    time knows nothing of how large a step is: on Gaussian examples with K = 0.37, and 1.1 in steps, it has a loss of 0.07 after 300 steps,
    where the mean of 2,000 runs is 41 and more.

    Args:
        spec: A run of which `is_least_squares` is true.
        x: Inputs of all examples.
        targets: What each output is to be.
        kernel: First values.
        bias: First values; None without.
    """
    # scipy takes a third of a second to import: not for every training run.
    from runners.theory import homogenized, volterra
    from runners.theory.homogenized import HomogenizedSgd

    matrix, start = x.reshape(len(x), -1).astype(np.float64), kernel.astype(np.float64)
    if bias is not None:
        matrix, start = np.hstack([matrix, np.ones((len(matrix), 1))]), np.vstack([start, bias])
    lr = spec.optimizer.lr
    assert isinstance(lr, int | float)
    variance = variance_factor(spec.optimizer, len(matrix))
    if matrix.shape[1] > MOST_FEATURES or not variance:
        return None
    curves = []
    for target, begin in zip(targets.astype(np.float64).T, start.T, strict=True):
        problem = homogenized.least_squares(matrix, target, begin)
        sgd = HomogenizedSgd(problem.eigenvalues, float(lr), batch_size=1 / variance)
        if volterra.noise_kernel(sgd, in_steps=True) >= 1:
            return None
        curves.append(volterra.expected_loss(sgd, problem.about(0.0), in_steps=True))
    return lambda step: float(sum(curve.at(np.array([float(step)])).values[0] for curve in curves))
