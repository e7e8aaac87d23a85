"""Optimizers by spec: the optax chain, the learning rate by step, and the preconditioner that an adaptive one implies.

Called by the training runner. A chain's whole memory is its state, a pytree of arrays that counts its own steps, so that
a restored state goes on as if never interrupted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Key, PyTree
from optax.tree_utils import tree_get, tree_get_all_with_path

from runners import imports, spec
from runners.errors import SpecError

NOISE_STREAM = 2**32 - 1
"""Sets the noise apart from the batches, whose stream at the same key is the step."""
SECOND_MOMENTS = ("nu_max", "nu", "sum_of_squares")
"""What optax calls the squares whose root a chain divides by, in the order in which they count: AMSGrad has nu beside nu_max."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer as the training loop and the measurements need it."""

    transformation: optax.GradientTransformation
    """Maps gradients to what is added to the parameters; `update` needs the parameters too."""
    lr: Callable[[ArrayLike], Float[Array, ""]]
    """Learning rate of the update that is applied at a step; the very function that `transformation` evaluates."""
    preconditioner: Callable[[optax.OptState, int], PyTree[Array] | None]
    """The diagonal P of the update x -= lr P^-1 m, from the state after `step` updates, shaped like the parameters.

    It is the P that the last update divided by: the next one's is known only with the next gradient, which enters its
    second moment with the weight 1 - beta2. None before the first update, when the second moment is still zero, and for
    optimizers that have no preconditioner.
    """
    uses_preconditioner: bool
    velocity: Callable[[optax.OptState], PyTree[Array] | None] = lambda _: None
    """The momentum buffer in a state, shaped like the parameters; None for all but heavy ball, Nesterov and EMA momentum."""
    perturb: Callable[[PyTree[Array], PyTree[Array]], PyTree[Array]] | None = None
    """Maps parameters and their gradient to where the gradient is taken that `transformation` gets, on the same batch.

    None when that is at the parameters themselves.
    """
    shake: Callable[[PyTree[Array], Key[Array, ""], ArrayLike], PyTree[Array]] | None = None
    """Maps the parameters after the update of a step, the run's key for randomness within steps, and the step to parameters with
    noise. None without noise."""


class Factors(NamedTuple):
    """By parameter, shaped like the parameters."""

    lr: PyTree[float]
    """Its learning rate over the optimizer's."""
    eps: PyTree[float]
    """Its epsilon over the optimizer's."""


def build(
    table: spec.Optimizer, params: PyTree[Any] = None, factors: Factors | None = None, *, lr: Float[ArrayLike, ""] | None = None
) -> Optimizer:
    """The optimizer that a spec's table describes; its update rule is the one in the table's docstring.

    Args:
        table: The spec's table.
        params: What is to be trained, of which only the shapes count; a user's chain is tried on them.
        factors: Of an adaptive optimizer's learning rates; one for all when absent.
        lr: A learning rate in place of the table's; may be traced.

    Raises:
        SpecError: If a user's chain cannot be used.
    """
    rate = learning_rate(table, lr)
    if isinstance(table, spec.CustomOptimizer):
        return _custom(table, rate, params)
    return Optimizer(
        transformation=_transformation(table, rate, factors),
        lr=rate,
        preconditioner=partial(_preconditioner, table, factors),
        uses_preconditioner=isinstance(table, spec.Adam | spec.RmsProp),
        velocity=partial(_velocity, table),
        perturb=partial(_ascended, rho=table.rho) if isinstance(table, spec.Sam) else None,
        shake=partial(_shaken, radius=table.noise, every=table.noise_every, first=table.warm_steps)
        if isinstance(table, spec.NormalizedGd) and table.noise
        else None,
    )


def learning_rate(table: spec.Optimizer, lr: Float[ArrayLike, ""] | None = None) -> Callable[[ArrayLike], Float[Array, ""]]:
    """The rate by step. Jitted, so that a call from Python runs the program that a training step inlines, and returns the same float."""
    schedule = _schedule(table.lr) if lr is None else optax.constant_schedule(lr)
    if isinstance(table, spec.WarmStarted) and table.warm_start:
        schedule = optax.join_schedules([optax.constant_schedule(table.warm_start.lr), schedule], [table.warm_steps])

    @jax.jit
    def rate(step: ArrayLike) -> Float[Array, ""]:
        return jnp.asarray(schedule(jnp.asarray(step, dtype=float)), dtype=float)  # int32 / int would be float32 even in x64

    return rate


def _schedule(lr: spec.LearningRate) -> optax.Schedule:
    match lr:
        case spec.Warmup():
            return optax.linear_schedule(lr.start, lr.peak, lr.steps)
        case spec.Cosine():
            return optax.warmup_cosine_decay_schedule(0.0, lr.peak, lr.warmup_steps, lr.steps, end_value=lr.final)
        case spec.Piecewise():
            return optax.join_schedules([optax.constant_schedule(value) for value in lr.values], lr.boundaries)
        case spec.EdgeRate():
            return optax.constant_schedule(1.0)  # the training loop multiplies by the rate
        case _:
            return optax.constant_schedule(lr)


