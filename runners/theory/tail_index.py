"""How heavy the tails of homogenised SGD are in the long run: bounds of its tail index, and the index itself where it is known.

The index eta is the supremum of the p for which E |x_t|^p stays finite as t goes to infinity. It is that of the diffusion in `homogenized`,
in continuous time, and not of SGD, whose tails are lighter. With the symbols of that module, of which s_i^2 = 2 theta_i phi_i is one more:

    upper = 1 + 1 / phi_1,    lower = upper - sum_{i>=2} h_i / h_1,

the first without a condition, the second for lr < 2 B (h_1 + ridge) / (h_1 tr H), which says lower > 2. What is known beyond them comes
from the linear diffusion dz_i = -theta_i z_i dt + s_i |z| dW_i far out: eta is the root p > 0 of its growth Lambda(p), of E |z|^p.

Called by what prints them. Pure functions of arrays, in float64.

Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382, for the bounds, their condition and the learning rate below which
distributions contract; derived: all else, as said there.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse.linalg
from jaxtyping import Float

from runners.theory.homogenized import HomogenizedSgd

ISOTROPIC = 1e-12
"""Relative spread up to which eigenvalues count as equal."""
FEWEST_MODES, MOST_MODES = 8, 128
"""Angular modes of the problem of rank 2, doubled until the root stands still."""
SETTLED = 1e-9
"""Relative change of the root at which it does."""
DENSE = 500
"""Ranks up to which a symmetric matrix is decomposed whole: 0.06 s there, with the time going up as the cube."""
RESIDUAL = 1e-8
"""Beyond, of the eigenvector relative to its eigenvalue, whose error goes as the square."""


class Bounds(NamedTuple):
    """What the tail index lies between."""

    lower: float
    upper: float
    lower_holds: bool
    """Whether the learning rate is small enough for the lower bound; above that it is no bound."""


class Index(NamedTuple):
    """The tail index, where it is known."""

    value: float
    """Not above 0 where there is no stationary law."""
    error: float
    """Estimated, of `value`."""
    method: str


class CriticalRates(NamedTuple):
    """Learning rates up to which things hold, with everything else kept."""

    wasserstein: float
    """The source's condition for distributions to contract: a quarter of `second_moment`."""
    lower_bound: float
    """The lower bound is one, and says that the index is above 2."""
    fourth_moment: float
    """The index is above 4."""
    second_moment: float
    """The index is above 2: K = 1 there. Distributions contract."""
    gradient_descent: float
    """Full-batch steps are stable: 2 / (h_1 + ridge)."""


def bounds(sgd: HomogenizedSgd) -> Bounds:
    """The bounds of the tail index; exact to rounding.

    Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382.
    """
    upper = float(1 + 1 / sgd.phi[0])
    return Bounds(upper - (sgd.effective_rank - 1), upper, sgd.lr < critical_lower_bound(sgd))


def critical_lower_bound(sgd: HomogenizedSgd) -> float:
    """The learning rate below which the lower bound holds: 2 B (h_1 + ridge) / (h_1 tr H); that of K = 1 without ridge."""
    largest = float(sgd.eigenvalues[0])
    return 2 * sgd.batch_size * ((largest + sgd.ridge) / largest) / float(sgd.eigenvalues.sum())


def critical_rates(sgd: HomogenizedSgd) -> CriticalRates:
    """The learning rates at which something ends; exact to rounding. The learning rate of `sgd` does not matter.

    Cost: That of `fourth_moment_norm`.

    Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382, for `lower_bound` and `wasserstein`; the moments are derived here.
    """
    second = sgd.lr / sgd.noise_kernel
    return CriticalRates(
        wasserstein=second / 4,
        lower_bound=critical_lower_bound(sgd),
        fourth_moment=sgd.lr / fourth_moment_norm(sgd),
        second_moment=second,
        gradient_descent=2 / float(sgd.eigenvalues[0] + sgd.ridge),
    )


