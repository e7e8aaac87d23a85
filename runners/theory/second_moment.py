"""What the linear model's residuals do in mean square: their second moment, exactly and in the eigenbasis alone.

Called by the runners that simulate such models, and by tests. Pure functions of arrays: no spec, no records.

The linear model has D examples with residuals z, the kernel T = J J^T / D of its Jacobian J, and the loss |z|^2 / (2 D). With S the
diagonal matrix that picks a step's batch, with mean I, an update by heavy ball (plain SGD with momentum b = 0) is

    u' = b u + T S z,    z' = z - eta u',

and a batch of independent draws or of distinct examples has E S M S = (1 - p) M + p D diag(M) with the variance factor p of
`noise_kernel.variance_factor`. So the second moment of (z, u) follows a linear recursion without an approximation. All moments here
are in the eigenbasis of T = V diag(l) V^T.

Source of the model and of K: Agarwala and Pennington (2024), arXiv 2404.19261; derived: the recursions.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from runners.measure import krylov
from runners.measure.noise_kernel import Noise, kernel_norm
from runners.measure.operators import full_precision


class Moment(NamedTuple):
    """Second moments in the eigenbasis of the kernel: all of them [modes, modes], or those of each mode by itself [modes]."""

    zz: Float[Array, "modes *others"]
    """E z_a z_b."""
    zu: Float[Array, "modes *others"]
    """E z_a u_b."""
    uu: Float[Array, "modes *others"]
    """E u_a u_b."""


class Growth(NamedTuple):
    """The factor by which the second moment grows in a step, in the long run, and how good it is."""

    value: Float[Array, ""]
    """Spectral radius of the exact map on the range of the kernel."""
    error: Float[Array, ""]
    """Estimated, of `value`."""
    num_products: Int[Array, ""]
    """With the map."""
    converged: Bool[Array, ""]


def at_rest(zz: Float[Array, "modes *others"]) -> Moment:
    """The moment of residuals whose velocity is zero.

    Args:
        zz: E z_a z_b, or its diagonal.
    """
    return Moment(zz, jnp.zeros_like(zz), jnp.zeros_like(zz))


def loss(moment: Moment) -> Float[Array, ""]:
    """The expected loss E |z|^2 / (2 D) of as many examples as there are modes."""
    zz = moment.zz
    return (jnp.trace(zz) if zz.ndim == 2 else jnp.sum(zz)) / (2 * len(zz))


def overlaps(vectors: Float[Array, "examples modes"]) -> Float[Array, "modes modes"]:
    """C_ab = sum_i V_ia^2 V_ib^2: how far modes share their examples; 1 / D throughout for eigenvectors that are flat.

    Args:
        vectors: V, the eigenvectors of the kernel in its columns.
    """
    squares = jnp.square(vectors)
    return squares.T @ squares


@full_precision
def exact(
    moment: Moment,
    values: Float[Array, " modes"],
    vectors: Float[Array, "modes modes"],
    *,
    lr: ArrayLike,
    p: ArrayLike,
    momentum: float = 0.0,
) -> Moment:
    """The second moment after a step, without an approximation.

    Without momentum M' = (I - eta T) M (I - eta T) + p eta^2 T (D diag(M) - M) T for M = E z z^T.

    Args:
        moment: Of [modes, modes].
        values: l, the eigenvalues of the kernel.
        vectors: V, its eigenvectors in columns, one for each example.
        lr: eta.
        p: Variance factor of the batches, 0 to 1.
        momentum: b.

    Cost: 2 products of matrices of the kernel's size.
    """
    own = jnp.sum((vectors @ moment.zz) * vectors, axis=1)
    noise = len(values) * (vectors.T * own) @ vectors
    return _stepped(moment, noise, rows=values[:, None], columns=values, lr=lr, p=p, momentum=momentum)


@full_precision
def closure(
    moment: Moment,
    values: Float[Array, " modes"],
    shared: Float[Array, "modes modes"],
    *,
    lr: ArrayLike,
    p: ArrayLike,
    momentum: float = 0.0,
) -> Moment:
    """The variance of each mode after a step, as if different modes were uncorrelated.

    Without momentum S_a' = ((1 - eta l_a)^2 - p (eta l_a)^2) S_a + p D (eta l_a)^2 sum_b C_ab S_b. Exact where the moment stays
    diagonal: for eigenvectors that are single examples, or that are flat, when it begins so.

    Args:
        moment: Of [modes].
        values: l, the eigenvalues of the kernel.
        shared: C, by `overlaps`.
        lr: eta.
        p: Variance factor of the batches, 0 to 1.
        momentum: b.

    Cost: A product of the matrix C with a vector.
    """
    noise = len(values) * (shared @ moment.zz)
    return _stepped(moment, noise, rows=values, columns=values, lr=lr, p=p, momentum=momentum)


def high_dimensional(moment: Moment, values: Float[Array, " modes"], *, lr: ArrayLike, p: ArrayLike, momentum: float = 0.0) -> Moment:
    """The variance of each mode after a step, as if eigenvectors were flat as well: `closure` with C = 1 / D throughout.

    Args:
        moment: Of [modes].
        values: l, the eigenvalues of the kernel.
        lr: eta.
        p: Variance factor of the batches, 0 to 1.
        momentum: b.

    Cost: A few operations for each mode.
    """
    noise = jnp.broadcast_to(jnp.sum(moment.zz), values.shape)
    return _stepped(moment, noise, rows=values, columns=values, lr=lr, p=p, momentum=momentum)


def _stepped(
    moment: Moment, noise: Float[Array, "modes *others"], *, rows: Array, columns: Array, lr: ArrayLike, p: ArrayLike, momentum: float
) -> Moment:
    """A step, given D diag(E z z^T) in the eigenbasis. A vector of variances is its own transpose."""
    zz, zu, uu = moment
    crossed = rows * zu + (rows * zu).T
    uu = momentum**2 * uu + momentum * crossed + rows * columns * ((1 - p) * zz + p * noise)
    zu = momentum * zu + zz * columns
    zz = zz - lr * (zu + zu.T) + lr**2 * uu
    # Without this the antisymmetric part, which rounding begins, grows where the moment itself decays.
    return Moment((zz + zz.T) / 2, zu - lr * uu, uu)


def closure_kernel_norm(noise: Noise, values: Sequence[float], shared: Float[np.ndarray, "modes modes"]) -> float:
    """K of `closure`: its variances decay exactly while K < 1 and every mode is stable by itself.

    The largest eigenvalue of R^1/2 D C R^1/2 with R diagonal, r_a the part of K that eigenvalue l_a alone has. With C = 1 / D
    throughout it is the sum of the r_a, which is `noise_kernel.kernel_norm`.

    Args:
        noise: The batches' noise.
        values: l, the eigenvalues of the kernel.
        shared: C, by `overlaps`.

    Returns:
        K; infinite once a mode is unstable by itself.
    """
    parts = np.array([kernel_norm(noise, [value], trace=max(value, 0.0)) for value in values])
    if not np.isfinite(parts).all():
        return math.inf
    root = np.sqrt(parts)
    return float(np.linalg.eigvalsh(len(parts) * root[:, None] * np.asarray(shared) * root)[-1])


@full_precision
def growth(
    values: Float[Array, " modes"],
    vectors: Float[Array, "modes modes"],
    *,
    lr: ArrayLike,
    p: ArrayLike,
    tolerance: float,
    max_products: int,
    key: Key[Array, ""],
) -> Growth:
    """The factor by which the second moment grows in a step, in the long run, under plain steps: below 1 it decays.

    The map of `exact` keeps positive matrices positive, so that its spectral radius is its largest eigenvalue. With
    M = T^1/2 X T^1/2 the map is symmetric in X, and `krylov` finds that. Modes that do not move, whose eigenvalue is zero to
    rounding, are left out.

    Args:
        values: l, the eigenvalues of the kernel.
        vectors: V, its eigenvectors in columns, one for each example.
        lr: eta.
        p: Variance factor of the batches, 0 to 1.
        tolerance: Relative error asked of it.
        max_products: Products after which to give up.
        key: For the solver's random directions.

    Cost: 2 products of matrices of the kernel's size for each product.
    """
    size = len(values)
    moves = values > size * jnp.finfo(values.dtype).eps * jnp.max(values)
    root = jnp.sqrt(jnp.where(moves, values, 0))
    scale = root[:, None] * root
    inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)

    def product(flat: Array) -> Array:
        half = flat.reshape(size, size)
        whole = at_rest(scale * (half + half.T) / 2)
        return (inverse * exact(whole, values, vectors, lr=lr, p=p).zz).ravel()

    start = krylov.no_start(size * size, 1, dtype=values.dtype)
    found = krylov.largest_eigenvalues(product, start, k=1, tolerance=tolerance, max_products=max_products, key=key)
    return Growth(found.values[0], found.errors[0], found.num_products, found.converged)
