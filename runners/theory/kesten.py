"""The tail index of SGD itself on fresh Gaussian data: the s at which the mean of |I - lr H|^s, along any direction, is 1.

Pure functions of numbers; called by the runner of SGD ensembles.

Source: Gurbuzbalaban, Simsekli and Zhu (2021), arXiv 2006.04740, for x' = (I - (lr / B) sum a_i a_i^T) x + q with a_i ~ N(0, variance I);
the form by two chi-square variables and the second moment are derived here.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
from jaxtyping import Float

from runners.errors import SpecError

NODES = 300
"""Of each quadrature: exact for even s up to twice as many."""
FEWER_NODES = 200
"""Of a second one that tells the error."""
SAFETY = 4
"""Times their difference is the error: with one dimension the mean has a corner in it, about which the error goes up and down."""
LARGEST = 400.0
"""An index above this is not looked for."""
LARGEST_ERROR = 1e-3
"""Of the index, relative to it."""
LARGEST_POWER = 700.0
"""Of e, that is a number."""
HUGE = 1e100
"""Numbers above this are kept apart from their size."""


def critical_lr(*, dimension: int, batch_size: int, variance: float) -> float:
    """The learning rate at which the index is 2: 2 B / (variance (d + B + 1)). Derived from E |I - lr H|^2."""
    return 2 * batch_size / (variance * (dimension + batch_size + 1))


def log_growth(s: float, *, lr: float, dimension: int, batch_size: int, variance: float, nodes: int = NODES) -> float:
    """Log E |(I - (lr / B) H) e|^s for a unit vector e, with H the sum of B products of examples.

    |.|^2 is (1 - v u)^2 + v^2 u c with v = lr variance / B, u ~ chi^2 with B degrees of freedom and c ~ chi^2 with d - 1, independent.

    Args:
        s: Above 0.
        lr: Learning rate.
        dimension: d.
        batch_size: B.
        variance: Of the examples' entries.
        nodes: Of the quadrature in each variable.
    """
    v = lr * variance / batch_size
    u, in_u = _chi_square(batch_size, nodes)
    c, in_c = _chi_square(dimension - 1, nodes) if dimension > 1 else (np.zeros(1), np.zeros(1))
    squares = (1 - v * u[:, None]) ** 2 + v * v * u[:, None] * c
    with np.errstate(divide="ignore"):
        powers = s / 2 * np.log(squares)
    weights = in_u[:, None] + in_c
    if np.max(powers) < LARGEST_POWER:
        # Near 1 the mean is told from it by its distance: at many dimensions it hardly leaves it.
        distance = float(np.sum(np.exp(weights) * np.expm1(powers)))
        if distance > -0.5:
            return math.log1p(distance)
    return float(scipy.special.logsumexp(weights + powers))


def index(*, lr: float, dimension: int, batch_size: int, variance: float) -> tuple[float, float]:
    """The tail index and the error of its quadrature.

    Raises:
        SpecError: If there is no stationary law, no index up to 400, or the quadrature does not tell it to a thousandth.
    """
    growth = partial(log_growth, lr=lr, dimension=dimension, batch_size=batch_size, variance=variance)
    found = [_root(partial(growth, nodes=nodes), lr) for nodes in (FEWER_NODES, NODES)]
    value, error = found[1], SAFETY * abs(found[1] - found[0])
    if error > LARGEST_ERROR * value:
        raise SpecError(f"lr = {lr:g}: the tail index of SGD on fresh data is found to {error:.1g} of {value:.4g} only.")
    return value, error


def _root(log_growth_of: Callable[[float], float], lr: float) -> float:
    def grown(s: float) -> float:
        return log_growth_of(s) / s

    if grown(1e-6) >= 0:
        raise SpecError(f"lr = {lr:g}: SGD on fresh data has no stationary law there. Lower it.")
    if grown(LARGEST) <= 0:
        raise SpecError(f"lr = {lr:g}: the tail index of SGD on fresh data is above {LARGEST:g}.")
    return float(scipy.optimize.brentq(grown, 1e-6, LARGEST, xtol=1e-10, rtol=1e-12))


@cache
def _chi_square(degrees: int, nodes: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Nodes and log weights of Gauss and Laguerre's quadrature under the chi-square density.

    A weight is 1 over the sum of the squares of the orthonormal polynomials there. These, and not the weights of the density without its
    constant, are finite numbers for any number of degrees.
    """
    k = np.arange(nodes, dtype=np.float64)
    middle, beside = 2 * k + degrees / 2, np.sqrt(k[1:] * (k[1:] + degrees / 2 - 1))
    at = scipy.linalg.eigvalsh_tridiagonal(middle, beside)
    before, now, total, size = np.zeros_like(at), np.ones_like(at), np.ones_like(at), np.zeros_like(at)
    for step in range(nodes - 1):
        last = beside[step - 1] * before if step else 0.0
        before, now = now, ((at - middle[step]) * now - last) / beside[step]
        total = total + now * now
        scale = np.where(np.abs(now) > HUGE, HUGE, 1.0)
        before, now, total, size = before / scale, now / scale, total / scale**2, size + 2 * np.log(scale)
    return 2 * at, -np.log(total) - size
