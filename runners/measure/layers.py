"""Sharpness of each layer alone: the largest eigenvalue of each block on the Hessian's diagonal.

A block holds the second derivatives in the parameters of one group, the other parameters held where they are. Called by
`curvature`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Key, PyTree, Shaped

from runners.measure import krylov, operators
from runners.measure.eigenvalues import Accuracy, Params
from runners.measure.krylov import EigenResult, Start
from runners.measure.operators import Problem
from runners.programs import Program


@dataclass(frozen=True)
class LayerSharpness:
    """By group, from the model's input on."""

    values: dict[str, float]
    errors: dict[str, float]
    num_products: int
    """Of all groups."""
    converged: bool
    """Of all groups."""
    seconds: float


def groups(params: Mapping[str, Any]) -> dict[str, Bool[Array, " dim"]]:
    """Which entries of the flat parameters belong to each group: one for each entry of the model's outermost level.

    Args:
        params: Parameters by the names of the model's layers.

    Returns:
        Masks over `ravel_pytree(params)`, in its order; together they cover each parameter once.
    """

    def mask(name: str) -> Bool[Array, " dim"]:
        marked = {other: jax.tree.map(jnp.ones_like if other == name else jnp.zeros_like, leaves) for other, leaves in params.items()}
        return ravel_pytree(marked)[0] > 0

    return {name: mask(name) for name in params}


class LayersMeter:
    """Measures the blocks of one problem on fixed examples."""

    def __init__(
        self,
        problem: Problem,
        params: Params,
        *,
        x: Shaped[Array, "examples *input"],
        y: Shaped[Array, "examples *target"],
        accuracy: Accuracy,
    ) -> None:
        """Compile for parameters and examples of these shapes.

        Args:
            problem: Model, objective and chunk size.
            params: Any parameters, by the names of the model's layers; only their shapes count.
            x: Inputs of the measured examples.
            y: Their labels or targets.
            accuracy: Tolerance and when to give up.
        """
        named = groups(params)
        self._names = list(named)
        self._masks = jnp.stack(list(named.values()))
        self._data = (x, y)
        self._problem = problem
        self._accuracy = accuracy
        flat = jax.eval_shape(lambda params: ravel_pytree(params)[0], params)
        one = krylov.no_start(flat.size, 1, dtype=flat.dtype)
        self.start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(named), *leaf.shape)), one)
        """One for each block, along a first axis."""
        self.program = Program(self._solve, params, *self._data, self._masks, self.start, jax.eval_shape(jax.random.key, 0))

    def measure(self, params: Params, start: Start, key: Key[Array, ""]) -> tuple[LayerSharpness, Start]:
        """The largest eigenvalue of each block at these parameters; 0 for a block without a positive one.

        The solver runs on the whole space with v -> mask * H (mask * v), which has the block's eigenvalues and zeros.

        Args:
            params: Where to measure.
            start: What the previous measurement left; the meter's `start` at first.
            key: For the solver's random directions.

        Returns:
            The values, and what the next measurement starts from.

        Cost: `num_products` Hessian-vector products, as dear as those of the whole Hessian, and one gradient.
        """
        began = time.perf_counter()
        found = self.program(params, *self._data, self._masks, start, key)
        sharpness = LayerSharpness(
            values=dict(zip(self._names, found.values[:, 0].tolist(), strict=True)),
            errors=dict(zip(self._names, found.errors[:, 0].tolist(), strict=True)),
            num_products=int(found.num_products.sum()),
            converged=bool(found.converged.all()),
            seconds=time.perf_counter() - began,
        )
        return sharpness, found.start

    def _solve(self, params: PyTree[Array], x: Array, y: Array, masks: Array, start: Start, key: Key[Array, ""]) -> EigenResult:
        _, product = operators.hessian(self._problem, params, x=x, y=y)

        def block(mask: Array, start: Start, key: Key[Array, ""]) -> EigenResult:
            return krylov.largest_eigenvalues(
                lambda v: jnp.where(mask, product(jnp.where(mask, v, 0)), 0),
                start,
                k=1,
                tolerance=self._accuracy.tolerance,
                max_products=self._accuracy.max_products,
                key=key,
            )

        found: EigenResult = jax.lax.map(lambda one: block(*one), (masks, start, jax.random.split(key, len(masks))))
        return found