def fourth_moment_norm(sgd: HomogenizedSgd) -> float:
    """A number that is in proportion to lr, and 1 where the fourth moment ceases to be finite.

    The moments q_ij = E z_i^2 z_j^2 of the linear diffusion follow q_ij' = -2 (theta_i + theta_j) q_ij + s_i^2 R_j + s_j^2 R_i, but
    q_ii' = -4 theta_i q_ii + 6 s_i^2 R_i, with the sums R_i = sum_k q_ik. All off-diagonal rates of that system are >= 0, so its largest
    eigenvalue is 0 where q' = 0 has a solution q >= 0. There q_ij is given by R alone, and with w_i = theta_i phi_i

        R_i = 3 phi_i R_i + sum_{j!=i} (w_i R_j + w_j R_i) / (theta_i + theta_j):

    the largest eigenvalue of a matrix of as many rows as there are modes, not of their pairs. It is symmetric once R_i is divided by
    sqrt(w_i), and in proportion to lr.

    Returns:
        That eigenvalue; exact to rounding.

    Cost: Memory of one matrix modes x modes; its decomposition up to `DENSE` modes, 100 to 200 products with a vector beyond.

    Source: Derived here.
    """
    # By the largest rate: only ratios of rates count, and squares of rates may be no numbers.
    rates = sgd.theta / sgd.theta[0]
    weights = rates * sgd.phi
    matrix = rates[:, None] + rates
    np.divide(1, matrix, out=matrix)
    # The sum over j has phi_i / 2 from j = i.
    diagonal = 2.5 * sgd.phi + matrix @ weights
    root = np.sqrt(weights)
    matrix *= root
    matrix *= root[:, None]
    np.fill_diagonal(matrix, diagonal)
    if len(matrix) <= DENSE:
        return float(np.linalg.eigvalsh(matrix)[-1])
    return float(scipy.sparse.linalg.eigsh(matrix, k=1, which="LA", v0=root, tol=RESIDUAL, return_eigenvectors=False)[0])


def exact(sgd: HomogenizedSgd) -> Index | None:
    """The tail index where it is known: with one eigenvalue, with equal ones, and as a rule with two; else None.

    Of two it is None where truncated modes say no more than the bounds: with indices in the thousands, and mostly where one eigenvalue is
    below 1/200 of the other.

    With r equal eigenvalues Lambda(p) = p (-theta + (r - 2) s^2 / 2) + p^2 s^2 / 2, so that eta = 2 + 1 / phi - r, which is the lower
    bound, whatever the learning rate. The stationary law is then Student's t in r variables with eta degrees of freedom, and exists where
    eta > 0.

    Cost: With two eigenvalues 10 ms, up to 0.3 s where one of them is below a hundredth of the other or the index is above 100.

    Source: Derived here.
    """
    values = sgd.eigenvalues
    if values[0] - values[-1] <= ISOTROPIC * values[0]:
        value = float(2 + 1 / sgd.phi[0] - len(values))
        return Index(value, ISOTROPIC * abs(value), "one eigenvalue" if len(values) == 1 else "equal eigenvalues")
    return _exact_of_two(sgd) if len(values) == 2 else None


def known_range(sgd: HomogenizedSgd) -> tuple[float, float]:
    """What the bounds say of the index together with whether its second and fourth moments are finite.

    Cost: That of `fourth_moment_norm`.
    """
    known = bounds(sgd)
    finite = [p for p, norm in ((2.0, sgd.noise_kernel), (4.0, fourth_moment_norm(sgd))) if norm < 1]
    infinite = [p for p in (2.0, 4.0) if p not in finite]
    return max([known.lower if known.lower_holds else 0.0, *finite]), min([known.upper, *infinite])


