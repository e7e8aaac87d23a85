"""Activations by the names that a spec has for them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from runners import spec

ACTIVATIONS: dict[spec.Activation, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "identity": lambda x: x,
}
"""gelu is x Phi(x) with the normal distribution function, not its tanh approximation."""
