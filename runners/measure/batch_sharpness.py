"""Sharpness as minibatch training meets it: the curvature along the gradients of random batches, at fixed parameters.

Quantities from the same fresh batches, each with its standard error. With g_B, H_B the gradient and the Hessian of a
batch's loss and g, H those of the loss of all examples, weight decay part of either, and s_B the update that the batch would bring
about by an optimizer with momentum, over the learning rate:

    batch sharpness             E_B[ g_B^T H_B g_B / |g_B|^2 ]
    its ratio of means          E_B[ g_B^T H_B g_B ] / E_B |g_B|^2
    gradient-noise interaction  E_B[ g_B^T H g_B ] / |g|^2
    interaction-aware sharpness E_B[ g_B^T H g_B ] / E_B |g_B|^2
    momentum batch sharpness    E_B[ s_B^T H_B s_B ] / E_B[ s_B^T g_B ]

The first four are g^T H g / |g|^2 with the full batch. Traceable, for use inside a jitted measurement with the data as
arguments. Must not know optimizers or records: the edges that these are compared with are not computed here.
"""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

from runners.measure import operators
from runners.measure.operators import Problem, full_precision
from runners.sampling import Sampling, batch_indices

Params: TypeAlias = PyTree[Float[Array, "..."]]


class Estimate(NamedTuple):
    """A number from random batches, and how far it may be off."""

    value: Float[Array, ""]
    sem: Float[Array, ""]
    """Standard error of the value: exactly 0 where all batches are the full one."""


class Momentum(NamedTuple):
    """The next update of an optimizer with momentum: params -= lr s_B with s_B = past v + present g_B."""

    buffer: Params
    """v, before the update."""
    past: float
    present: float


class BatchSharpness(NamedTuple):
    """The quantities, in units of curvature: loss per squared parameter."""

    batch_sharpness: Estimate
    """E_B[ g_B^T H_B g_B / |g_B|^2 ], over the batches with a gradient."""
    ratio_of_means: Estimate
    """E_B[ g_B^T H_B g_B ] / E_B |g_B|^2."""
    gradient_noise_interaction: Estimate | None
    """E_B[ g_B^T H g_B ] / |g|^2; None unless asked for."""
    interaction_aware_sharpness: Estimate | None
    """E_B[ g_B^T H g_B ] / E_B |g_B|^2; None unless asked for."""
    num_undefined: Int[Array, ""]
    """Batches whose gradient is zero, which batch sharpness leaves out."""
    momentum_batch_sharpness: Estimate | None = None
    """E_B[ s_B^T H_B s_B ] / E_B[ s_B^T g_B ]; None without momentum."""


class Batches(NamedTuple):
    """What single batches tell."""

    squares: Float[Array, " batches"]
    """|g_B|^2, weight decay included."""
    curvatures: Float[Array, " batches"]
    """g_B^T H_B g_B / |g_B|^2; 0 where it is not defined."""
    full_curvatures: Float[Array, " batches"] | None
    """g_B^T H g_B / |g_B|^2; 0 where it is not defined, None unless asked for."""
    are_defined: Bool[Array, " batches"]
    """Whether the gradient is not zero: some entry of it is a normal number (above 1e-38 in float32) or not finite."""
    full_square: Float[Array, ""] | None
    """|g|^2; None unless asked for."""
    step_slopes: Float[Array, " batches"] | None = None
    """s_B^T g_B; None without momentum."""
    step_curvatures: Float[Array, " batches"] | None = None
    """s_B^T H_B s_B; None without momentum."""


