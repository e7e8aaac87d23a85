"""Self-stabilisation: gradient descent at the edge of stability, predicted from derivatives along a trajectory that stays there.

The constrained trajectory theta+ takes gradient descent's steps and is brought back after each to

    M = {S <= 2/lr and grad L . u = 0},

with S the largest eigenvalue of the Hessian H and u its unit vector. Gradient descent itself oscillates about it. With theta - theta+
= x u + w, w orthogonal to u, and all derivatives taken at theta+, a step is

    x' = (1 - lr S - lr y) x,    w' = P ((I - lr H) w + c - lr x^2 n / 2),    y = n . w,

where n = grad S - (u . grad S) u, c = theta+ - lr grad L - theta+' is what the constraint adds, and P makes orthogonal to the next u.
At the edge S = 2/lr, so that x changes its sign at each step: x' = -(1 + lr y) x. While x is small w grows along n and the sharpness with
it; so does x, and its square drives w and the sharpness back. Pure functions of flat vectors, called by the runner of that name.

Derived: the Taylor expansion of theta' = theta - lr grad L(theta) about theta+ to second order is (I - lr H) (x u + w) + c
- lr D^3 L (x u + w, x u + w) / 2, with D^3 L(u, u) = grad S and u . D^3 L(u, w) = grad S . w for fixed u. Kept is what adds up from
step to step. Left out are -lr (u . grad S) x^2 u / 2 and -lr x D^3 L(u, w), whose sign is against x at one step and with it at the next,
what is quadratic in w, and all of third order. With x and w of order e and alpha, below, of order e^2, a cycle takes 1/e steps, over
which x and w are so predicted with an error of order e^2. To first order c = lr (alpha / beta) n.

Source: Damian, Nichani and Lee (2022), arXiv 2209.15594, of which this is the general predicted dynamics.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Local(NamedTuple):
    """A point, and what is known of the loss there."""

    loss: Float[Array, ""]
    gradient: Float[Array, " dim"]
    sharpness: Float[Array, ""]
    """S."""
    vector: Float[Array, " dim"]
    """u."""
    slope: Float[Array, " dim"]
    """grad S: the gradient of u^T H u for fixed u."""


class Correction(NamedTuple):
    """One step of Newton's towards M."""

    change: Float[Array, " dim"]
    multiplier: Float[Array, ""]
    """How far along n all steps have gone, <= 0: where it is 0 the sharpness is below its limit by itself."""
    distance: Float[Array, ""]
    """Length of the change, in units of the length over which S changes by 2/lr."""


class Displacement(NamedTuple):
    """Where gradient descent is predicted to be: theta - theta+ = x u + w."""

    along: Float[Array, ""]
    """x."""
    across: Float[Array, " dim"]
    """w."""


class Predicted(NamedTuple):
    """What is predicted of gradient descent at a step."""

    loss: Float[Array, ""]
    sharpness: Float[Array, ""]
    distance: Float[Array, ""]
    """|theta - theta+|."""


def corrected(local: Local, *, threshold: Float[Array, ""] | float, multiplier: Float[Array, ""] | float) -> Correction:
    """One step of Newton's from a point towards the nearest one of M.

    To first order theta + a u + b n has grad L . u + S a and S + (u . grad S) a + |n|^2 b. The turn of u itself is left out of the first,
    which slows convergence by about |grad S| |grad L| / S^2 and does not change the limit.

    Args:
        local: The point where the steps have come to.
        threshold: 2/lr.
        multiplier: Sum of all b so far, 0 at first.

    Returns:
        The change a u + b n, with b such that the sum is at most 0: M bounds the sharpness from above.

    Source: derived here.
    """
    across = across_slope(local)
    square = jnp.vdot(across, across)
    along = -jnp.vdot(local.gradient, local.vector) / local.sharpness
    lacking = threshold - local.sharpness - jnp.vdot(local.slope, local.vector) * along
    total = jnp.minimum(0, multiplier + lacking / square)
    change = along * local.vector + (total - multiplier) * across
    return Correction(change, total, jnp.linalg.norm(change) * jnp.sqrt(square) / threshold)


def split(displacement: Float[Array, " dim"], vector: Float[Array, " dim"]) -> Displacement:
    """The parts of a displacement along a unit vector u and across it."""
    along = jnp.vdot(vector, displacement)
    return Displacement(along, displacement - along * vector)


def advance(
    at: Displacement,
    local: Local,
    *,
    product: Float[Array, " dim"],
    added: Float[Array, " dim"],
    vector: Float[Array, " dim"],
    lr: Float[Array, ""] | float,
) -> Displacement:
    """The predicted displacement after a step.

    Args:
        at: Before it.
        local: theta+ before it.
        product: H w there.
        added: c: what the constraint adds to theta+ - lr grad L, negated.
        vector: u after it, with the sign that is nearer to u before it.
        lr: Learning rate.
    """
    across = across_slope(local)
    y = jnp.vdot(across, at.across)
    moved = at.across - lr * product + added - lr / 2 * at.along**2 * across
    return Displacement((1 - lr * (local.sharpness + y)) * at.along, split(moved, vector).across)


def predicted(at: Displacement, local: Local, *, product: Float[Array, " dim"]) -> Predicted:
    """Loss and sharpness of gradient descent: L to second order in the displacement, S to first.

    L = L(theta+) + grad L . w + w^T H w / 2 + S x^2 / 2, of which the last is x^2 / lr at the edge; S = S(theta+) + y + (u . grad S) x.

    Args:
        at: The displacement.
        local: theta+.
        product: H w there.

    Returns:
        Both, in error by the third and the second order of the displacement.

    Source: Damian, Nichani and Lee (2022), arXiv 2209.15594, for x^2 / lr and y; derived here with the other terms of the order.
    """
    loss = local.loss + jnp.vdot(local.gradient, at.across) + jnp.vdot(at.across, product) / 2 + local.sharpness * at.along**2 / 2
    sharpness = local.sharpness + jnp.vdot(local.slope, at.across + at.along * local.vector)
    return Predicted(loss, sharpness, jnp.hypot(at.along, jnp.linalg.norm(at.across)))


def across_slope(local: Local) -> Float[Array, " dim"]:
    """N: the part of grad S across u."""
    return split(local.slope, local.vector).across


def coefficients(local: Local) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Alpha = -grad L . n, by which the sharpness rises in a step over lr while nothing oscillates, and beta = |n|^2."""
    across = across_slope(local)
    return -jnp.vdot(local.gradient, across), jnp.vdot(across, across)


def equilibrium(alpha: float, beta: float) -> float:
    """The |x| at which the sharpness stands still, sqrt(2 alpha / beta); for alpha > 0.

    With constant alpha and beta, S = 2/lr and H n = 0 the dynamics are x' = -(1 + lr y) x, y' = y + lr (alpha - beta x^2 / 2), whose
    fixed points are |x| = sqrt(2 alpha / beta) with y = 0.

    Source: Damian, Nichani and Lee (2022), arXiv 2209.15594; derived anew.
    """
    return math.sqrt(2 * alpha / beta)


def period(alpha: float, lr: float) -> float:
    """Steps of a small cycle about the equilibrium, 2 pi / (lr sqrt(2 alpha)); a larger cycle takes longer. For alpha > 0.

    Derived: with |x| = (1 + z) sqrt(2 alpha / beta) the map of `equilibrium` is z' = z + lr y, y' = y - 2 lr alpha z to first order.
    """
    return 2 * math.pi / (lr * math.sqrt(2 * alpha))