def _transformation(table: spec.BuiltInOptimizer, lr: optax.Schedule, factors: Factors | None) -> optax.GradientTransformation:
    if factors is not None:
        return _factored(table, lr, factors)
    match table:
        case spec.Sgd() | spec.Sam():
            return optax.sgd(lr)
        case spec.HeavyBall():
            return optax.sgd(lr, momentum=table.momentum)
        case spec.Nesterov():
            return optax.sgd(lr, momentum=table.momentum, nesterov=True)
        case spec.EmaMomentum():
            return optax.chain(optax.ema(table.momentum, debias=False), optax.scale_by_learning_rate(lr))
        case spec.AdamW():
            return optax.adamw(lr, table.beta1, table.beta2, table.eps, weight_decay=table.decoupled_decay)
        case spec.Adam():
            return optax.adam(lr, table.beta1, table.beta2, table.eps)
        case spec.RmsProp():
            return optax.rmsprop(lr, table.decay, table.eps, eps_in_sqrt=False)
        case spec.NormalizedGd():
            return optax.chain(optax.stateless(lambda gradient, _: _direction(gradient)), optax.scale_by_learning_rate(lr))
        case spec.SignDescent():
            return optax.sign_sgd(lr)
        case spec.Muon():
            return optax.contrib.muon(lr, beta=table.momentum)


def _factored(table: spec.BuiltInOptimizer, lr: optax.Schedule, factors: Factors) -> optax.GradientTransformation:
    """An adaptive optimizer whose learning rate and epsilon differ by parameter: what `optax.multi_transform` makes of one for each pair.

    The gradient over a factor of epsilon has that epsilon: s m / (sqrt(s^2 nu) + eps) = m / (sqrt(nu) + eps / s). Decoupled decay is by
    lr for all: the share of a parameter that a step takes off does not depend on the width.
    """
    match table:
        case spec.AdamW():
            core = [optax.scale_by_adam(table.beta1, table.beta2, table.eps)]
            decay = [optax.add_decayed_weights(table.decoupled_decay)]
        case spec.Adam():
            core, decay = [optax.scale_by_adam(table.beta1, table.beta2, table.eps)], []
        case spec.RmsProp():
            core, decay = [optax.scale_by_rms(table.decay, table.eps, eps_in_sqrt=False)], []
        case spec.SignDescent():
            core, decay = [optax.scale_by_sign()], []
        case _:
            raise AssertionError(f"{table} has one learning rate.")
    before = _scale_by(jax.tree.map(lambda eps: 1.0 / eps, factors.eps))
    return optax.chain(before, *core, _scale_by(factors.lr), *decay, optax.scale_by_learning_rate(lr))


def _scale_by(factors: PyTree[float]) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, _: jax.tree.map(lambda factor, update: factor * update, factors, updates))


def _ascended(params: PyTree[Array], gradient: PyTree[Array], *, rho: float) -> PyTree[Array]:
    """Params + rho g / |g|. Source: Foret et al. (2020), arXiv 2010.01412."""
    return jax.tree.map(lambda value, slope: value + rho * slope, params, _direction(gradient))


def _shaken(params: PyTree[Array], key: Key[Array, ""], step: ArrayLike, *, radius: float, every: int, first: int) -> PyTree[Array]:
    """The parameters, after every so many steps from the first on with a uniform point of a ball added.

    Its distance to the power dim is uniform, and its direction too.

    Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745, who perturb normalised gradient descent so.
    """
    flat, unravel = ravel_pytree(params)

    def moved() -> Array:
        direction, distance = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, NOISE_STREAM), step))
        normal = jax.random.normal(direction, flat.shape, flat.dtype)
        share = jax.random.uniform(distance, (), flat.dtype) ** (1 / flat.size)
        point: Array = radius * share * normal / jnp.linalg.norm(normal)
        return flat + point

    is_due = jnp.logical_and((jnp.asarray(step) + 1) % every == 0, jnp.asarray(step) >= first)
    found: PyTree[Array] = unravel(jax.lax.cond(is_due, moved, lambda: flat))
    return found


def _direction(gradient: PyTree[Array]) -> PyTree[Array]:
    """The gradient over its norm, which is that of all leaves together; a gradient of norm 0 stays as it is."""
    norm = optax.tree.norm(gradient)
    return jax.tree.map(lambda slope: slope / jnp.where(norm == 0, 1, norm), gradient)


def _velocity(table: spec.BuiltInOptimizer, opt_state: optax.OptState) -> PyTree[Array] | None:
    match table:
        case spec.HeavyBall() | spec.Nesterov():
            return tree_get(opt_state, "trace")
        case spec.EmaMomentum():
            return tree_get(opt_state, "ema")
        case _:
            return None


