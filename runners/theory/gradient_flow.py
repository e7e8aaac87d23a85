"""Gradient flow, dx/ds = -grad L(x), and any other autonomous flow of a pytree, by Runge and Kutta's classical method.

Called by the flow runner inside its compiled loop. The sharpness says how long a step may be, and an embedded formula of
third order, which costs nothing, how far off it is. Knows derivatives only: nothing of models, losses or records.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

State: TypeAlias = PyTree[Float[Array, "..."]]
Field: TypeAlias = Callable[[Any], Any]
"""State -> its derivative, a pytree of the same shapes."""

STABLE = 2.785
"""The method decays on dx/ds = -a x while step x a is below this: the root of 1 - z + z^2/2 - z^3/6 + z^4/24 = 1."""
LONGEST = 2.0
"""Step x sharpness at most. Between two measurements the sharpness may so grow by `STABLE` / 2 - 1 = 39 %. A mode at the limit shrinks
by a third in a step and not by e^-2: it is one that has long decayed, since the sharpness does not come there at once."""


class Advanced(NamedTuple):
    """Where a flow came to."""

    state: State
    error: Float[Array, ""]
    """Sum over the steps of the norm of what the formula of third order differs by: far more than the method is off by."""


def num_steps(duration: float, sharpness: Float[Array, ""]) -> Int[Array, ""]:
    """The fewest equal steps of a duration that keep step x sharpness at `LONGEST` or below; at least one.

    Args:
        duration: Time to go, >= 0.
        sharpness: Largest eigenvalue of minus the derivative's Jacobian; where it is not above zero, or not finite, one step does.
    """
    wanted = jnp.ceil(duration * sharpness / LONGEST)
    return jnp.where(jnp.isfinite(wanted) & (wanted > 1), wanted, 1).astype(jnp.int32)


def advance(
    field: Field,
    state: State,
    *,
    duration: Float[Array, ""] | float,
    steps: Int[Array, ""] | int,
    of: Callable[[Any], Any] = lambda whole: whole,
) -> Advanced:
    """The state after a duration, in equal steps of the classical method of fourth order.

    With k1 ... k4 the derivatives at the start, twice at the middle and at the end of a step h, and k5 that at the point
    reached, which is the next step's k1: x' = x + h (k1 + 2 k2 + 2 k3 + k4) / 6. Replacing k4 by k5 gives a formula of third
    order; they differ by h (k4 - k5) / 6.

    Args:
        field: The derivative.
        state: Where to start.
        duration: Time to go.
        steps: How many steps it takes; see `num_steps`.
        of: The part of a state in which the error is taken.

    Returns:
        The state, whose error falls with the fourth power of the step, and an estimate of it, which falls with the third.

    Cost: 4 derivatives a step, and one.

    Source: Kutta (1901), Zeitschrift fuer Mathematik und Physik 46, 435; the embedded formula is derived here from the conditions of
        third order.
    """
    h = jnp.asarray(duration) / steps

    def after(state: State, slope: State, share: float) -> State:
        return jax.tree.map(lambda x, k: x + (share * h).astype(x.dtype) * k, state, slope)

    def step(_: Int[Array, ""], carry: tuple[State, State, Array]) -> tuple[State, State, Array]:
        state, k1, error = carry
        k2 = field(after(state, k1, 0.5))
        k3 = field(after(state, k2, 0.5))
        k4 = field(after(state, k3, 1.0))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        state = after(state, mean, 1.0)
        k5 = field(state)
        difference = jax.tree.map(jnp.subtract, k4, k5)
        return state, k5, error + h.astype(error.dtype) / 6 * optax.tree.norm(of(difference))

    dtype = jax.tree.leaves(state)[0].dtype
    end, _, error = jax.lax.fori_loop(0, steps, step, (state, field(state), jnp.zeros((), dtype)))
    return Advanced(end, error)
