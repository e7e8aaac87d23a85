"""Stableness of a descent step: the learning rate times the largest sharpness on the way to the next parameters.

Called by `gauges`. Takes updates of its own, two in a row, and applies none to the run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from runners.measure import operators, sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter, Eigenvalues, Params
from runners.measure.krylov import Start
from runners.measure.operators import Problem
from runners.programs import Program

Rule: TypeAlias = Callable[[Float[Array, ""], Float[Array, ""], Float[Array, ""], Int[Array, ""]], Float[Array, ""]]
"""(lr, loss L, norm of its gradient g, step) -> eta, the learning rate at which the update is x -= eta g; 0 where there is no step."""


@dataclass(frozen=True)
class Step:
    """An update x -> x - eta g of gradient descent on L with the effective learning rate eta, and the curvature of L on the way."""

    loss: float
    """L(x)."""
    effective_lr: float
    """eta."""
    sharpness: float
    """lambda_1 at x."""
    highest: float
    """The largest lambda_1 on the grid."""
    error: float
    """Estimated error of `highest`, of the eigenvalue alone: what lies between the points is not in it."""
    alignment: float
    """Share of the square of g along the eigenvector of lambda_1 at x; NaN where g = 0."""

    @property
    def stableness(self) -> float:
        """S(x, eta) = eta sup_s lambda_1(x - s g), s in [0, eta]: at most 2 where the step surely does not raise the loss."""
        return self.effective_lr * self.highest

    @property
    def effective_sharpness(self) -> float:
        """The learning rate times the sharpness at x: eta lambda_1(x)."""
        return self.effective_lr * self.sharpness


@dataclass(frozen=True)
class Pair:
    """Two updates in a row."""

    first: Step
    second: Step
    num_products: int
    converged: bool
    """Of every eigenvalue."""
    seconds: float


def reciprocal_sum(first: float, second: float) -> float:
    """1 / first + 1 / second; infinite where one of them is 0."""
    return sum(1 / value if value else float("inf") for value in (first, second))


def harmonic_mean(first: float, second: float) -> float:
    """2 / (1 / first + 1 / second); 0 where one of them is 0."""
    inverse = reciprocal_sum(first, second)
    return 2 / inverse if inverse else float("inf")


class _Descended(NamedTuple):
    """Where an update comes to."""

    loss: Float[Array, ""]
    effective_lr: Float[Array, ""]
    unit: Float[Array, " dim"]
    """g / |g|; NaN where g = 0."""
    change: Float[Array, " dim"]
    """-eta g."""


class StablenessMeter:
    """Measures two updates in a row of one problem, on fixed examples."""

    def __init__(
        self,
        problem: Problem,
        params: Params,
        *,
        rule: Rule,
        x: Shaped[Array, "examples *input"],
        y: Shaped[Array, "examples *target"],
        accuracy: Accuracy,
    ) -> None:
        """Compile for parameters and examples of these shapes.

        Args:
            problem: Model, objective and chunk size.
            params: Any parameters; only their shapes count.
            rule: The effective learning rate of the optimizer.
            x: Inputs of all examples that updates take their gradient of.
            y: Their labels or targets.
            accuracy: Tolerance and when to give up, of each eigenvalue.
        """
        self._data = (x, y)
        self._problem = problem
        self._rule = rule
        self._meter = EigenMeter(sharpness.hessian(problem), params, x=x, y=y, top_k=1, accuracy=accuracy)
        self.start = self._meter.start
        flat = jax.eval_shape(lambda params: ravel_pytree(params)[0], params)
        number = jax.ShapeDtypeStruct((), flat.dtype)
        self._dtype = flat.dtype
        self._descend = Program(self._descended, params, *self._data, number, jax.ShapeDtypeStruct((), np.int32))
        self._move = Program(_moved, params, flat, number)
        self.programs = (self._meter.program, self._descend, self._move)

    def measure(
        self, params: Params, start: Start, key: Key[Array, ""], *, lrs: tuple[float, float], num_points: int, step: int = 0
    ) -> tuple[Pair, Start]:
        """Stableness at these parameters and at the next ones.

        S(x, eta) = eta sup_{0 <= s <= eta} lambda_1(Hess L(x - s g)), the supremum taken over `num_points` points of the segment
        and so never above the true one. The next parameters are the end of the segment, and have a segment of their own.

        Args:
            params: Where to measure.
            start: What the previous measurement left; the meter's `start` at first.
            key: For the solver's random directions, the same at all points.
            lrs: Learning rates of the update at these parameters and of the next one.
            num_points: Points of a segment at which the sharpness is measured, equally spaced, its two ends included; >= 2.
            step: Of the update at these parameters, for the rule.

        Returns:
            The two steps, and what the next measurement starts from.

        Cost: Two gradients and 2 num_points - 1 eigenvalues, each started from the vectors of the point before it.

        Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745.
        """
        began = time.perf_counter()
        found, kept = self._meter.measure(params, start, key)
        walked, steps, last = [found], [], kept
        for at, lr in enumerate(lrs, start=step):
            to = self._descend(params, *self._data, jnp.asarray(lr, self._dtype), np.int32(at))
            along = [walked[-1]]
            origin = params
            for point in range(1, num_points):
                params = self._move(origin, to.change, jnp.asarray(point / (num_points - 1), self._dtype))
                found, last = self._meter.measure(params, last, key)
                along.append(found)
            steps.append(_step(to, along))
            walked += along[1:]
        first, second = steps
        pair = Pair(
            first=first,
            second=second,
            num_products=sum(one.num_products for one in walked),
            converged=all(one.converged for one in walked),
            seconds=time.perf_counter() - began,
        )
        return pair, kept

    def _descended(self, params: PyTree[Array], x: Array, y: Array, lr: Float[Array, ""], step: Int[Array, ""]) -> _Descended:
        loss, gradient = operators.loss_and_gradient(self._problem, params, x=x, y=y)
        norm = jnp.linalg.norm(gradient)
        effective_lr = self._rule(lr, loss, norm, step)
        return _Descended(loss, effective_lr, gradient / jnp.where(norm == 0, jnp.nan, norm), -effective_lr * gradient)


def _moved(params: PyTree[Array], change: Float[Array, " dim"], share: Float[Array, ""]) -> PyTree[Array]:
    flat, unravel = ravel_pytree(params)
    moved: PyTree[Array] = unravel(flat + share * change)
    return moved


def _step(to: _Descended, along: list[Eigenvalues]) -> Step:
    highest = max(along, key=lambda found: found.values[0])
    return Step(
        loss=float(to.loss),
        effective_lr=float(to.effective_lr),
        sharpness=along[0].values[0],
        highest=highest.values[0],
        error=highest.errors[0],
        alignment=float(np.vdot(along[0].vectors[0], to.unit)) ** 2,
    )
