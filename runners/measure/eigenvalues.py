"""The largest eigenvalues of an operator made from a model, its loss and the measured examples, again and again.

Called by `curvature`; one file a quantity says which operator. A meter compiles its program when it is made; what it
starts from is the caller's, goes into checkpoints, and with the key decides every bit of the result.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree, Shaped

from runners.measure import krylov
from runners.measure.krylov import EigenResult, Product, Start
from runners.programs import Program

METHOD = "warm-started Lanczos, full reorthogonalisation, stopped on the residual"
Params: TypeAlias = PyTree[Float[Array, "..."]]
Operator: TypeAlias = Callable[..., Product]
"""(params, x, y, *further) -> the product with a symmetric matrix."""


@dataclass(frozen=True)
class Accuracy:
    """What is asked of an eigenvalue solve."""

    tolerance: float
    """Relative error."""
    max_products: int
    """Products after which it gives up."""


@dataclass(frozen=True)
class Eigenvalues:
    """Eigenvalues from the largest down, and their quality."""

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    """|A v - value v| of each for its unit vector: some eigenvalue lies within it."""
    errors: tuple[float, ...]
    """Estimated error of each: min(residual, residual^2 / gap), the gap taken to the largest Ritz value not followed; the
    residual where the solve gave up."""
    num_products: int
    converged: bool
    """Of all values that were asked for."""
    known: float
    """Share of the top eigenvector's square along the vectors that the solve started from, which are orthogonal but for a tenth: see
    `krylov.EigenResult`."""
    seconds: float
    vectors: Float[Array, "k dim"] = field(compare=False, repr=False)
    """Unit vectors, on the device."""

    def negated(self) -> "Eigenvalues":
        """Those of -A, from the smallest up."""
        return replace(self, values=tuple(-value for value in self.values))


class EigenMeter:
    """Measures one operator on fixed examples."""

    def __init__(
        self,
        operator: Operator,
        params: Params,
        *further: Any,
        x: Shaped[Array, "examples *input"],
        y: Shaped[Array, "examples *target"],
        top_k: int,
        accuracy: Accuracy,
    ) -> None:
        """Compile for arguments of these shapes.

        Args:
            operator: Gives the product.
            params: Any parameters; only their shapes count.
            further: What the operator takes beside parameters and examples; only their shapes count.
            x: Inputs of the measured examples.
            y: Their labels or targets.
            top_k: Eigenvalues to compute.
            accuracy: Tolerance and when to give up.
        """
        self._data = (x, y)
        self._operator = operator
        self._top_k = top_k
        self._accuracy = accuracy
        flat = jax.eval_shape(lambda params: ravel_pytree(params)[0], params)
        self.start = krylov.no_start(flat.size, top_k, dtype=flat.dtype)
        self.program = Program(self._solve, params, *self._data, self.start, jax.eval_shape(jax.random.key, 0), *further)

    def begin(self, params: Params, start: Start, key: Key[Array, ""]) -> None:
        """Compute what `measure` will be asked for with these very arguments, while the caller goes on."""
        self.program.begin(params, *self._data, start, key)

    def measure(self, params: Params, start: Start, key: Key[Array, ""], *further: Any) -> tuple[Eigenvalues, Start]:
        """The largest signed eigenvalues at these parameters.

        Args:
            params: Where to measure.
            start: What the previous measurement left; the meter's `start` at first.
            key: For the solver's random directions.
            further: As when the meter was made.

        Returns:
            The eigenvalues, and what the next measurement starts from.

        Cost: `num_products` products, and making the operator.
        """
        began = time.perf_counter()
        found = self.program(params, *self._data, start, key, *further)
        eigenvalues = Eigenvalues(
            values=tuple(found.values.tolist()),
            residuals=tuple(found.residuals.tolist()),
            errors=tuple(found.errors.tolist()),
            num_products=int(found.num_products),
            converged=bool(found.converged),
            known=float(found.known),
            seconds=time.perf_counter() - began,
            vectors=found.vectors,
        )
        return eigenvalues, found.start

    def _solve(self, params: Params, x: Array, y: Array, start: Start, key: Key[Array, ""], *further: Any) -> EigenResult:
        return krylov.largest_eigenvalues(
            self._operator(params, x, y, *further),
            start,
            k=self._top_k,
            tolerance=self._accuracy.tolerance,
            max_products=self._accuracy.max_products,
            key=key,
        )
