"""The expected loss of homogenised SGD on least squares, which solves a Volterra equation, as a sum of exponentials.

Psi(t) = E L(X_t) follows Psi(t) = F(t) + int_0^t k(t - s) Psi(s) ds, with F the loss along the mean and the kernel
k(t) = (lr^2 / B) sum_i h_i^2 exp(-2 theta_i t), whose mass is K = sum_i phi_i. In steps, exp(-theta_i t) is (1 - theta_i)^t and the
integral the sum over s < t with k(t - 1 - s); K is sum_i 2 phi_i / (2 - theta_i) then, nearer to SGD's at a learning rate that is not
small. In as far as the gradients' covariance is (2 / B) L H, that is, with many modes of a like size.

The kernel is a sum of exponentials, so that the equation is the same as a linear system of one variable a mode, S_i = h_i times half of
E (y_i - y_d,i)^2, with y the coordinates of the iterate about x_* and y_d those of x_d, to which the mean goes,

    S' = -2 Theta S + 2 theta phi Psi,    Psi = L(x_d) + sum_i S_i + sum_i h_i y_d,i (y_0 - y_d)_i exp(-theta_i t),

that is, a diagonal matrix plus one of rank one. It is solved in the eigenbasis of that, without steps in time: exactly, at any times.

Called by what draws it beside runs, and by tests. Pure functions of arrays, in float64.

Source: Paquette, Lee, Pedregosa and Paquette (2021), arXiv 2102.04396, for the equation with single examples and without ridge; derived
here: any batch size and ridge, the form in steps, and the solution.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.optimize
from jaxtyping import Float

from runners.errors import SpecError
from runners.theory.homogenized import HomogenizedSgd, Start

EPS = float(np.finfo(np.float64).eps)
CHUNK = 4096
"""Times that are taken at once, so that memory does not grow with their number."""


class Loss(NamedTuple):
    """The expected loss at some times."""

    values: Float[np.ndarray, " times"]
    errors: Float[np.ndarray, " times"]
    """Estimates of what rounding did."""


@dataclass(frozen=True, eq=False)
class ExpectedLoss:
    """The solution of the equation; `expected_loss` makes one.

    Psi(t) = L(x_d) + sum_k (weights_k g_k(t) + source_k (g_k(t) - 1) / growth_k) + sum_j linear_j d_j(t) with g_k(t) = exp(growth_k t) and
    d_j(t) = exp(-theta_j t), or in steps (1 + growth_k)^t and (1 - theta_j)^t.
    """

    in_steps: bool
    noise_kernel: float
    """K of the kernel that was asked for."""
    level: float
    """L(x_d): where the loss would come to rest without noise."""
    growth: Float[np.ndarray, " modes"]
    weights: Float[np.ndarray, " modes"]
    source: Float[np.ndarray, " modes"]
    theta: Float[np.ndarray, " modes"]
    linear: Float[np.ndarray, " modes"]

    @property
    def limit(self) -> float:
        """What the loss comes to: L(x_d) / (1 - K).

        Raises:
            SpecError: If K >= 1, where it does not stay finite.
        """
        if self.noise_kernel >= 1:
            found = f"K = {self.noise_kernel:.4g}: expected less than 1; from 1 on the loss has no limit"
            raise SpecError(f"{found}. Lower lr, or take larger batches.")
        return self.level / (1 - self.noise_kernel)

    @property
    def rate(self) -> float:
        """The r of |Psi(t) - limit| ~ exp(-r t): 2 rho of `tail_index.contraction_rate`, or with ridge the slowest theta_j if that is less.

        Below 0 where the loss grows.
        """
        slow = np.abs(self.linear) > 0
        linear = np.log(np.maximum(np.abs(1 - self.theta[slow]), EPS)) if self.in_steps else -self.theta[slow]
        return -float(np.max(np.concatenate([self._exponents, linear])))

    @property
    def _exponents(self) -> Float[np.ndarray, " modes"]:
        return np.log1p(np.maximum(self.growth, np.nextafter(-1, 0))) if self.in_steps else self.growth

    def at(self, times: Float[np.ndarray, " times"]) -> Loss:
        """The expected loss at some times.

        Args:
            times: In steps, >= 0; whole numbers for the form in steps.

        Returns:
            Values, with rounding's estimated error, EPS (1 + 2 t theta) times the sizes of all that is added up, in steps over what the
            slowest mode keeps in one; both infinite where the loss has grown beyond the largest number.

        Cost: An exponential for each mode and time.
        """
        chunks = [self._at(times[begin : begin + CHUNK]) for begin in range(0, len(times), CHUNK)]
        return Loss(*(np.concatenate(parts) for parts in zip(*chunks, strict=True))) if chunks else Loss(np.zeros(0), np.zeros(0))

    def _at(self, times: Float[np.ndarray, " times"]) -> Loss:
        column = times[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            grown = np.exp(column * self._exponents)
            # (g - 1) / growth, and t where the growth is 0, as at K = 1.
            safe = np.where(self.growth == 0, 1.0, self.growth)
            summed = np.where(self.growth == 0, column, np.expm1(column * self._exponents) / safe)
            values = self.level + grown @ self.weights + summed @ self.source
            sizes = self.level + grown @ np.abs(self.weights) + summed @ self.source
            if self.linear.any():
                decayed = _decayed(self.theta, times, in_steps=self.in_steps)
                values, sizes = values + decayed @ self.linear, sizes + np.abs(decayed) @ np.abs(self.linear)
        values, sizes = (np.where(np.isfinite(values), found, np.inf) for found in (values, sizes))
        # Growth is the difference of what decays and what noise adds, each of the size of 2 theta, and may be much less than they.
        change = max(float(np.max(np.abs(self.growth))), 2 * float(np.max(self.theta)))
        if self.in_steps:
            # What is taken to a power is 1 + growth, which is told less well the nearer to 0 it is.
            change /= max(1 + float(np.max(self.growth)), EPS)
        return Loss(values, EPS * (len(self.growth) + times * change) * sizes)


def noise_kernel(sgd: HomogenizedSgd, *, in_steps: bool) -> float:
    """K, the mass of the kernel; infinite in steps where a mode is unstable by itself."""
    if not in_steps:
        return sgd.noise_kernel
    return float(np.sum(2 * sgd.phi / (2 - sgd.theta))) if sgd.theta[0] < 2 else float("inf")


def critical_rate(sgd: HomogenizedSgd, *, in_steps: bool) -> float:
    """The learning rate at which K = 1, to 1e-12 of it: that of gradient descent's own edge where K is 1 nearer to it than can be told."""
    if not in_steps:
        return sgd.lr / sgd.noise_kernel
    edge = 2 / float(sgd.eigenvalues[0] + sgd.ridge)

    def excess(part: float) -> float:
        # Times what is left to the edge, which keeps it finite there.
        return (noise_kernel(sgd.at(part * edge), in_steps=True) - 1) * (1 - part)

    nearest = 1 - 8 * EPS
    return edge * float(scipy.optimize.brentq(excess, EPS, nearest, xtol=EPS, rtol=1e-12)) if excess(nearest) > 0 else edge


