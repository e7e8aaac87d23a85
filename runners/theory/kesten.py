"""The tail index of SGD itself on fresh Gaussian data: the s at which the mean of |I - lr H|^s, along any direction, is 1.

Pure functions of numbers; called by the runner of SGD ensembles.

Source: Gurbuzbalaban, Simsekli and Zhu (2021), arXiv 2006.04740, for x' = (I - (lr / B) sum a_i a_i^T) x + q with a_i ~ N(0, variance I);
the form by two chi-square variables and the second moment are derived here.
"""

import math

import numpy as np
import scipy.optimize
import scipy.special
from jaxtyping import Float

from runners.errors import SpecError

NODES = 120
"""Of each quadrature; their number is doubled to tell the error."""
LARGEST = 400.0
"""An index above this is not looked for."""


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
        return float(scipy.special.logsumexp(in_u[:, None] + in_c + s / 2 * np.log(squares)))


def index(*, lr: float, dimension: int, batch_size: int, variance: float) -> tuple[float, float]:
    """The tail index and the error of its quadrature.

    Raises:
        SpecError: If there is no stationary law, or no index up to 400.
    """
    given = {"lr": lr, "dimension": dimension, "batch_size": batch_size, "variance": variance}
    found = [_root(nodes, given) for nodes in (NODES // 2, NODES)]
    return found[1], abs(found[1] - found[0])


def _root(nodes: int, given: dict[str, float]) -> float:
    def grown(s: float) -> float:
        return log_growth(s, **given, nodes=nodes) / s  # type: ignore[arg-type]

    if grown(1e-6) >= 0:
        raise SpecError(f"lr = {given['lr']:g}: SGD on fresh data has no stationary law there. Lower it.")
    if grown(LARGEST) <= 0:
        raise SpecError(f"lr = {given['lr']:g}: the tail index of SGD on fresh data is above {LARGEST:g}.")
    return float(scipy.optimize.brentq(grown, 1e-6, LARGEST, xtol=1e-10, rtol=1e-12))


def _chi_square(degrees: int, nodes: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Nodes and log weights of Gauss and Laguerre's quadrature under the chi-square density."""
    at, weights = scipy.special.roots_genlaguerre(nodes, degrees / 2 - 1)
    kept = weights > 0
    return 2 * at[kept], np.log(weights[kept]) - math.lgamma(degrees / 2)
