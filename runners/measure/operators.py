"""Hessian and Gauss-Newton products of a loss, as symmetric operators on flat vectors.

Called by the meters inside their jitted measurement, with the data as arguments: as constants of the program they
would be folded into it (the same gradient then took 1.4 times as long) and every data set would compile anew. Products
are in the full precision of the parameters' dtype on every device. Must not know eigenvalues or records.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Shaped

from runners import devices
from runners.measure.krylov import Product

Apply: TypeAlias = Callable[[Any, Array], Array]
"""(params, x [examples, ...]) -> outputs [examples, outputs]."""
Params = ParamSpec("Params")
Result = TypeVar("Result")
Total = TypeVar("Total")
LINEARIZED_BYTES = 2**30
"""What the linearised gradient of one chunk may keep."""


@runtime_checkable
class Objective(Protocol):
    """What a measurement needs of the loss; `runners.objectives.Objective` is one."""

    @property
    def weight_decay(self) -> float:
        """Rho of the term (rho/2) |params|^2."""

    def example_losses(
        self, outputs: Float[Array, "examples outputs"], targets: Shaped[Array, "examples *target"]
    ) -> Float[Array, " examples"]:
        """Loss of each example, without weight decay."""

    def output_hessian_root(self, outputs: Float[Array, "examples outputs"]) -> Float[Array, "examples outputs outputs"]:
        """S with S S^T = the Hessian of an example's loss in its outputs."""


@dataclass(frozen=True)
class Problem:
    """What is differentiated, and how many examples at a time. Hashable, so that it can be part of a compiled program."""

    apply: Apply
    objective: Objective
    chunk_size: int
    """Examples in one pass; bounds the memory, not the result."""


