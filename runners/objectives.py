"""Losses of a model's outputs, their reductions, and what measurements need of their second derivatives.

An `Objective` is hashable and can be a static argument of a jitted function. Everything here is a pure function of
arrays; nothing knows how parameters are updated.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from runners import devices, spec
from runners.data import Dataset
from runners.errors import SpecError
from runners.experiments import Value

Apply: TypeAlias = Callable[[Any, Array], Array]
"""(params, x [examples, *input_shape]) -> outputs [examples, outputs]."""
Targets: TypeAlias = Shaped[Array, "examples *outputs"]
"""Integer labels [examples], or real targets [examples, outputs]."""

Name: TypeAlias = Literal["mse", "cross_entropy", "value"]
CONVENTIONS: dict[Name, str] = {
    "mse": "1/2 sum over outputs of (output - target)^2, mean over examples",
    "cross_entropy": "softmax cross-entropy in nats, mean over examples",
    "value": "the function's value",
}


@dataclass(frozen=True)
class Objective:
    """A loss L: mean over examples of `example_losses`, plus (weight_decay / 2) |params|^2; and what of it is descended."""

    name: Name
    weight_decay: float = 0.0
    transform: spec.Transform = "none"
    """sqrt: updates descend sqrt(L - minimum)."""
    minimum: float = 0.0

    @property
    def convention(self) -> str:
        """The loss in words, reductions included."""
        decay = f", plus ({self.weight_decay:g} / 2) |parameters|^2" if self.weight_decay else ""
        descended = f"; updates descend the root of it less {self.minimum:g}" if self.transform == "sqrt" else ""
        return CONVENTIONS[self.name] + decay + descended

    def example_losses(self, outputs: Float[Array, "examples outputs"], targets: Targets) -> Float[Array, " examples"]:
        """Loss of each example, without weight decay.

        mse: 1/2 sum_c (f_c - y_c)^2, with y one-hot where targets are labels. cross_entropy: -log softmax(f)_y. value: f itself, of
        which there is one.

        Args:
            outputs: f, the model's outputs.
            targets: y, labels 0 to outputs - 1, or real targets (mse only).
        """
        if self.name == "mse":
            wanted = jax.nn.one_hot(targets, outputs.shape[1], dtype=outputs.dtype) if _are_labels(targets) else targets
            return 0.5 * jnp.sum((outputs - wanted) ** 2, axis=1)
        if self.name == "value":
            return outputs[:, 0]
        return -jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], axis=1)[:, 0]

    def output_hessian_root(self, outputs: Float[Array, "examples outputs"]) -> Float[Array, "examples outputs outputs"]:
        """S with S S^T = the Hessian of an example's loss in its outputs, which depends on no target.

        mse: the identity. value: 0. cross_entropy: diag(sqrt p) - p sqrt(p)^T with p = softmax(f), as S S^T = diag(p) - p p^T.
        """
        identity = jnp.eye(outputs.shape[1], dtype=outputs.dtype)
        if self.name == "mse":
            return jnp.broadcast_to(identity, (outputs.shape[0], *identity.shape))
        if self.name == "value":
            return jnp.zeros((outputs.shape[0], *identity.shape), outputs.dtype)
        p = jax.nn.softmax(outputs)
        return (identity - p[:, :, None]) * jnp.sqrt(p)[:, None, :]

    @functools.partial(jax.jit, static_argnums=0)
    def penalty(self, params: PyTree[Float[Array, "..."]]) -> Float[Array, ""]:
        """The weight-decay term (weight_decay / 2) |params|^2."""
        leaves = jax.tree.leaves(params)
        if not self.weight_decay:
            return jnp.zeros((), leaves[0].dtype)
        squares = [jnp.sum(leaf**2) for leaf in leaves]
        return 0.5 * self.weight_decay * sum(squares[1:], start=squares[0])

    def loss(self, apply: Apply, params: PyTree[Float[Array, "..."]], x: Shaped[Array, "examples *input"], y: Targets) -> Float[Array, ""]:
        """L: mean of `example_losses` plus `penalty`."""
        data_loss = jnp.mean(self.example_losses(apply(params, x), y))
        loss: Array = data_loss + self.penalty(params)
        return loss

    def accuracy(
        self, outputs: Float[Array, "examples outputs"], targets: Targets, counted: Bool[Array, " examples"] | None = None
    ) -> Float[Array, ""] | None:
        """Share of the examples, or of those that are counted, whose largest output is the label's; None for real targets."""
        if not _are_labels(targets):
            return None
        return jnp.mean(jnp.argmax(outputs, axis=1) == targets, dtype=outputs.dtype, where=counted)


