"""Homogenised SGD on least squares: the diffusion that stands for SGD's iterates, and the problem it comes from in its eigenbasis.

The loss is L(x) = |A x - b|^2 / (2 n), to which the optimizer's adds (ridge / 2) |x|^2; h_i > 0 are the eigenvalues of the Hessian
H = A^T A / n, so that a singular value l_i of A is sqrt(n h_i). One unit of time is a step of SGD with learning rate lr and batches of B
independent draws. With the gradients' covariance replaced by (2 / B) L(x) H, the coordinates z_i of the iterate about the solution,
scaled by l_i over the norm of the residual that is left, follow

    dz_i = -theta_i (z_i - mu_i) dt + sqrt(2 theta_i phi_i (|z|^2 + chi)) dW_i,
    theta_i = lr (h_i + ridge),    phi_i = lr h_i^2 / (2 B (h_i + ridge)),

with chi = 1, or 0 where the examples can be fitted exactly. In the source's symbols lr is gamma and n ridge is delta.

Called by `tail_index`, `pearson` and `volterra`, and by what prints them. Pure functions of arrays: no spec, no records, no jax.

Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382, for one output; the mean mu as derived here (`LeastSquares.comparison_means`).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from runners.errors import SpecError


@dataclass(frozen=True, eq=False)
class HomogenizedSgd:
    """The diffusion, as far as its index and its mean loss depend on it."""

    eigenvalues: Float[np.ndarray, " modes"]
    """h_i, all above 0; in descending order."""
    lr: float
    batch_size: int | float = 1
    """B; of batches of distinct examples as many independent draws as have the same variance."""
    ridge: float = 0.0
    """Added to every eigenvalue of the Hessian: the source's delta / n."""

    def __post_init__(self) -> None:
        values = np.sort(np.asarray(self.eigenvalues, dtype=np.float64))[::-1]
        if not len(values):
            raise SpecError("The Hessian has no eigenvalue above 0: there is nothing to learn.")
        if not (np.isfinite(values).all() and values[-1] > 0):
            raise SpecError(f"A Hessian eigenvalue is {values[-1]:g}: expected finite numbers > 0. Leave out those that are 0.")
        for name, value, least in (("lr", self.lr, 0), ("batch_size", self.batch_size, 0)):
            if not (math.isfinite(value) and value > least):
                raise SpecError(f"{name} = {value:g}: expected a number > 0.")
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise SpecError(f"ridge = {self.ridge:g}: expected a number >= 0.")
        object.__setattr__(self, "eigenvalues", values)

    @property
    def theta(self) -> Float[np.ndarray, " modes"]:
        """Rates at which the modes' means decay, in each step."""
        return self.lr * (self.eigenvalues + self.ridge)

    @property
    def phi(self) -> Float[np.ndarray, " modes"]:
        """Each mode's part of the noise kernel norm."""
        return self.lr * self.eigenvalues * (self.eigenvalues / (self.eigenvalues + self.ridge)) / (2 * self.batch_size)

    @property
    def noise_kernel(self) -> float:
        """K, the sum of phi: the mass of the Volterra kernel in continuous time; the second moment is finite while K < 1 (derived)."""
        return float(self.phi.sum())

    @property
    def effective_rank(self) -> float:
        """The trace of H over its largest eigenvalue."""
        return float(self.eigenvalues.sum() / self.eigenvalues[0])

    def at(self, lr: float) -> "HomogenizedSgd":
        """The same with another learning rate."""
        return replace(self, lr=lr)


class Start(NamedTuple):
    """Where the iterate begins, about the point x_d to which the mean goes, as far as the loss depends on it."""

    excess: Float[np.ndarray, " modes"]
    """Coordinates of x_0 - x_d."""
    offset: Float[np.ndarray, " modes"]
    """Coordinates of x_d - x_*, with x_* the minimum of L of least norm; 0 without ridge."""
    floor: float
    """The least that L can be."""
    variance: float = 0.0
    """Of each coordinate of x_0 about that; the expected loss is over its draws as well."""


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """A problem in the eigenbasis of its Hessian, without the directions in which the loss is flat."""

    num_examples: int
    eigenvalues: Float[np.ndarray, " modes"]
    """h_i, in descending order."""
    solution: Float[np.ndarray, " modes"]
    """Coordinates of x_*, the minimum of L of least norm."""
    start: Float[np.ndarray, " modes"]
    """Coordinates of x_0."""
    floor: float
    """The least that L can be; 0 where the examples can be fitted exactly."""
    directions: Float[np.ndarray, "modes features"]
    """The eigenvectors: right singular vectors of A."""

    def about(self, ridge: float) -> Start:
        """The start about the point to which the mean goes: x_d = (H + ridge)^-1 A^T b / n."""
        offset = -ridge * self.solution / (self.eigenvalues + ridge)
        return Start(self.start - self.solution - offset, offset, self.floor)

    def comparison_means(self, ridge: float) -> Float[np.ndarray, " modes"]:
        """mu_i of the diffusion: delta l_i alpha_i / (sqrt(beta) (l_i^2 + delta)), |alpha_i| and no beta where beta = 0.

        alpha are the coordinates of -x_*, beta = 2 n floor. The source prints n in place of delta, as which mu would not be where
        the drift vanishes; derived here.

        Args:
            ridge: delta / n.
        """
        alpha = -self.solution if self.floor > 0 else np.abs(self.solution)
        scale = math.sqrt(2 * self.floor) if self.floor > 0 else 1 / math.sqrt(self.num_examples)
        means: Float[np.ndarray, " modes"] = ridge * np.sqrt(self.eigenvalues) * alpha / (scale * (self.eigenvalues + ridge))
        return means


def spectrum(matrix: Float[np.ndarray, "examples features"]) -> Float[np.ndarray, " modes"]:
    """The eigenvalues of A^T A / n that are above rounding, in descending order.

    Args:
        matrix: A.

    Cost: A decomposition of A into singular values.
    """
    values: Float[np.ndarray, " modes"] = _above_rounding(np.linalg.svd(matrix, compute_uv=False), matrix.shape) ** 2 / len(matrix)
    return values


def least_squares(
    matrix: Float[np.ndarray, "examples features"],
    targets: Float[np.ndarray, " examples"],
    start: Float[np.ndarray, " features"] | None = None,
) -> LeastSquares:
    """The problem in its eigenbasis.

    Args:
        matrix: A.
        targets: b.
        start: x_0; 0 when absent.

    Cost: A decomposition of A into singular values and vectors.
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = _above_rounding(values, matrix.shape)
    left, right = left[:, : len(values)], right[: len(values)]
    projected = left.T @ targets
    rest = float(np.linalg.norm(targets - left @ projected))
    if rest <= max(matrix.shape) * np.finfo(np.float64).eps * float(np.linalg.norm(targets)):
        rest = 0.0
    return LeastSquares(
        num_examples=len(matrix),
        eigenvalues=values**2 / len(matrix),
        solution=projected / values,
        start=np.zeros(len(values)) if start is None else right @ start,
        floor=rest**2 / (2 * len(matrix)),
        directions=right,
    )


def _above_rounding(values: Float[np.ndarray, " all"], shape: tuple[int, ...]) -> Float[np.ndarray, " modes"]:
    kept: Float[np.ndarray, " modes"] = values[values > max(shape) * np.finfo(np.float64).eps * values[0]]
    return kept
