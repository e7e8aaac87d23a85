"""Several devices as one: each computes its share of the examples, and has a copy of everything else.

Used wherever a computation goes through examples, and by `programs`. Data, parameters and results are whole on every
device; what is computed for each example is marked with `divided`, XLA divides what follows from it, and adds up over
the devices what is summed over examples. With one device nothing here changes anything.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Shaped

AXIS = "examples"
Tree = TypeVar("Tree")


def count() -> int:
    """How many there are: all that jax finds."""
    return jax.device_count()


def rounded(size: int) -> int:
    """The size of a chunk of examples, rounded up to what the devices divide."""
    return -(-size // count()) * count()


def everywhere() -> NamedSharding | None:
    """A whole copy on each device; None with one device, where nothing needs to be said."""
    return _sharding() if count() > 1 else None


def copied(tree: Any) -> Any:
    """The arrays, NumPy's or jax's, whole on each device."""
    return jax.device_put(tree, everywhere())


def filled(array: Shaped[Array, "examples *rest"], length: int) -> Shaped[Array, "length *rest"]:
    """The examples, filled up to so many with copies of the first: unlike zeros, these are what a model can take."""
    copies, rest = divmod(length, len(array))
    return array if length == len(array) else jnp.concatenate([array] * copies + [array[:rest]])


def divided(tree: Tree, *, axis: int = 0) -> Tree:
    """The same arrays, each device holding the part of them that it computes with; for use inside a jitted function.

    Args:
        tree: Arrays.
        axis: Where their examples are, as many as the devices divide: of others XLA (jax 0.10.1) can make equal parts too,
            but aborts the process where the gradient of a cross-entropy scatters into them.
    """
    if count() == 1:
        return tree
    parts: Tree = jax.lax.with_sharding_constraint(tree, _sharding(*[None] * axis, AXIS))
    return parts


def batch(
    x: Shaped[Array, "examples *input"], y: Shaped[Array, "examples *target"]
) -> tuple[Shaped[Array, "filled *input"], Shaped[Array, "filled *target"], Bool[Array, " filled"] | None]:
    """Any number of examples, divided, and which of them count; None for all, as on one device."""
    length = rounded(len(x))
    counted = None if length == len(x) else jnp.arange(length) < len(x)
    return divided((filled(x, length), filled(y, length), counted))


def mapped(function: Callable[[Any], Tree], examples: Any, *, batch_size: int | None) -> Tree:
    """`jax.lax.map` over the examples, each device going through its part of them; for use inside a jitted function.

    Args:
        function: Of one example; its values may be any pytree of arrays.
        examples: Arrays with the examples along their first axis.
        batch_size: The most examples at a time, on each device; None for one. Batches are equal: for a smaller last one the function
            would be traced and compiled again.
    """
    num_examples = len(jax.tree.leaves(examples)[0])
    share = rounded(num_examples) // count()
    if batch_size is not None:
        batches = -(-share // batch_size)
        batch_size = -(-share // batches)
        share = batches * batch_size
    whole = jax.tree.map(lambda array: filled(array, count() * share), examples)
    if count() == 1:
        found: Tree = jax.tree.map(lambda array: array[:num_examples], jax.lax.map(function, whole, batch_size=batch_size))
        return found
    parts = divided(jax.tree.map(lambda array: array.reshape(count(), -1, *array.shape[1:]), whole))
    values = jax.vmap(lambda part: jax.lax.map(function, part, batch_size=batch_size))(parts)
    gathered = jax.lax.with_sharding_constraint(values, everywhere())
    flat: Tree = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:num_examples], gathered)
    return flat


@functools.cache
def _sharding(*axes: str | None) -> NamedSharding:
    mesh = Mesh(np.asarray(jax.devices()), (AXIS,), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(*axes))
