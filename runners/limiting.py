"""The limiting flow of normalised descent as a run: the runner behind `runner = "flow"` with `flow.kind = "limiting"`.

A training run up to where the flow begins, its warm start and its own updates; from there on steps along the manifold of minima, each as
long as many of the optimizer's, for any number of parameters: by eigenvectors and gradients, without a dense Hessian.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree
from msgspec import UNSET
from msgspec.structs import replace

from runners.experiments import Flow, LimitingFlow
from runners.measure import operators, sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter
from runners.measure.operators import Problem
from runners.panels import limiting_flow_panels
from runners.programs import Program
from runners.records import AnyRecord, EventRecord, FlowRecord, Header, Panel, SharpnessRecord
from runners.session import Clock
from runners.spec import NormalizedGd
from runners.theory import limiting_flow
from runners.train import Inputs, Params, Targets, TrainRunner, Update, loss_and_gradient

TOLERANCE = 1e-5
"""Relative error asked of lambda_1: it goes with the square of the error in the eigenvector, whose own enters the flow."""
STREAM = 2_000_000
"""Tells this module's random numbers from those of the measurements."""


class Landed(NamedTuple):
    """Where a projection on the manifold ended."""

    params: Params
    loss: Float[Array, ""]
    """L - L_min."""
    steps: Int[Array, ""]
    """Of gradient descent."""
    converged: Any
    """Whether the loss came down to what was asked for."""


class AlongMinima(NamedTuple):
    """The programs of a step along the manifold of minima."""

    problem: Problem
    kind: limiting_flow.Kind
    minimum: float
    tolerance: float

    def velocity(self, params: Params, vector: Float[Array, " dim"], x: Inputs, y: Targets) -> Float[Array, " dim"]:
        """DX/dtau but for the projection P, of which only that off the top eigenvector is made here: the descent makes the rest.

        Args:
            params: X, on the manifold.
            vector: The top eigenvector of the Hessian there, which is held for grad lambda_1 = grad (v^T H v).
            x: All training inputs.
            y: Their labels or targets.

        Cost: About four gradients.
        """
        value, slope = operators.curvature_gradient(self.problem, params, x=x, y=y, u=vector, v=vector)
        return -limiting_flow.rate(self.kind, value) * (slope - jnp.vdot(vector, slope) * vector)

    @operators.full_precision
    def landed(
        self,
        params: Params,
        direction: Float[Array, " dim"],
        length: Float[Array, ""],
        top: Float[Array, ""],
        lr: Float[Array, ""],
        x: Inputs,
        y: Targets,
    ) -> Landed:
        """The parameters moved along a direction, and back to the manifold by gradient descent; see `limiting_flow.descend`.

        Args:
            params: From where.
            direction: Which way.
            length: How many times it.
            top: lambda_1 about there.
            lr: Of the optimizer.
            x: All training inputs.
            y: Their labels or targets.
        """
        flat, unravel = ravel_pytree(params)

        def excess_and_gradient(vector: Array) -> tuple[Array, Array]:
            loss, gradient = operators.loss_and_gradient(self.problem, unravel(vector), x=x, y=y)
            return loss - self.minimum, gradient

        enough = self.tolerance * limiting_flow.hovering(self.kind, lr=lr, sharpness=top)
        found = limiting_flow.descend(excess_and_gradient, flat + length * direction, sharpness=top, enough=enough)
        return Landed(unravel(found.point), found.loss, found.steps, found.loss <= enough)


class Moved(NamedTuple):
    """A step along the flow."""

    params: Params
    difference: Float[Array, ""]
    """Between one step and two halves of it."""
    descended: int
    """Steps of all its projections."""
    converged: bool


