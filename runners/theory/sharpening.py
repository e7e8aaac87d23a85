"""How minibatch training changes the eigenvalues of the NTK in the quadratic model, to first order in its curvature.

Called by the runner that simulates the model, and by tests. Pure functions of arrays: no spec, no records.

The quadratic model has D examples with residuals z(theta) = z0 + J theta + Q(theta, theta) / 2 of P parameters that start at 0, the
Jacobian J(theta) = J + Q(theta, .) and the loss |z|^2 / (2 D). With S as in `second_moment` a step is
theta -= (eta / D) J(theta)^T S z(theta). The residuals z0 have independent entries of variance r. Q is symmetric in its last two
places: of each example a random symmetric matrix of Gaussian entries with variance v, on the diagonal 2 v, independent
of all else. For a left singular vector w of J, which is an eigenvector of T = J J^T / D, the
quantity l_w(theta) = |J(theta)^T w|^2 / D begins as the eigenvalue l_w and follows it.

Averaged over Q, z0 and the batches, l_w depends on v as a power series, whose first term is here, exact in eta, D and P: what it
needs beside is the second moment of linear training. Source of the model and of the question: Agarwala and Pennington (2024),
arXiv 2404.19261; derived: all formulas here.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from runners.theory import second_moment
from runners.theory.second_moment import Moment


class Linear(NamedTuple):
    """Linear training up to a step, per unit of r, as far as the first order in v takes it."""

    moment: Moment
    """Of the residuals, in the eigenbasis."""
    kept: Float[Array, " modes"]
    """rho_a^t with rho_a = 1 - eta l_a: what the mean keeps of each mode."""
    total: Float[Array, " modes"]
    """sum_s c_w(s) over the steps s before t, c_w(s) = E (w z_s) (w (z_s - z_0))."""
    driven: Float[Array, "modes others"]
    """sum_s c_w(s) rho_a^(t-1-s)."""
    squares: Float[Array, " modes"]
    """sum_s d_w(s) rho_w^(t-1-s), d_w(s) = E (w (z_s - z_0))^2."""


def start(values: Float[Array, " modes"]) -> Linear:
    """Before the first step.

    Args:
        values: l, the eigenvalues of T.
    """
    size, zero = len(values), jnp.zeros_like(values)
    moment = second_moment.at_rest(jnp.eye(size, dtype=values.dtype))
    return Linear(moment, jnp.ones_like(values), zero, jnp.zeros((size, size), values.dtype), zero)


def advanced(
    linear: Linear, values: Float[Array, " modes"], vectors: Float[Array, "modes modes"], *, lr: ArrayLike, p: ArrayLike
) -> Linear:
    """After one step more.

    Args:
        linear: Up to now.
        values: l, the eigenvalues of T.
        vectors: Its eigenvectors in columns, one for each example.
        lr: eta.
        p: Variance factor of the batches, 0 to 1.

    Cost: That of `second_moment.exact`.
    """
    decay = 1 - lr * values
    correlated, moved = _moved(linear)
    return Linear(
        second_moment.exact(linear.moment, values, vectors, lr=lr, p=p),
        linear.kept * decay,
        linear.total + correlated,
        linear.driven * decay + correlated[:, None],
        linear.squares * decay + moved,
    )


def eigenvalues(
    linear: Linear, values: Float[Array, " modes"], *, lr: ArrayLike, num_params: int, curvature: ArrayLike, residual: ArrayLike = 1.0
) -> Float[Array, " modes"]:
    """E l_w of each eigenvector w of T after the steps so far, to first order in v.

    With the step theta(t) of linear training, displacements in the mean as in `Linear`, and n = t - 1 - s,

        E l_w(t) = l_w + (v / D) { (P + 1) E |theta(t)|^2
                   - (2 eta / D) sum_{s<t} [ c_w(s) (P - D + sum_a rho_a^n + rho_w^n) + d_w(s) rho_w^n ] }.

    The first term is |Q(theta, .)^T w|^2, and grows in all directions alike; the sum is what J theta owes to Q, positive
    where the residual along w shrinks. Derived: theta to first order in Q, whose covariance contracts with J alone.

    Args:
        linear: Up to now.
        values: l, the eigenvalues of T; without movement in those that are 0.
        lr: eta.
        num_params: P, at least as many as examples.
        curvature: v.
        residual: r.

    Returns:
        One for each mode; off by terms of the order v^2.
    """
    size = len(values)
    moved = _moved(linear)[1]
    distance = jnp.sum(jnp.where(values > 0, moved / jnp.where(values > 0, values, 1), 0)) / size
    own = jnp.diagonal(linear.driven)
    owed = (num_params - size) * linear.total + jnp.sum(linear.driven, axis=1) + own + linear.squares
    grown: Array = curvature * residual / size * ((num_params + 1) * distance - 2 * lr / size * owed)
    return values + grown


def _moved(linear: Linear) -> tuple[Float[Array, " modes"], Float[Array, " modes"]]:
    """c_w and d_w at the present step."""
    own = jnp.diagonal(linear.moment.zz)
    return own - linear.kept, own - 2 * linear.kept + 1


def first_difference(
    values: Float[Array, " modes"], *, lr: ArrayLike, p: ArrayLike, num_params: int, curvature: ArrayLike, residual: ArrayLike = 1.0
) -> Float[Array, ""]:
    """E l_w(1) - l_w, the same for all w and exact: eta^2 v (P + 1) r b tr(T) / D^2 with b = 1 + p (D - 1).

    b is D / B for B distinct examples: the noise of the batches makes all of them grow.

    Args:
        values: l, the eigenvalues of T.
        lr: eta.
        p: Variance factor of the batches.
        num_params: P.
        curvature: v.
        residual: r.
    """
    size = len(values)
    spread = 1 + p * (size - 1)
    return jnp.asarray(lr**2 * curvature * (num_params + 1) * residual * spread * jnp.sum(values) / size**2)


def second_difference(
    values: Float[Array, " modes"],
    vectors: Float[Array, "modes modes"],
    *,
    lr: ArrayLike,
    p: ArrayLike,
    num_params: int,
    curvature: ArrayLike,
    residual: ArrayLike = 1.0,
) -> Float[Array, " modes"]:
    """E [l_w(2) - 2 l_w(1) + l_w] of each eigenvector w of T, to first order in v.

    With b = 1 + p (D - 1), and (P + 2) / (P + 1) nearly 1,

        2 eta^2 v (P + 1) r / D^2 { tr T + l_w - eta [ (1 - p + b) tr T^2 + p D sum_i T_ii^2 + b l_w^2 (P + 2) / (P + 1) ]
                                    + eta^2 b / 2 [ (1 - p) tr T^3 + p D sum_i T_ii (T^2)_ii ] }.

    Of this l_w (1 - eta b l_w) depends on the mode: large eigenvalues grow faster, which small batches damp by b = D / B times as
    much as the full batch does. That is conservative sharpening.

    Args:
        values: l, the eigenvalues of T.
        vectors: Its eigenvectors in columns, one for each example.
        lr: eta.
        p: Variance factor of the batches.
        num_params: P.
        curvature: v.
        residual: r.
    """
    size = len(values)
    spread = 1 + p * (size - 1)
    own, own_square = (jnp.square(vectors) @ values**power for power in (1, 2))
    second = (1 - p + spread) * jnp.sum(values**2) + p * size * jnp.sum(own**2)
    third = (1 - p) * jnp.sum(values**3) + p * size * jnp.sum(own * own_square)
    damping = second + spread * values**2 * (num_params + 2) / (num_params + 1)
    braces = jnp.sum(values) + values - lr * damping + lr**2 * spread / 2 * third
    return jnp.asarray(2 * lr**2 * curvature * (num_params + 1) * residual / size**2 * braces)