def kernel(sgd: HomogenizedSgd, times: Float[np.ndarray, " times"], *, in_steps: bool) -> Float[np.ndarray, " times"]:
    """k(t)."""
    found: Float[np.ndarray, " times"] = _decayed(sgd.theta, times, in_steps=in_steps) ** 2 @ (2 * sgd.theta * sgd.phi)
    return found


def forcing(sgd: HomogenizedSgd, start: Start, times: Float[np.ndarray, " times"], *, in_steps: bool) -> Float[np.ndarray, " times"]:
    """F(t), the loss along the mean: that of gradient flow, or in steps of gradient descent, on the loss with its ridge."""
    decayed = _decayed(sgd.theta, times, in_steps=in_steps)
    squares = (start.offset + start.excess * decayed) ** 2 + start.variance * decayed**2
    found: Float[np.ndarray, " times"] = start.floor + squares @ sgd.eigenvalues / 2
    return found


def _decayed(theta: Float[np.ndarray, " modes"], times: Float[np.ndarray, " times"], *, in_steps: bool) -> Float[np.ndarray, "times modes"]:
    """What is left of each mode's mean."""
    found: Float[np.ndarray, "times modes"] = (1 - theta) ** times[:, None] if in_steps else np.exp(-times[:, None] * theta)
    return found


def expected_loss(sgd: HomogenizedSgd, start: Start, *, in_steps: bool = False) -> ExpectedLoss:
    """The solution of the Volterra equation.

    Args:
        sgd: The diffusion.
        start: From `LeastSquares.about`, with the ridge of `sgd` and its eigenvalues in the same order.
        in_steps: The kernel (1 - theta)^2t, not exp(-2 theta t).

    Raises:
        SpecError: If a step is unstable for gradient descent itself, in the form in steps.

    Cost: The decomposition of a symmetric matrix of as many rows as there are modes.
    """
    h, theta = sgd.eigenvalues, sgd.theta
    if in_steps and theta[0] >= 2:
        found = f"lr = {sgd.lr:g}, {theta[0]:.4g} over the largest eigenvalue"
        raise SpecError(f"{found}: expected less than 2, or gradient descent itself diverges.")
    level = start.floor + float(h @ start.offset**2) / 2
    coupling = np.sqrt(2 * theta * sgd.phi)
    decay = theta * (2 - theta) if in_steps else 2 * theta
    growth, vectors = np.linalg.eigh(np.outer(coupling, coupling) - np.diag(decay))
    projected = vectors.T @ coupling
    weights = projected * (vectors.T @ (h * (start.excess**2 + start.variance) / (2 * coupling)))
    linear = h * start.offset * start.excess
    # What each exp(-theta_j t) drives: projected_k linear_j (g_k(t) - d_j(t)) / (growth_k + theta_j) in mode k.
    driven = projected[:, None] ** 2 * linear / _apart(growth[:, None] + theta, float(theta[0]))
    return ExpectedLoss(
        in_steps=in_steps,
        noise_kernel=noise_kernel(sgd, in_steps=in_steps),
        level=level,
        growth=growth,
        weights=weights + driven.sum(axis=1),
        source=level * projected**2,
        theta=theta,
        linear=linear - driven.sum(axis=0),
    )


def _apart(differences: Float[np.ndarray, "modes modes"], scale: float) -> Float[np.ndarray, "modes modes"]:
    """The differences, kept from 0: nearer than rounding the terms are huge, and the error that is reported says so."""
    least = EPS * scale
    return np.where(np.abs(differences) < least, least, differences)