def _preconditioner(table: spec.BuiltInOptimizer, factors: Factors | None, opt_state: optax.OptState, step: int) -> PyTree[Array] | None:
    """P after `step` updates, with second moment nu.

    Adam: (1 - beta1^step) (sqrt(nu / (1 - beta2^step)) + eps): both bias corrections belong to P, so that m is the plain
    moving average whose edge `thresholds.adam` gives. Some implementations leave out the first factor, which tends to 1.
    RMSProp: sqrt(nu) + eps. Where learning rates differ, over their factors, so that lr is that of all; nu is of the gradient over the
    factor of epsilon.

    Source: Cohen et al. (2022), arXiv 2207.14484.
    """
    if step == 0:
        return None
    match table:
        case spec.Adam():
            found = _diagonal(tree_get(opt_state, "nu"), step, beta1=table.beta1, beta2=table.beta2, eps=table.eps)
        case spec.RmsProp():
            found = _diagonal(tree_get(opt_state, "nu"), step, eps=table.eps)
        case _:
            return None
    return found if factors is None else jax.tree.map(lambda p, lr, eps: p * (eps / lr), found, factors.lr, factors.eps)


def _diagonal(nu: PyTree[Array], step: int, *, beta1: float = 0.0, beta2: float = 0.0, eps: float, eps_root: float = 0.0) -> PyTree[Array]:
    first, second = (1 - beta**step for beta in (beta1, beta2))
    return jax.tree.map(lambda v: first * (jnp.sqrt(v / second + eps_root) + eps), nu)


def _custom(table: spec.CustomOptimizer, lr: Callable[[ArrayLike], Float[Array, ""]], params: PyTree[Any]) -> Optimizer:
    transformation = _made(table, lr)
    state = _tried(table, transformation, params)
    name = _second_moment_name(table, state, params)

    def preconditioner(opt_state: optax.OptState, step: int) -> PyTree[Array] | None:
        if step == 0 or name is None:
            return None
        [nu] = _shaped_like(params, name, opt_state)
        betas = {} if table.beta2 is None else {"beta1": table.beta1 or 0.0, "beta2": table.beta2}
        return _diagonal(nu, step, **betas, eps=table.eps, eps_root=table.eps_root)

    return Optimizer(transformation=transformation, lr=lr, preconditioner=preconditioner, uses_preconditioner=name is not None)


def _made(table: spec.CustomOptimizer, lr: optax.Schedule) -> optax.GradientTransformation:
    make = imports.load(table.target, key="optimizer.name")
    try:
        found = make(lr, **table.arguments)
    except Exception as error:
        raise SpecError(f"{table.target} raised {type(error).__name__} when it was made: {error}") from error
    if not isinstance(found, optax.GradientTransformation):
        raise SpecError(
            f"{table.target} made a {type(found).__name__}, expected an optax.GradientTransformation. It is called with the learning "
            "rate, a function of the step as in all of optax, and optimizer.arguments, and returns what optax.chain does."
        )
    return found


def _tried(table: spec.CustomOptimizer, transformation: optax.GradientTransformation, params: PyTree[Any]) -> optax.OptState:
    """The shapes of the state; an update is traced, not run."""
    try:
        state = jax.eval_shape(transformation.init, params)
        change, after = jax.eval_shape(transformation.update, params, state, params)
    except Exception as error:
        raise SpecError(
            f"{table.target} raised {type(error).__name__} in an update: {error}. Expected one that takes the gradient, the state and the "
            "parameters, and nothing else."
        ) from error
    if _shapes(change) != _shapes(params):
        raise SpecError(f"{table.target} changes the parameters by {_shapes(change)}, expected their own shapes: {_shapes(params)}.")
    if _kinds(after) != _kinds(state) or any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in jax.tree.leaves(state)):
        raise SpecError(
            f"{table.target} has a state that cannot be kept: expected arrays of numbers whose shapes and types an update leaves as they "
            "are. Of random numbers keep the seed, or a key as jax.random.PRNGKey makes it."
        )
    return state


def _second_moment_name(table: spec.CustomOptimizer, state: optax.OptState, params: PyTree[Any]) -> str | None:
    """Field of the state that holds the second moment; None where there is none, or more than one that it might be."""
    asked = table.second_moment
    names = {"auto": SECOND_MOMENTS, "none": ()}.get(asked, (asked,))
    counts = {name: count for name in names if (count := len(_shaped_like(params, name, state)))}
    name, count = next(iter(counts.items()), (None, 0))
    if count != 1 and asked not in ("auto", "none"):
        raise SpecError(
            f'optimizer.second_moment = "{asked}": the state of {table.target} has {count} fields of that name that are shaped like '
            'the parameters, expected one. Use "none" if it has no second moment.'
        )
    return name if count == 1 else None


def _shaped_like(params: PyTree[Any], name: str, state: optax.OptState) -> list[PyTree[Any]]:
    """The fields of that name, wherever they are in the state, that have the parameters' structure and shapes."""
    return [value for _, value in tree_get_all_with_path(state, name) if _shapes(value) == _shapes(params)]


def _shapes(tree: PyTree[Any]) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, tree)


def _kinds(tree: PyTree[Any]) -> tuple[Any, list[Any]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