def contraction_rate(sgd: HomogenizedSgd) -> float | None:
    """The rate rho at which distributions come together: W_2(t) <= C exp(-rho t); None where K >= 1 and they need not.

    The root of sum_i theta_i phi_i / (theta_i - rho) = 1 below all theta_i, which is what Ito's formula gives for two copies with the same
    noise. The source has a factor 4 in it, and with it a lower rate and the condition lr < `CriticalRates.wasserstein`. The second moments
    settle at 2 rho.

    Returns:
        rho in each step; exact to 1e-12 of the smallest theta, to which rho is small near K = 1.

    Source: Derived here.
    """
    theta, weights = sgd.theta, sgd.theta * sgd.phi
    if sgd.noise_kernel >= 1:
        return None
    least = float(theta[-1])

    def left(rho: float) -> float:
        # Times the distance to the first pole, which keeps it finite there.
        parts = np.divide(least - rho, theta - rho, out=np.ones_like(theta), where=theta > least)
        return least - rho - float(weights @ parts)

    return float(scipy.optimize.brentq(left, 0.0, least, xtol=1e-12 * least))


def moment_growth(sgd: HomogenizedSgd, p: float, *, num_modes: int) -> float:
    """Lambda(p) of two eigenvalues: the rate at which E |z|^p grows in the linear diffusion.

    The generator takes |z|^p e^(i k angle), k even, to the same with k - 2, k and k + 2. With a = (p + k) / 2, b = (p - k) / 2 the factors
    are -(theta_1 - theta_2) a / 2 + (s_1^2 - s_2^2) a (a - 1) / 2, -(theta_1 + theta_2) p / 2 + (s_1^2 + s_2^2) a b, and the first with b
    for a. Lambda(p) is the largest eigenvalue; its function of the angle is positive, and so even.

    Args:
        sgd: Of two eigenvalues.
        p: The moment's order, > 0.
        num_modes: Even k from 0 on that are kept.

    Source: Derived here.
    """
    k = 2.0 * np.arange(num_modes)
    a, b = (p + k) / 2, (p - k) / 2
    theta, squares = sgd.theta, 2 * sgd.theta * sgd.phi

    def to_neighbour(c: Float[np.ndarray, " modes"]) -> Float[np.ndarray, " modes"]:
        found: Float[np.ndarray, " modes"] = -(theta[0] - theta[1]) * c / 2 + (squares[0] - squares[1]) * c * (c - 1) / 2
        return found

    down = to_neighbour(a)
    down[1] *= 2  # the cosine of k = 2 falls on that of 0 from both sides
    matrix = np.diag(-theta.sum() * p / 2 + squares.sum() * a * b) + np.diag(down[1:], 1) + np.diag(to_neighbour(b)[:-1], -1)
    return float(np.max(scipy.linalg.eigvals(matrix, overwrite_a=True, check_finite=False).real))


def _growth_over_order(p: float, *, sgd: HomogenizedSgd, num_modes: int) -> float:
    """Lambda(p) / p, which grows with p: Lambda is convex, and 0 at 0."""
    return moment_growth(sgd, p, num_modes=num_modes) / p


def _exact_of_two(sgd: HomogenizedSgd) -> Index | None:
    """None where the modes do not suffice to say more than the bounds."""
    lower, upper, _ = bounds(sgd)
    value: float | None = None
    change, num_modes = np.inf, FEWEST_MODES
    while num_modes <= MOST_MODES and change > SETTLED * upper:
        before, value = value, _root(partial(_growth_over_order, sgd=sgd, num_modes=num_modes), upper)
        change = np.inf if before is None or value is None else abs(value - before)
        num_modes *= 2
    return Index(min(value, upper), change, "two eigenvalues") if value is not None and change < upper - lower else None


def _root(growth: Callable[[float], float], upper: float) -> float | None:
    """Where Lambda(p) / p is 0; None where truncation leaves it of one sign."""
    # Truncation may put the root somewhat above the upper bound, which it nears as the second eigenvalue falls.
    low, high = 1e-6 * upper, 1.1 * upper
    if growth(low) > 0 or growth(high) < 0:
        return None
    return float(scipy.optimize.brentq(growth, low, high, xtol=SETTLED * upper / 100))
