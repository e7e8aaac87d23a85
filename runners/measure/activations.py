"""How large what each layer gives out is, and how far training has moved it: what a coordinate check looks at."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from runners.measure.operators import full_precision


class Activations(NamedTuple):
    """By layer."""

    sizes: dict[str, Float[Array, ""]]
    """Root mean square, over examples and units, of what it gives out."""
    changes: dict[str, Float[Array, ""]]
    """Of the difference to what it gave out at the first parameters."""


@full_precision
def activations(
    layers: Callable[[Any, Array], dict[str, Array]], params: PyTree[Array], first: PyTree[Array], *, x: Shaped[Array, "examples *input"]
) -> Activations:
    """Sizes and changes of the layers' outputs on the same examples; exact.

    Args:
        layers: (params, x) -> outputs by layer.
        params: The present ones.
        first: Those at the start.
        x: Inputs.

    Cost: two forward passes, with all layers' outputs in memory.

    Source: the coordinate check of Yang et al. (2022), arXiv 2203.03466: under muP the changes do not depend on the width.
    """
    now, before = layers(params, x), layers(first, x)
    return Activations(
        sizes={name: _rms(outputs) for name, outputs in now.items()},
        changes={name: _rms(outputs - before[name]) for name, outputs in now.items()},
    )


def _rms(values: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(jnp.square(values)))