class LimitingFlowRunner(TrainRunner):
    """A limiting flow: see `session.Runner` for what the session asks of it."""

    def __init__(self, spec: Flow) -> None:
        """Load the data, build the model, compile what moves the parameters.

        Raises:
            SpecError: If parts of the spec do not fit each other or the data.
            DataError: If the data cannot be read.
        """
        assert isinstance(spec.flow, LimitingFlow)
        self._flow = spec.flow
        self._first = max(spec.flow.from_step, spec.optimizer.warm_steps)
        """Step at which the flow begins."""
        self._has_begun = False
        self._is_warned = False
        self._error: Float[Array, ""]
        # In the updates of training the sharpness can be followed on the way; here it is solved for, as often as it is asked for.
        super().__init__(replace(spec, measure=replace(spec.measure, solve_every=1)) if spec.measure.follows else spec)

    def header(self, run: str) -> Header:
        """The log's first line; the flow has no edge."""
        return replace(super().header(run), threshold_formula=None)

    def measure(self, clock: Clock) -> Iterator[AnyRecord]:
        """Curvature and evaluation due at the present step; nothing when called again."""
        for record in super().measure(clock):
            is_held = isinstance(record, SharpnessRecord) and self._has_begun
            yield replace(record, threshold=UNSET, ratio=UNSET) if is_held else record

    def advance(self, clock: Clock) -> Iterator[AnyRecord]:
        """One chunk of the optimizer's own updates; from where the flow begins one step along it."""
        if not self._has_begun:
            yield from super().advance(clock)
            return
        began = clock()
        stride, lr = min(self._flow.stride, self._boundary() - self.step), self._lr()
        update = self._seen(self._state.params, self._x, self._y, np.int32(self.step))
        moved = self._moved(lr, duration=lr**2 * stride)
        error, tau = float(self._error), lr**2 * (self.step - self._first)
        self._state = self._state._replace(params=moved.params)
        self._error = self._error + moved.difference
        first = jax.tree.map(lambda number: np.asarray(number)[None], update)
        for record in self._recorded(first, 1, began=began, seconds=clock() - began, stride=stride):
            yield record
            yield FlowRecord(
                step=record.step,
                time=record.time,
                num_substeps=2,
                error=error,
                tau=tau,
                projection_steps=moved.descended,
                converged=moved.converged,
            )
        if not moved.converged:
            yield from self._warning(clock)

    def state(self) -> PyTree[Array]:
        """What training has, and what the next step along the flow starts from."""
        return super().state(), self._error, self._start

    def restore(self, state: PyTree[Array | np.ndarray], *, step: int, first_loss: float | None) -> None:
        """Go on from a state, at a step whose measurements are done."""
        training, *own = state
        super().restore(training, step=step, first_loss=first_loss)
        self._error, self._start = jax.tree.map(jnp.asarray, tuple(own))
        self._has_begun = step >= self._first

    def _programs(self) -> Sequence[Program[Any]]:
        """What moves the parameters, compiling."""
        spec, params = self._spec, self._state.params
        flat = ravel_pytree(params)[0]
        number = jax.ShapeDtypeStruct((), flat.dtype)
        self._error = jnp.zeros((), flat.dtype)
        problem = Problem(self._model.apply, self._objective, self._curvature.chunk_size)
        kind: limiting_flow.Kind = "normalized" if isinstance(spec.optimizer, NormalizedGd) else "sqrt"
        along = AlongMinima(problem, kind, self._objective.minimum, self._flow.tolerance)
        accuracy = Accuracy(max(TOLERANCE, 10 * float(jnp.finfo(flat.dtype).eps)), spec.measure.max_hvps)
        self._meter = EigenMeter(sharpness.hessian(problem), params, x=self._x, y=self._y, top_k=1, accuracy=accuracy)
        self._start = self._meter.start
        self._seen: Program[Update] = Program(self._observed, params, self._x, self._y, np.int32(0))
        self._velocity = Program(along.velocity, params, flat, self._x, self._y)
        self._landed = Program(along.landed, params, flat, number, number, number, self._x, self._y)
        self._between = Program(_between, params, params)
        own = super()._programs() if self._first else ()
        return *own, self._meter.program, self._seen, self._velocity, self._landed, self._between

    def _panels(self) -> tuple[Panel, ...]:
        return limiting_flow_panels(super()._panels())

    def _boundary(self) -> int:
        boundary = super()._boundary()
        return min(boundary, self._first) if self.step < self._first else boundary

    def _switched(self, clock: Clock) -> Iterator[AnyRecord]:
        """The flow begins where gradient descent from the present parameters ends."""
        yield from super()._switched(clock)
        if self._has_begun or self.step < self._first:
            return
        self._has_begun = True
        vector, top = self._top(self._state.params, half=0)
        landed = self._land(self._state.params, vector, 0.0, top=top, lr=self._lr())
        self._state = self._state._replace(params=landed.params)
        message = (
            f"The limiting flow begins, after {int(landed.steps):,} steps of gradient descent to the manifold of minima: the loss there "
            f"is {float(landed.loss):.3g} above its minimum."
        )
        yield EventRecord(step=self.step, time=clock(), event="flow_began", message=message, data={"projection_steps": int(landed.steps)})
        if not landed.converged:
            yield from self._warning(clock)

    def _moved(self, lr: float, *, duration: float) -> Moved:
        """A step of Euler's and two of half its length, extrapolated from: what is off falls with the square of the step.

        The difference of the two is about the error of the second, which falls with the step itself.
        """
        begin = self._state.params
        vector, top = self._top(begin, half=0)
        velocity = self._velocity(begin, vector, self._x, self._y)
        coarse = self._land(begin, velocity, duration, top=top, lr=lr)
        middle = self._land(begin, velocity, duration / 2, top=top, lr=lr)
        vector, top = self._top(middle.params, half=1)
        velocity = self._velocity(middle.params, vector, self._x, self._y)
        fine = self._land(middle.params, velocity, duration / 2, top=top, lr=lr)
        change, difference = self._between(coarse.params, fine.params)
        end = self._land(fine.params, change, 1.0, top=top, lr=lr)
        legs = (coarse, middle, fine, end)
        return Moved(end.params, difference, sum(int(leg.steps) for leg in legs), all(bool(leg.converged) for leg in legs))

    def _land(self, params: Params, direction: Float[Array, " dim"], length: float, *, top: float, lr: float) -> Landed:
        numbers = (np.asarray(number, direction.dtype) for number in (length, top, lr))
        return self._landed(params, direction, *numbers, self._x, self._y)

    def _top(self, params: Params, *, half: int) -> tuple[Float[Array, " dim"], float]:
        """The top eigenvector of the Hessian and lambda_1."""
        # By numpy, since jax would compile a program for it.
        bits = np.random.SeedSequence((self._spec.run.seed, self.step, STREAM + half)).generate_state(2)
        key: Key[Array, ""] = jax.random.wrap_key_data(jnp.asarray(bits))
        found, self._start = self._meter.measure(params, self._start, key)
        return found.vectors[0], found.values[0]

    def _observed(self, params: Params, x: Inputs, y: Targets, step: Int[Array, ""]) -> Update:
        """What the log gets."""
        (loss, accuracy), gradient = loss_and_gradient(self._model, self._objective, params, x=x, y=y)
        return Update(loss, self._optimizer.lr(step), optax.tree.norm(gradient), accuracy, None)

    def _warning(self, clock: Clock) -> Iterator[EventRecord]:
        """That the flow is not on the manifold, said once."""
        if self._is_warned:
            return
        self._is_warned = True
        message = (
            f"A projection on the manifold of minima gave up after {limiting_flow.MAX_STEPS:,} steps of gradient descent, with a loss "
            "above flow.tolerance of that which the optimizer hovers at. Raise flow.tolerance, or let the flow begin later."
        )
        yield EventRecord(step=self.step, time=clock(), event="warning", message=message)


def _between(first: Params, second: Params) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
    """From the first to the second, and how long that is."""
    change = ravel_pytree(second)[0] - ravel_pytree(first)[0]
    return change, jnp.linalg.norm(change)
