"""Central flows: the time average of gradient descent and of RMSProp, oscillating at the edge of stability, as a flow.

Time t counts steps. With the preconditioner P = diag(p), of which P = I / lr is gradient descent's and (sqrt(nu) + eps) / lr RMSProp's,

    dw/dt = -P^-1 (grad L + grad <Sigma, H> / 2),    dnu/dt = c (g^2 + diag(H Sigma H) - nu),    c = (1 - decay) / decay,

where the oscillation's covariance Sigma >= 0 is the one that keeps H <= 2 P and lies where H = 2 P; H Sigma H = 4 P Sigma P there.
Below the edge Sigma = 0. Pure functions of flat vectors, called by the flow runner inside its compiled programs; Sigma itself comes
from `complementarity`. For gradient descent nu stands still, with c = 0.

Source: Cohen, Damian, Talwalkar, Kolter and Lee (2024), arXiv 2410.24206.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from runners.theory.complementarity import pairs

EDGE = 2.0
"""Of the effective curvatures, the eigenvalues of P^-1 H."""
CRITICAL = 1.95
"""From here on an effective curvature enters the complementarity problem. Source: as above, the authors' code."""


class Local(NamedTuple):
    """A point of the flow, and what is known of the curvature there in the span of a few directions u_i."""

    gradient: Float[Array, " dim"]
    preconditioner: Float[Array, " dim"]
    """p."""
    directions: Float[Array, "k dim"]
    """u_i = P^-1/2 v_i, v_i orthonormal: so u_i^T P u_j = 1 where i = j, and else 0."""
    curvatures: Float[Array, " pairs"]
    """u_i^T H u_j, in the order of `complementarity.pairs`, as all that is by pair."""
    slopes: Float[Array, "pairs dim"]
    """Their gradients in w."""
    second_moment: Float[Array, " dim"]
    """nu."""
    slope: Float[Array, " dim"]
    """dp/dnu, 0 for gradient descent."""
    rate: Float[Array, ""]
    """c."""


def problem(local: Local, dt: Float[Array, ""] | float) -> tuple[Float[Array, "k k"], Float[Array, "pairs pairs"]]:
    """A and Q of `complementarity.solve`, whose X gives Sigma = sum_ij X_ij u_i u_j^T.

    U^T (2 P - H) U after a step dt of Euler's, with U held, is A + B[X]:

    A_ij = 2 (i = j) - u_i^T H u_j + dt (<grad(u_i^T H u_j), P^-1 g> + 2 c u_i^T diag(p' (g^2 - nu)) u_j),
    Q_(ij)(kl) = dt (<grad(u_i^T H u_j), P^-1 grad(u_k^T H u_l)> / 2 + 8 c sum_a p'_a p_a^2 u_ia u_ja u_ka u_la), p' = dp/dnu.

    Args:
        local: Point and directions.
        dt: Length of the step, in steps of the optimizer.

    Returns:
        A, and Q by pairs; exact to rounding.

    Source: derived here from the flow.
    """
    k = len(local.directions)
    first, second = (np.array(place) for place in zip(*pairs(k), strict=True))
    p, u = local.preconditioner, local.directions
    products = u[first] * u[second]
    drift = local.slopes @ (local.gradient / p) + 2 * local.rate * (products @ (local.slope * (local.gradient**2 - local.second_moment)))
    entries = EDGE * jnp.asarray(first == second) - local.curvatures + dt * drift
    scaled = local.slopes / jnp.sqrt(p)
    moments = products * p * jnp.sqrt(local.slope)
    quadratic = dt * (scaled @ scaled.T / 2 + 8 * local.rate * (moments @ moments.T))
    constant = jnp.zeros((k, k), entries.dtype).at[first, second].set(entries).at[second, first].set(entries)
    return constant, quadratic


def velocity(local: Local, x: Float[Array, "k k"]) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
    """dw/dt and dnu/dt for Sigma = sum_ij X_ij u_i u_j^T.

    Source: Cohen, Damian, Talwalkar, Kolter and Lee (2024), arXiv 2410.24206.
    """
    first, second = (np.array(place) for place in zip(*pairs(len(x)), strict=True))
    weights = x[first, second] * jnp.where(first == second, 1.0, 2.0).astype(x.dtype)
    p = local.preconditioner
    dw = -(local.gradient + weights @ local.slopes / 2) / p
    return dw, local.rate * (local.gradient**2 + 4 * p**2 * covariance_diagonal(local, x) - local.second_moment)


def covariance_diagonal(local: Local, x: Float[Array, "k k"]) -> Float[Array, " dim"]:
    """Diagonal of Sigma: the predicted variance of each parameter about the flow. Its sum is tr Sigma."""
    diagonal: Array = jnp.einsum("ia,ij,ja->a", local.directions, x, local.directions)
    return diagonal


def averaged_loss(loss: float, trace: float) -> float:
    """Predicted time average of the optimizer's loss: L + <Sigma, H> / 2 = L + <Sigma, P> = L + tr X.

    For gradient descent that is L + tr Sigma / lr.

    Args:
        loss: L at the flow's parameters.
        trace: tr X.

    Source: Cohen, Damian, Talwalkar, Kolter and Lee (2024), arXiv 2410.24206; the form for any P is derived here.
    """
    return loss + trace
