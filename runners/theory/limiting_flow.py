"""What normalised gradient descent and gradient descent on sqrt(L) do for small learning rates: flows on the manifold of minima.

After a time in which they follow gradient flow both stay near the manifold Gamma of minima, where L is 0, and jump across it at each
step. What remains is slow: with tau = lr^2 times steps, the gradient flow's limit Phi(x) of the parameters moves as

    normalised:  dX/dtau = -P grad log lambda_1(X) / 4,      sqrt(L):  dX/dtau = -P grad lambda_1(X) / 8,

lambda_1 the largest eigenvalue of the Hessian H of L and P the projection on the tangent space of Gamma, the null space of H.
Pure functions of flat vectors, with dense Hessians for functions of few parameters; `rate`, `hovering` and `descend` are without, for
functions of many.

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
LossAndGradient: TypeAlias = Callable[[Float[Array, " dim"]], tuple[Float[Array, ""], Float[Array, " dim"]]]
Kind: TypeAlias = Literal["normalized", "sqrt"]

STEP = 0.1
"""Step x sharpness of the gradient flow to the manifold."""
DESCENT = 0.5
"""Learning rate x sharpness of the gradient descent to the manifold: stable up to four times that sharpness."""
MAX_STEPS = 100_000
"""Of either, after which it gives up."""
NULL = 1e-6
"""Eigenvalues of H below so many times the largest are those of the tangent space."""


class Projection(NamedTuple):
    """Where gradient flow ends."""

    point: Float[Array, " dim"]
    distance: Float[Array, ""]
    """How far the point still is from the manifold, as Newton's step says; what rounding leaves when the flow has ended."""
    steps: Int[Array, ""]


def project(loss: Loss, x: Float[Array, " dim"], *, tolerance: float = 1e-12, max_steps: int = MAX_STEPS) -> Projection:
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


def codimension(loss: Loss, x: Float[Array, " dim"]) -> Int[Array, ""]:
    """Of the manifold at one of its points: the eigenvalues of H that are not 0."""
    values = jnp.linalg.eigvalsh(jax.hessian(loss)(x))
    return jnp.sum(values > NULL * values[-1])


def velocity(loss: Loss, kind: Kind, x: Float[Array, " dim"], normal: Int[Array, ""] | None = None) -> Float[Array, " dim"]:
    """dX/dtau at a point of the manifold.

    Grad lambda_1 = grad (v^T H v) with the unit top eigenvector v held fixed, which is exact where lambda_1 is simple.

    Args:
        loss: L.
        kind: Which algorithm's flow.
        x: On the manifold, or near it.
        normal: So many of the largest eigenvalues are not those of the tangent space: `codimension`, which is to be known from a point
            of the manifold where x is off it, as none is 0 there.
    """
    values, vectors = jnp.linalg.eigh(jax.hessian(loss)(x))
    top = vectors[:, -1]

    def curvature(x: Array) -> Array:
        return jnp.vdot(top, jax.jvp(jax.grad(loss), (x,), (top,))[1])

    slope = jax.grad(curvature)(x)
    flat = values <= NULL * values[-1] if normal is None else jnp.arange(len(x)) < len(x) - normal
    tangent: Array = vectors @ (flat * (vectors.T @ slope))
    return -rate(kind, values[-1]) * tangent


def rate(kind: Kind, sharpness: Float[Array, ""]) -> Float[Array, ""]:
    """C of dX/dtau = -c P grad lambda_1: 1 / (4 lambda_1) for normalised steps, 1 / 8 on sqrt(L).

    Args:
        kind: Which algorithm's flow.
        sharpness: lambda_1.
    """
    return 1 / (4 * sharpness) if kind == "normalized" else jnp.full_like(sharpness, 1 / 8)


def hovering(kind: Kind, *, lr: Float[Array, ""], sharpness: Float[Array, ""]) -> Float[Array, ""]:
    """L between whose like the algorithm's steps go to and fro along the top eigenvector, both of the same height.

    The roots of two losses in a row add up to lr sqrt(lambda_1 / 2) for normalised steps, to lr lambda_1 / 2 on sqrt(L): so that
    L = lr^2 lambda_1 / 8, or lr^2 lambda_1^2 / 16.

    Args:
        kind: Which algorithm.
        lr: Its learning rate.
        sharpness: lambda_1.

    Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745, for the first sum; the second, and both losses, are derived.
    """
    return lr**2 * sharpness / 8 if kind == "normalized" else (lr * sharpness) ** 2 / 16


class Descended(NamedTuple):
    """Where gradient descent ended."""

    point: Float[Array, " dim"]
    loss: Float[Array, ""]
    steps: Int[Array, ""]


def descend(
    loss_and_gradient: LossAndGradient,
    x: Float[Array, " dim"],
    *,
    sharpness: Float[Array, ""],
    enough: Float[Array, ""],
    max_steps: int = MAX_STEPS,
) -> Descended:
    """About Phi(x), without a Hessian: by gradient descent with the learning rate `DESCENT` over the sharpness.

    From x = X + u, X on the manifold, it comes to X + P u + O(|u|^2), as gradient flow does; the terms of second order are its own.

    Args:
        loss_and_gradient: Of L.
        x: Where to start.
        sharpness: lambda_1 about there.
        enough: L at which to end. The distance from the manifold that is left is sqrt(2 L / lambda) at most along an eigenvector
            with the eigenvalue lambda.
        max_steps: Steps after which to give up.

    Cost: A gradient a step, and one; about log(L / enough) / (2 `DESCENT`) steps times lambda_1 over the eigenvalue that L lies along.
    """

    def is_above(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, loss, _, count = carry
        return jnp.logical_and(loss > enough, count < max_steps)

    def step(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        x, _, gradient, count = carry
        x = x - DESCENT / sharpness * gradient
        return (x, *loss_and_gradient(x), count + 1)

    x, loss, _, count = jax.lax.while_loop(is_above, step, (x, *loss_and_gradient(x), jnp.int32(0)))
    return Descended(x, loss, count)


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
        moved = gradient_flow.advance(lambda x: velocity(loss, kind, x, normal), projected.point, duration=duration / steps, steps=1).state
        return project(loss, moved)

    normal = codimension(loss, x)
    start = Projection(x, jnp.zeros((), x.dtype), jnp.int32(0))
    result: Projection = jax.lax.fori_loop(0, steps, turn, start)
    return result