@dataclass(frozen=True)
class Evaluation:
    """How good the parameters are on a set of examples."""

    loss: float
    """Mean over the examples, without weight decay."""
    accuracy: float | None
    """Share classified correctly; None for real targets."""


def build(objective: spec.Objective | Value, data: Dataset) -> Objective:
    """The objective that the table `objective` asks for.

    Raises:
        SpecError: If it needs class labels and the data has real targets.
    """
    if isinstance(objective, spec.CrossEntropy) and data.description.task == "regression":
        raise SpecError(f'objective.name = "cross_entropy": needs class labels, and {data.description.name} has real targets. Use "mse".')
    name: Name = "mse" if isinstance(objective, spec.Mse) else "cross_entropy" if isinstance(objective, spec.CrossEntropy) else "value"
    return Objective(name, objective.weight_decay, objective.transform, objective.minimum)


def slope(loss: Float[Array, ""], *, transform: spec.Transform, minimum: float) -> Float[Array, ""]:
    """Derivative f'(L) of what is descended: 1 for the loss itself, 1 / (2 sqrt(L - minimum)) for the root.

    Descending f(L) with a learning rate is descending L with f'(L) times that. The root has no derivative at L = minimum: there,
    and below, it is 0, so that nothing moves.

    Args:
        loss: L.
        transform: Which f.
        minimum: The least that L can be.
    """
    if transform == "none":
        return jnp.ones_like(loss)
    excess = loss - minimum
    return jnp.where(excess > 0, 0.5 / jnp.sqrt(jnp.where(excess > 0, excess, 1)), 0)


def evaluate(
    objective: Objective,
    apply: Apply,
    *,
    params: PyTree[Float[Array, "..."]],
    x: Shaped[Array | np.ndarray, "examples *input"],
    y: Shaped[Array | np.ndarray, "examples *outputs"],
    chunk_size: int = 1000,
) -> Evaluation:
    """Loss and accuracy on any number of examples; sums over chunks are added in float64, so the chunk size does not show.

    Args:
        objective: The loss.
        apply: The model's function.
        params: Its parameters.
        x: Inputs, at least one.
        y: Labels, or real targets.
        chunk_size: Examples in one pass.

    Cost: One forward pass over the examples.
    """
    starts = range(0, len(x), chunk_size)
    chunks = [(x[i : i + chunk_size], y[i : i + chunk_size]) for i in starts] if len(starts) > 1 else [(x, y)]
    sums = [_chunk_sums(objective, apply, params, *chunk) for chunk in chunks]
    losses, hits = zip(*jax.device_get(sums), strict=True)
    accuracy = None if hits[0] is None else int(sum(hits)) / len(x)
    return Evaluation(loss=math.fsum(losses) / len(x), accuracy=accuracy)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _chunk_sums(
    objective: Objective, apply: Apply, params: PyTree[Float[Array, "..."]], x: Shaped[Array, "examples *input"], y: Targets
) -> tuple[Array, Array | None]:
    x, y, counted = devices.batch(x, y)
    with jax.default_matmul_precision("highest"):
        outputs = apply(params, x)
    hits = jnp.sum(jnp.argmax(outputs, axis=1) == y, where=counted) if _are_labels(y) else None
    return jnp.sum(objective.example_losses(outputs, y), where=counted), hits


def _are_labels(targets: Targets) -> bool:
    return jnp.issubdtype(targets.dtype, jnp.integer)
