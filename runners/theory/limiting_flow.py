"""What normalised gradient descent and gradient descent on sqrt(L) do for small learning rates: flows on the manifold of minima.

After a time in which they follow gradient flow both stay near the manifold Gamma of minima, where L is 0, and jump across it at each
step. What remains is slow: with tau = lr^2 times steps, the gradient flow's limit Phi(x) of the parameters moves as

    normalised:  dX/dtau = -P grad log lambda_1(X) / 4,      sqrt(L):  dX/dtau = -P grad lambda_1(X) / 8,

lambda_1 the largest eigenvalue of the Hessian H of L and P the projection on the tangent space of Gamma, the null space of H.
Pure functions of flat vectors with dense Hessians, for functions of few parameters.

Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745; the constants were derived anew: phi's second derivative along the top
eigenvector v has the tangential part -P grad lambda_1 / (2 lambda_1), and a step along v has the length lr, or lr sqrt(lambda_1 / 2).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from runners.theory import gradient_flow

Loss: TypeAlias = Callable[[Float[Array, " dim"]], Float[Array, ""]]
Kind: TypeAlias = Literal["normalized", "sqrt"]

STEP = 0.1
"""Step x sharpness of the gradient flow to the manifold."""
NULL = 1e-6
"""Eigenvalues of H below so many times the largest are those of the tangent space."""


class Projection(NamedTuple):
    """Where gradient flow ends."""

    point: Float[Array, " dim"]
    distance: Float[Array, ""]
    """How far the point still is from the manifold, as Newton's step says; what rounding leaves when the flow has ended."""
    steps: Int[Array, ""]


def project(loss: Loss, x: Float[Array, " dim"], *, tolerance: float = 1e-12, max_steps: int = 100_000) -> Projection:
    """Phi(x): the limit of dx/ds = -grad L(x).

    By Runge and Kutta's method in steps of `STEP` over the sharpness until Newton's step to the manifold, H^+ grad L, is shorter than
    its share of what is asked for; then by that step, which differs from the flow by the square of its length.

    Args:
        loss: L, whose minimum is 0 on a manifold along which H has constant rank.
        x: Where to start, in float64: near the manifold, since the flow's time is that of the smallest eigenvalue that is not 0.
        tolerance: Distance from the manifold, relative to 1 + |x|, at which the flow has ended.
        max_steps: Steps after which to give up.

    Returns:
        The point, within about the square root of `tolerance` squared of Phi(x), and how far it is from the manifold.

    Cost: A dense Hessian and five gradients a step; about log(distance / sqrt(tolerance)) / STEP steps times the ratio of the largest
        eigenvalue to the smallest that is not 0.
    """
    gradient, hessian = jax.grad(loss), jax.hessian(loss)
    enough = jnp.sqrt(tolerance) * (1 + jnp.linalg.norm(x)) / 10

    def newton(x: Array) -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(hessian(x))
        curved = values > NULL * values[-1]
        step = vectors @ (jnp.where(curved, 1 / jnp.where(curved, values, 1), 0) * (vectors.T @ gradient(x)))
        return step, values[-1]

    def is_on(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, step, _, count = carry
        return jnp.logical_and(jnp.linalg.norm(step) > enough, count < max_steps)

    def flow(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        x, _, sharpness, count = carry
        x = gradient_flow.advance(lambda x: -gradient(x), x, duration=STEP / sharpness, steps=1).state
        return (x, *newton(x), count + 1)

    x, step, _, count = jax.lax.while_loop(is_on, flow, (x, *newton(x), jnp.int32(0)))
    x = x - step
    return Projection(x, jnp.linalg.norm(newton(x)[0]), count)


def velocity(loss: Loss, kind: Kind, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
    """dX/dtau at a point of the manifold.

    Grad lambda_1 = grad (v^T H v) with the unit top eigenvector v held fixed, which is exact where lambda_1 is simple.

    Args:
        loss: L.
        kind: Which algorithm's flow.
        x: On the manifold.
    """
    values, vectors = jnp.linalg.eigh(jax.hessian(loss)(x))
    top = vectors[:, -1]

    def curvature(x: Array) -> Array:
        return jnp.vdot(top, jax.jvp(jax.grad(loss), (x,), (top,))[1])

    slope = jax.grad(curvature)(x)
    flat = values <= NULL * values[-1]
    tangent: Array = vectors @ (flat * (vectors.T @ slope))
    return -tangent / (4 * values[-1]) if kind == "normalized" else -tangent / 8


def advance(loss: Loss, kind: Kind, x: Float[Array, " dim"], *, duration: Float[Array, ""] | float, steps: int) -> Projection:
    """X after a time tau, in equal steps of Runge and Kutta's method, each followed by Newton's step back to the manifold.

    Args:
        loss: L.
        kind: Which algorithm's flow.
        x: On the manifold.
        duration: tau = lr^2 times the algorithm's steps.
        steps: How many the flow takes; its error falls with their fourth power.

    Returns:
        The point; `steps` are those of the last projection.
    """

    def turn(_: Int[Array, ""], projected: Projection) -> Projection:
        moved = gradient_flow.advance(lambda x: velocity(loss, kind, x), projected.point, duration=duration / steps, steps=1).state
        return project(loss, moved)

    start = Projection(x, jnp.zeros((), x.dtype), jnp.int32(0))
    result: Projection = jax.lax.fori_loop(0, steps, turn, start)
    return result