def full_precision(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """The function, with every matrix product that it traces in the full precision of its operands."""

    @functools.wraps(function)
    def wrapped(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return wrapped


@full_precision
def hessian(
    problem: Problem, params: PyTree[Float[Array, "..."]], *, x: Shaped[Array, "examples *input"], y: Shaped[Array, "examples *target"]
) -> tuple[Float[Array, ""], Product]:
    """Loss, and the product with its Hessian H: forward over reverse, weight decay included.

    H v = d/de grad L(params + e v) at e = 0. When the examples fit one chunk, the gradient is linearised here, once, and
    a product costs its linear part only; else each product runs through the chunks and keeps nothing.

    Args:
        problem: Model, objective and chunk size.
        params: Parameters, any pytree of floating arrays of one dtype.
        x: Inputs.
        y: Labels or targets.

    Returns:
        The loss and v -> H v on vectors in the order of `ravel_pytree(params)`; exact to rounding, whatever the chunks.

    Cost: One gradient here; a product is about two gradients linearised and three in chunks.
    """
    flat, unravel = ravel_pytree(params)
    num_examples = x.shape[0]
    decay = problem.objective.weight_decay

    def chunk_loss(vector: Array, x: Array, y: Array, weights: Array) -> Array:
        losses = problem.objective.example_losses(problem.apply(unravel(vector), x), y)
        return jnp.sum(weights * losses) / num_examples

    penalty = decay / 2 * jnp.vdot(flat, flat)
    chunks = split(x, y, size=problem.chunk_size)
    if len(chunks[0]) == 1:
        only = tuple(array[0] for array in chunks)
        (loss, _), tangent = jax.linearize(lambda w: jax.value_and_grad(chunk_loss)(w, *only), flat)
        return loss + penalty, full_precision(lambda v: tangent(v)[1] + decay * v)

    def product(v: Array) -> Array:
        def chunk(*arrays: Array) -> Array:
            change: Array = jax.jvp(lambda w: jax.grad(chunk_loss)(w, *arrays), (flat,), (v,))[1]
            return change

        return sum_over(chunk, chunks, decay * v)

    loss = sum_over(functools.partial(chunk_loss, flat), chunks, penalty)
    return loss, full_precision(product)


@full_precision
def gauss_newton(problem: Problem, params: PyTree[Float[Array, "..."]], *, x: Shaped[Array, "examples *input"]) -> Product:
    """The product with the Gauss-Newton matrix G = J^T S S^T J / examples of the loss, without weight decay.

    J is the Jacobian of all outputs, S the root of the loss's Hessian in the outputs, which does not depend on the
    targets. The non-zero eigenvalues of G are those of the NTK S^T J J^T S / examples.

    Args:
        problem: Model, objective and chunk size.
        params: Parameters, any pytree of floating arrays of one dtype.
        x: Inputs.

    Returns:
        v -> G v on vectors in the order of `ravel_pytree(params)`; exact to rounding, whatever the chunks.

    Cost: One forward pass here; a product is about one gradient linearised and two in chunks.
    """
    flat, unravel = ravel_pytree(params)
    chunks = split(x, size=problem.chunk_size)
    num_examples = x.shape[0]

    def prepare(x: Array, weights: Array) -> Product:
        outputs, tangent = jax.linearize(lambda w: problem.apply(unravel(w), x), flat)
        transpose = jax.linear_transpose(tangent, flat)
        root = problem.objective.output_hessian_root(outputs)

        def product(v: Array) -> Array:
            u = jnp.einsum("ncd,ned,ne,n->nc", root, root, tangent(v), weights / num_examples)
            return jnp.asarray(transpose(u)[0])

        return product

    if len(chunks[0]) == 1:
        return full_precision(prepare(*(array[0] for array in chunks)))
    return full_precision(lambda v: sum_over(lambda *arrays: prepare(*arrays)(v), chunks, jnp.zeros_like(v)))


@full_precision
def gradient(
    problem: Problem, params: PyTree[Float[Array, "..."]], *, x: Shaped[Array, "examples *input"], y: Shaped[Array, "examples *target"]
) -> Float[Array, " dim"]:
    """Gradient of the loss of all examples, weight decay included; see `loss_and_gradient`."""
    return loss_and_gradient(problem, params, x=x, y=y)[1]


@full_precision
def loss_and_gradient(
    problem: Problem, params: PyTree[Float[Array, "..."]], *, x: Shaped[Array, "examples *input"], y: Shaped[Array, "examples *target"]
) -> tuple[Float[Array, ""], Float[Array, " dim"]]:
    """Loss of all examples and its gradient, weight decay included.

    Args:
        problem: Model, objective and chunk size.
        params: Parameters, any pytree of floating arrays of one dtype.
        x: Inputs.
        y: Labels or targets.

    Returns:
        The loss, and the gradient in the order of `ravel_pytree(params)`; exact to rounding, whatever the chunks.

    Cost: One gradient.
    """
    flat, unravel = ravel_pytree(params)
    decay = problem.objective.weight_decay

    def chunk(x_chunk: Array, y_chunk: Array, weights: Array) -> tuple[Array, Array]:
        def loss(vector: Array) -> Array:
            losses = problem.objective.example_losses(problem.apply(unravel(vector), x_chunk), y_chunk)
            return jnp.sum(weights * losses) / len(x)

        found: tuple[Array, Array] = jax.value_and_grad(loss)(flat)
        return found

    return sum_over(chunk, split(x, y, size=problem.chunk_size), (decay / 2 * jnp.vdot(flat, flat), decay * flat))


@full_precision
def curvature_gradient(
    problem: Problem,
    params: PyTree[Float[Array, "..."]],
    *,
    x: Shaped[Array, "examples *input"],
    y: Shaped[Array, "examples *target"],
    u: Float[Array, " dim"],
    v: Float[Array, " dim"],
) -> tuple[Float[Array, ""], Float[Array, " dim"]]:
    """U^T H v with the Hessian H of the loss, weight decay included, and its gradient in the parameters for fixed u and v.

    The gradient of u^T H(w) v is d^2/ds dt grad L(w + s u + t v) at s = t = 0: forward over forward over reverse.

    Args:
        problem: Model, objective and chunk size.
        params: Parameters, any pytree of floating arrays of one dtype.
        x: Inputs.
        y: Labels or targets.
        u: In the order of `ravel_pytree(params)`, as is v.
        v: The other vector.

    Returns:
        The value and its gradient; exact to rounding, whatever the chunks.

    Cost: About four gradients.
    """
    flat, unravel = ravel_pytree(params)

    def chunk(x_chunk: Array, y_chunk: Array, weights: Array) -> tuple[Array, Array]:
        def loss(vector: Array) -> Array:
            losses = problem.objective.example_losses(problem.apply(unravel(vector), x_chunk), y_chunk)
            return jnp.sum(weights * losses) / len(x)

        def along_v(vector: Array) -> Array:
            change: Array = jax.jvp(jax.grad(loss), (vector,), (v,))[1]
            return change

        product, third = jax.jvp(along_v, (flat,), (u,))
        return jnp.vdot(u, product), third

    start = (problem.objective.weight_decay * jnp.vdot(u, v), jnp.zeros_like(flat))
    return sum_over(chunk, split(x, y, size=problem.chunk_size), start)


def preconditioned(product: Product, scale: Float[Array, " dim"]) -> Product:
    """V -> P^-1/2 A P^-1/2 v, which has the eigenvalues of P^-1 A.

    Args:
        product: v -> A v.
        scale: Diagonal of P^-1/2.
    """
    return lambda v: scale * product(scale * v)


def linearized_bytes(
    problem: Problem, params: PyTree[Float[Array, "..."]], *, x: Shaped[Array, "examples *input"], y: Shaped[Array, "examples *target"]
) -> int:
    """What the gradient of the loss of these examples keeps once it is linearised, in bytes.

    A compiled product takes from a third to three times as much beside its arguments (MLPs and convolutional nets, on a CPU).

    Args:
        problem: Model and objective.
        params: Parameters; only their shapes count.
        x: Inputs; only their shapes count.
        y: Labels or targets.

    Cost: One trace of the gradient, no computation.
    """

    def kept(params: PyTree[Array], x: Array, y: Array) -> object:
        flat, unravel = ravel_pytree(params)
        return jax.linearize(jax.grad(lambda w: jnp.sum(problem.objective.example_losses(problem.apply(unravel(w), x), y))), flat)[1]

    return int(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(kept, params, x, y))))