def batch_sharpness(
    problem: Problem,
    params: Params,
    *,
    x: Shaped[Array, "examples *input"],
    y: Shaped[Array, "examples *target"],
    batch_size: int,
    num_batches: int,
    with_replacement: bool,
    with_full_hessian: bool,
    key: Key[Array, ""],
    momentum: Momentum | None = None,
) -> BatchSharpness:
    """Batch sharpness and its relatives at fixed parameters, from fresh batches that are independent of each other.

    The formulas stand at the top of the module; that of each standard error stands at `estimates`. A batch with zero gradient has
    no curvature along it, 0/0. Batch sharpness leaves such batches out and is then the mean given that there is a
    gradient; `num_undefined` counts them. In the means of the other quantities they count as the zeros that they are.

    Args:
        problem: Model, objective and chunk size.
        params: Where to measure.
        x: Inputs of the n examples that the batches are drawn from.
        y: Their labels or targets.
        batch_size: B, from 1 to n; any B with replacement.
        num_batches: m, at least 2; without replacement and with B = n one batch is measured, as there is no other.
        with_replacement: Whether a batch is B independent draws, else B distinct examples.
        with_full_hessian: Whether the two quantities with the Hessian of all examples are wanted too, which cost far more.
        key: For the batches; not the one that the training's batches are drawn with, whose first steps would come back.
        momentum: That of the optimizer, for momentum batch sharpness.

    Returns:
        The estimates, exact to rounding for the m batches. They are unbiased but for the ratios of means, whose bias is at
        most sem times the relative standard error of the mean that they divide by, to first order in 1/m.

    Raises:
        ValueError: If m < 2, B < 1, or B > n without replacement.

    Cost: About three gradients of B examples for each batch, three and a half where B exceeds the chunk (counted by the
        compiler, for an MLP); with momentum two more, or two and a half. With the full Hessian also two gradients of all
        examples, and for each batch one product with it: about two gradients of all examples linearised, three in chunks.

    Source: Andreyev and Beneventano (2024), "Edge of Stochastic Stability", arXiv 2412.20553, for batch sharpness and the
        gradient-noise interaction; the ratio of means is an option of the same authors' code. Interaction-aware sharpness:
        Lee and Jang (2023), ICLR, in whose paper its formula was not looked up. It is described as the "directional
        curvature of the full-batch Hessian along mini-batch gradient directions", which leaves open how directions are
        weighted. Here each counts with its |g_B|^2, that is tr(H S) / tr(S) with S = E_B[ g_B g_B^T ]: then the expected
        change of the loss in one step of SGD, -lr |g|^2 + lr^2/2 E_B[ g_B^T H g_B ] to second order as E_B g_B = g, vanishes
        exactly where this sharpness is (2 / lr) |g|^2 / E_B |g_B|^2, and the gradient-noise interaction is 2 / lr.

        Momentum: Andreyev et al. (2026), arXiv 2604.14108, whose code has E_B[ s_B^T H_B s_B / (s_B^T g_B) ] with s_B = b v + g_B.
        That mean of ratios is left out: with a velocity s_B^T g_B is of either sign and may vanish, and where its density at 0 is
        not 0 the ratio has neither a mean nor a variance. The ratio of the means has a meaning of its own. The update changes the
        loss of its own batch by -lr s_B^T g_B + lr^2/2 s_B^T H_B s_B to second order, and the mean of this over batches vanishes
        where momentum batch sharpness is 2 / lr: below it, while E_B[ s_B^T g_B ] > 0, the update lowers the loss of its batch on
        average, above it raises it. Negative values are of steps that go uphill, or along negative curvature. On the edge of
        full-batch training on a quadratic, where an update takes x to -x, it is 2 / lr whatever the momentum.
    """
    num_examples = len(x)
    if num_batches < 2:
        raise ValueError(f"num_batches = {num_batches}: expected at least 2, as one batch has no standard error.")
    if batch_size < 1 or (batch_size > num_examples and not with_replacement):
        raise ValueError(f"batch_size = {batch_size}: expected 1 to {num_examples}, the examples; more only with replacement.")
    is_full = batch_size == num_examples and not with_replacement
    sampling: Sampling = "with_replacement" if with_replacement else "without_replacement"

    def draw(number: Array) -> Array:
        return batch_indices(key, number, num_examples=num_examples, batch_size=batch_size, sampling=sampling)

    indices = jnp.arange(num_examples)[None] if is_full else jax.lax.map(draw, jnp.arange(num_batches, dtype=jnp.int32))
    batches = measure_batches(problem, params, x=x, y=y, indices=indices, with_full_hessian=with_full_hessian, momentum=momentum)
    return estimates(batches, is_full=is_full)


@full_precision
def measure_batches(
    problem: Problem,
    params: Params,
    *,
    x: Shaped[Array, "examples *input"],
    y: Shaped[Array, "examples *target"],
    indices: Int[Array, "batches batch"],
    with_full_hessian: bool,
    momentum: Momentum | None = None,
) -> Batches:
    """Squared gradient of each of these batches and the curvatures along it, one batch at a time.

    Products are taken with g_B / |g_B|, and s_B / |s_B|, scaled by its largest entry first: no curvature is lost where |g_B|^2 underflows,
    and one of a gradient that is not finite is nan.

    Args:
        problem: Model, objective and chunk size, which bounds the memory also within a batch.
        params: Where to measure.
        x: Inputs of all examples.
        y: Their labels or targets.
        indices: The examples of each batch, in [0, examples).
        with_full_hessian: Whether the curvatures of the loss of all examples are wanted too.
        momentum: That of the optimizer, if slopes and curvatures along its update are wanted too.

    Returns:
        Squares and curvatures, exact to rounding.

    Cost: That of `batch_sharpness`.
    """
    flat, unravel = ravel_pytree(params)
    product = operators.hessian(problem, params, x=x, y=y)[1] if with_full_hessian else None

    velocity = None if momentum is None else momentum.past * ravel_pytree(momentum.buffer)[0]

    def measure(batch: Int[Array, " batch"]) -> tuple[Array, Array, Array | None, Array, Array | None, Array | None]:
        def gradient(w: Array) -> Array:
            return operators.gradient(problem, unravel(w), x=x[batch], y=y[batch])

        def curvature_along(direction: Array) -> Array:
            return jnp.vdot(direction, jax.jvp(gradient, (flat,), (direction,))[1])

        slope = gradient(flat)
        direction, is_defined = _direction(slope)
        full_curvature = jnp.vdot(direction, product(direction)) if product else None
        found = jnp.vdot(slope, slope), curvature_along(direction), full_curvature, is_defined
        if momentum is None or velocity is None:
            return *found, None, None
        step = velocity + momentum.present * slope
        return *found, jnp.vdot(step, slope), jnp.vdot(step, step) * curvature_along(_direction(step)[0])

    squares, curvatures, full_curvatures, are_defined, *along_step = jax.lax.map(measure, indices)
    slope = operators.gradient(problem, params, x=x, y=y) if with_full_hessian else None
    full_square = None if slope is None else jnp.vdot(slope, slope)
    return Batches(squares, curvatures, full_curvatures, are_defined, full_square, *along_step)


