"""The learning rate at which minibatch training stops being stable in mean square, without an approximation.

The yardstick for the noise kernel norm K, for problems small enough to hold the NTK of all examples and outputs. Called by
`gauges`; `threshold` knows matrices only, nothing of models.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

from runners.measure import krylov
from runners.measure.operators import Problem, full_precision

JACOBIAN_ENTRIES = 250_000_000
"""The most entries of the Jacobian of all outputs, which is formed whole: 1 GB in float32."""
MAX_OUTPUTS = 2000
"""The most outputs of all examples together: a product of the second-moment operator takes 4 times the cube of their
number in operations."""


class Threshold(NamedTuple):
    """The learning rate eta* below which the second moment of the residuals decays, and how good it is."""

    value: Float[Array, ""]
    error: Float[Array, ""]
    """Estimated, of `value`."""
    num_products: Int[Array, ""]
    """With the second-moment operator."""
    converged: Bool[Array, ""]


@full_precision
def kernel(problem: Problem, params: PyTree[Float[Array, "..."]], *, x: Shaped[Array, "examples *input"]) -> Float[Array, "all all"]:
    """The NTK T = S^T J J^T S / n of all examples and outputs, in blocks of one example; S as in `ntk`.

    Args:
        problem: Model, objective and chunk size.
        params: Where.
        x: Inputs of the n examples.

    Returns:
        A matrix with a row for each output of each example, the outputs of one example together.

    Cost: A gradient for each row, and the product of the Jacobian with itself.
    """
    flat, unravel = ravel_pytree(params)

    def rows(example: Array) -> Array:
        outputs, pullback = jax.vjp(lambda w: problem.apply(unravel(w), example[None])[0], flat)
        root = problem.objective.output_hessian_root(outputs[None])[0]
        gradients: Array = jax.vmap(lambda u: pullback(u)[0])(root.T)
        return gradients

    jacobian: Array = jax.lax.map(rows, x).reshape(-1, flat.size)
    return jnp.matmul(jacobian, jacobian.T) / len(x)


@full_precision
def threshold(
    kernel: Float[Array, "all all"], *, num_outputs: int, p: float, tolerance: float, max_products: int, key: Key[Array, ""]
) -> Threshold:
    """Eta*: plain steps on the linearised model are stable in mean square for a learning rate below it, and no other.

    The second moment M = E z z^T of the scaled residuals z follows, with n examples of C outputs and the variance factor p of the
    batches (`noise_kernel.variance_factor`),

        M' = (I - eta T) M (I - eta T) + eta^2 p T (n blockdiag(M) - M) T
           = M - eta (T M + M T) + eta^2 R(M), R(M) = T ((1 - p) M + p n blockdiag(M)) T,

    where blockdiag keeps the C x C blocks of single examples: the draw of the batch is common to an example's outputs. This map keeps
    positive matrices positive, so it contracts on the range of T exactly while eta times the spectral radius of Lyap^-1 R is below
    1, Lyap(M) = T M + M T. With M = T^1/2 X T^1/2 the two sides of Lyap(X) / eta = T^1/2 ((1 - p) M + p n blockdiag(M)) T^1/2 are
    symmetric, and in the eigenbasis of T, where Lyap is diagonal, l_a + l_b, so is the operator whose largest eigenvalue is 1 / eta*.
    With p = 0 that is half the largest eigenvalue of T.

    Eigenvalues of T below its rounding errors count as zero: their modes do not move.

    Source: Mulayoff and Michaeli (2023), arXiv 2306.07850, Theorem 3, here on residuals instead of parameters.

    Args:
        kernel: T, in blocks of one example.
        num_outputs: C.
        p: Variance factor of the batches, 0 to 1.
        tolerance: Relative error asked of it.
        max_products: Products after which to give up.
        key: For the solver's random directions.

    Cost: One eigendecomposition of T; 2 products of matrices of its size for each product.
    """
    size, num_examples = len(kernel), len(kernel) // num_outputs
    values, vectors = jnp.linalg.eigh(kernel)
    moves = values > size * jnp.finfo(kernel.dtype).eps * values[-1]
    root = jnp.sqrt(jnp.where(moves, values, 0))
    scale = root[:, None] * root / jnp.sqrt(jnp.where(moves[:, None] & moves, values[:, None] + values, 1))
    blocks = vectors.reshape(num_examples, num_outputs, size)

    def product(flat: Array) -> Array:
        moment = scale * flat.reshape(size, size)
        own = jnp.einsum("ica,ida->icd", (vectors @ moment).reshape(blocks.shape), blocks)
        noise = vectors.T @ jnp.einsum("icd,ida->ica", own, blocks).reshape(size, size)
        driven: Array = scale * ((1 - p) * moment + p * num_examples * noise)
        return driven.ravel()

    start = krylov.no_start(size * size, 1, dtype=kernel.dtype)
    found = krylov.largest_eigenvalues(product, start, k=1, tolerance=tolerance, max_products=max_products, key=key)
    inverse = found.values[0]
    return Threshold(1 / inverse, found.errors[0] / inverse**2, found.num_products, found.converged)