def choose_chunk_size(
    problem: Problem, params: PyTree[Float[Array, "..."]], *, x: Shaped[Array, "examples *input"], y: Shaped[Array, "examples *target"]
) -> int:
    """How many of the examples fit `LINEARIZED_BYTES` when the gradient is linearised; see `linearized_bytes`.

    The same on every machine, so that a run that is resumed elsewhere has the same chunks.

    Returns:
        1 to the number of examples.
    """
    whole = linearized_bytes(problem, params, x=x, y=y)
    return max(1, min(len(x), len(x) * LINEARIZED_BYTES // max(whole, 1)))


def split(*arrays: Shaped[Array, "examples ..."], size: int, shared: bool = True) -> tuple[Shaped[Array, "chunks size ..."], ...]:
    """The examples in as few chunks of at most `size` as possible, as equal as possible, and their weights.

    The last chunk is filled up with copies of the first examples, of weight 0.

    Args:
        arrays: One or more, with the examples along their first axis.
        size: The most examples that a chunk may have.
        shared: Whether several devices share each chunk, in equal parts: then the next multiple of their number counts for size.

    Returns:
        Each array cut, then the weights [chunks, size], 1 or 0.
    """
    num_examples = len(arrays[0])
    count = -(-num_examples // (devices.rounded(size) if shared else size))
    length = -(-num_examples // count)
    length = devices.rounded(length) if shared else length

    def cut(array: Array) -> Array:
        return devices.filled(array, count * length).reshape(count, length, *array.shape[1:])

    weights = jnp.arange(count * length) < num_examples
    chunks = (*map(cut, arrays), weights.reshape(count, length))
    return devices.divided(chunks, axis=1) if shared else chunks


def sum_over(function: Callable[..., Total], chunks: tuple[Shaped[Array, "chunks size ..."], ...], start: Total) -> Total:
    """Start plus the function of every chunk, one at a time; the values may be any pytree."""

    def add(total: Total, arrays: tuple[Array, ...]) -> tuple[Total, None]:
        return jax.tree.map(jnp.add, total, function(*arrays)), None

    return jax.lax.scan(add, start, chunks)[0]