def _direction(vector: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Bool[Array, ""]]:
    """The unit vector, and whether there is one; else zeros."""
    largest = jnp.max(jnp.abs(vector))
    is_defined = ~(largest < jnp.finfo(vector.dtype).tiny)  # nan is not below: it is to show
    scaled = vector / jnp.where(is_defined, largest, 1)
    return jnp.where(is_defined, scaled / jnp.linalg.norm(scaled), 0), is_defined


def estimates(batches: Batches, *, is_full: bool = False) -> BatchSharpness:
    """Batch sharpness and its relatives from independent batches, with standard errors.

    Means a of m values a_B have the standard error sqrt(sum_B (a_B - a)^2 / (m (m - 1))), whose square has the mean Var(a).

    Ratios R = E a_B / E b_B are estimated by r = a / b, the ratio of the means. Then r - R = (a - R b) / b, where a - R b is
    the mean of the independent a_B - R b_B, of mean 0; so to first order in 1 / sqrt(m), where b is E b_B,
    Var(r) = Var(a_B - R b_B) / (m (E b_B)^2). Its estimate, with r for R and b for E b_B,

        sem^2 = sum_B (a_B - r b_B)^2 / (m (m - 1) b^2),

    is off by the order 1/m, relatively. To the same order r has the bias -Cov(a_B - R b_B, b_B) / (m (E b_B)^2).

    Args:
        batches: What was measured, for at least two batches if they are not full.
        is_full: Whether the batches are the full one, so that chance has no part in them.

    Returns:
        The estimates. Where fewer than two batches have a gradient, the standard error of batch sharpness is nan, and
        where none has one, so are it and the ratios to E_B |g_B|^2: `num_undefined` tells. The gradient-noise interaction has
        no finite value where |g|^2 is 0.
    """
    squares = batches.squares
    everywhere = jnp.ones_like(batches.are_defined)
    interaction = aware = None
    if batches.full_curvatures is not None and batches.full_square is not None:
        numerators = squares * batches.full_curvatures
        interaction = _mean(numerators / batches.full_square, counted=everywhere, is_full=is_full)
        aware = _ratio(numerators, squares, is_full=is_full)
    along_step = None
    if batches.step_curvatures is not None and batches.step_slopes is not None:
        along_step = _ratio(batches.step_curvatures, batches.step_slopes, is_full=is_full)
    return BatchSharpness(
        batch_sharpness=_mean(batches.curvatures, counted=batches.are_defined, is_full=is_full),
        ratio_of_means=_ratio(squares * batches.curvatures, squares, is_full=is_full),
        gradient_noise_interaction=interaction,
        interaction_aware_sharpness=aware,
        num_undefined=jnp.sum(~batches.are_defined),
        momentum_batch_sharpness=along_step,
    )


def _mean(values: Float[Array, " batches"], *, counted: Bool[Array, " batches"], is_full: bool) -> Estimate:
    mean = jnp.mean(values, where=counted)
    if is_full:
        return Estimate(mean, jnp.zeros_like(mean))
    return Estimate(mean, jnp.std(values, ddof=1, where=counted) / jnp.sqrt(jnp.sum(counted, dtype=values.dtype)))


def _ratio(numerators: Float[Array, " batches"], denominators: Float[Array, " batches"], *, is_full: bool) -> Estimate:
    scale = jnp.mean(denominators)
    ratio = jnp.mean(numerators) / scale
    if is_full:
        return Estimate(ratio, jnp.zeros_like(ratio))
    count = len(numerators)
    remainders = (numerators - ratio * denominators) / scale
    return Estimate(ratio, jnp.sqrt(jnp.sum(remainders**2) / count / (count - 1)))
