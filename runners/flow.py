"""Flows beside training runs: the runner behind `runner = "flow"`.

Data, model, loss, measurements and the first parameters are those of the training run with the same tables; only what moves the
parameters differs. Below the edge of stability every flow is integrated in one compiled loop, like training. At the edge a central
flow is moved step by step from here: curvatures and their gradients on the device, the complementarity problem on the host.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree
from msgspec import UNSET
from msgspec.structs import replace

from runners.experiments import CentralFlow, Flow
from runners.measure import operators
from runners.measure.eigenvalues import Accuracy, EigenMeter
from runners.measure.krylov import Product
from runners.measure.operators import Problem
from runners.models import Model
from runners.objectives import Objective
from runners.optimizers import Optimizer
from runners.panels import flow_panels
from runners.programs import Program
from runners.records import AnyRecord, EventRecord, FlowRecord, Panel, SharpnessRecord, StepRecord
from runners.session import Clock
from runners.spec import HeavyBall, Nesterov, OptimizerTable, RmsProp
from runners.theory import central_flow, complementarity, gradient_flow
from runners.theory.central_flow import CRITICAL, EDGE, Local
from runners.train import MAX_CHUNK_STEPS, Inputs, Params, Targets, TrainRunner, Update, loss_and_gradient

FOLLOWED = 1.5
"""Effective curvature from which a central flow solves for the largest ones at each step. Source: the code of Cohen et al. (2024)."""
TOLERANCE = 1e-5
"""Relative error asked of these: it goes with the square of the error in the direction, whose own enters the flow."""
ABOVE = 1.05 * EDGE
"""An effective curvature above this is beyond what a central flow is about, which keeps them at the edge."""
STREAM = 1_000_000
"""Tells this module's random numbers from those of the measurements."""


class Position(NamedTuple):
    """Where a flow stands."""

    params: Params
    second_moment: Params | None
    """RMSProp's nu; None for all others."""


class Smooth(NamedTuple):
    """The steps of an optimizer's flow without oscillations as one program.

    For gradient descent dw/dt = -lr grad L with t in steps: gradient flow, with the time lr t. With momentum b the rate is that of
    the optimizer on a constant gradient: lr / (1 - b), and lr itself for the moving average. For RMSProp
    dw/dt = -lr g / (sqrt(nu) + eps), dnu/dt = (1 - decay) / decay (g^2 - nu).

    Source: RMSProp's is the central flow's without oscillations, Cohen et al. (2024), arXiv 2410.24206.
    """

    model: Model
    objective: Objective
    optimizer: Optimizer
    table: OptimizerTable

    @operators.full_precision
    def run(
        self,
        position: Position,
        error: Float[Array, ""],
        stiffness: Float[Array, ""],
        x: Inputs,
        y: Targets,
        first: Int[Array, ""],
        count: Int[Array, ""],
    ) -> tuple[Position, Float[Array, ""], tuple[Update, Float[Array, " steps"], Int[Array, " steps"]]]:
        """Flow for `count` steps, the first at step `first`; the buffers mean nothing from place `count` on.

        Args:
            position: Where to start.
            error: Estimated error so far.
            stiffness: Largest effective curvature over lr.
            x: All training inputs.
            y: Their labels or targets.
            first: The first step.
            count: How many.

        Returns:
            Where it came to, the error there, and by step what the log gets, the error before the step, and the substeps.
        """

        def turn(index: Int[Array, ""], carry: tuple[Position, Array, Any]) -> tuple[Position, Array, Any]:
            position, error, buffers = carry
            moved, more, update, substeps = self._step(position, stiffness, x, y, first + index)
            row = (update, error, substeps)
            return moved, error + more, jax.tree.map(lambda buffer, value: buffer.at[index].set(value), buffers, row)

        _, more, update, substeps = jax.eval_shape(self._step, position, stiffness, x, y, first)
        buffers = jax.tree.map(lambda shape: jnp.zeros(MAX_CHUNK_STEPS, shape.dtype), (update, more, substeps))
        result: tuple[Position, Array, Any] = jax.lax.fori_loop(0, count, turn, (position, error, buffers))
        return result

    def observed(self, params: Params, x: Inputs, y: Targets, step: Int[Array, ""]) -> tuple[Update, Params]:
        """What the log gets, and the gradient."""
        (loss, accuracy), gradient = loss_and_gradient(self.model, self.objective, params, x=x, y=y)
        return Update(loss, self.optimizer.lr(step), optax.tree.norm(gradient), accuracy, None), gradient

    def _step(
        self, position: Position, stiffness: Float[Array, ""], x: Inputs, y: Targets, step: Int[Array, ""]
    ) -> tuple[Position, Float[Array, ""], Update, Int[Array, ""]]:
        update, _ = self.observed(position.params, x, y, step)
        num_substeps = gradient_flow.num_steps(1.0, update.lr * stiffness)

        def derivative(at: Position) -> Position:
            _, gradient = loss_and_gradient(self.model, self.objective, at.params, x=x, y=y)
            lr = update.lr.astype(stiffness.dtype)
            if at.second_moment is None or not isinstance(self.table, RmsProp):
                return Position(jax.tree.map(lambda g: -lr * momentum_factor(self.table) * g, gradient), None)
            eps, rate = self.table.eps, averaging_rate(self.table)
            change = jax.tree.map(lambda g, nu: -lr * g / (jnp.sqrt(nu) + eps), gradient, at.second_moment)
            return Position(change, jax.tree.map(lambda g, nu: rate * (g**2 - nu), gradient, at.second_moment))

        moved = gradient_flow.advance(derivative, position, duration=1.0, steps=num_substeps, of=lambda part: part.params)
        return moved.state, moved.error, update, num_substeps


class AtEdge(NamedTuple):
    """The programs of a step of a central flow with curvatures at the edge."""

    smooth: Smooth
    problem: Problem

    def effective_hessian(self, params: Params, x: Inputs, y: Targets, second_moment: Params | None, lr: Float[Array, ""]) -> Product:
        """P^-1/2 H P^-1/2 with the learning rate in P, so that its edge is 2."""
        p = self.preconditioner(Position(params, second_moment), lr)[0]
        return operators.preconditioned(operators.hessian(self.problem, params, x=x, y=y)[1], 1 / jnp.sqrt(p))

    def local(
        self,
        position: Position,
        vectors: Float[Array, "k dim"],
        count: Int[Array, ""],
        dt: Float[Array, ""],
        x: Inputs,
        y: Targets,
        step: Int[Array, ""],
    ) -> tuple[Update, Local, Float[Array, "k k"], Float[Array, "pairs pairs"]]:
        """What is known at a position, and the complementarity problem there.

        Args:
            position: Where.
            vectors: Eigenvectors of P^-1/2 H P^-1/2, from the top down.
            count: Of these, how many count; the rest of the problem means nothing.
            dt: Length of the coming substep.
            x: All training inputs.
            y: Their labels or targets.
            step: For the learning rate.

        Cost: A gradient, and four for each pair of vectors that count.
        """
        update, gradient = self.smooth.observed(position.params, x, y, step)
        flat = ravel_pytree(position.params)[0]
        p, slope, rate = self.preconditioner(position, update.lr.astype(flat.dtype))
        first, second = (jnp.array(place) for place in zip(*complementarity.pairs(len(vectors)), strict=True))
        directions = vectors / jnp.sqrt(p)

        def pair(place: Int[Array, ""], found: tuple[Array, Array]) -> tuple[Array, Array]:
            u, v = directions[first[place]], directions[second[place]]
            value, third = operators.curvature_gradient(self.problem, position.params, x=x, y=y, u=u, v=v)
            return found[0].at[place].set(value), found[1].at[place].set(third)

        nothing = (jnp.zeros(len(first), flat.dtype), jnp.zeros((len(first), flat.size), flat.dtype))
        curvatures, slopes = jax.lax.fori_loop(0, count * (count + 1) // 2, pair, nothing)
        nu = jnp.zeros_like(flat) if position.second_moment is None else ravel_pytree(position.second_moment)[0]
        local = Local(ravel_pytree(gradient)[0], p, directions, curvatures, slopes, nu, slope, rate)
        return update, local, *operators.full_precision(central_flow.problem)(local, dt)

    def moved(self, position: Position, local: Local, x: Float[Array, "k k"], dt: Float[Array, ""]) -> tuple[Position, Float[Array, ""]]:
        """The position after a step of Euler's with the solution X, and tr Sigma."""
        dw, dnu = central_flow.velocity(local, x)
        flat, unravel = ravel_pytree(position.params)
        variance = jnp.sum(central_flow.covariance_diagonal(local, x))
        if position.second_moment is None:
            return Position(unravel(flat + dt * dw), None), variance
        nu = local.second_moment + dt * dnu
        return Position(unravel(flat + dt * dw), unravel(nu)), variance

    def preconditioner(self, position: Position, lr: Float[Array, ""]) -> tuple[Array, Array, Array]:
        """The diagonal p of P, its derivative in nu, and the rate c of nu. Where nu = 0 so is the gradient, and p is held."""
        table = self.smooth.table
        if position.second_moment is None or not isinstance(table, RmsProp):
            ones = jnp.ones_like(ravel_pytree(position.params)[0])
            return ones / lr, 0 * ones, jnp.zeros((), ones.dtype)
        root = jnp.sqrt(ravel_pytree(position.second_moment)[0])
        slope = jnp.where(root > 0, 1 / (2 * lr * jnp.where(root > 0, root, 1)), 0)
        return (root + table.eps) / lr, slope, jnp.full((), averaging_rate(table), root.dtype)


class FlowRunner(TrainRunner):
    """A flow: see `session.Runner` for what the session asks of it."""

    def __init__(self, spec: Flow) -> None:
        """Load the data, build the model, compile what moves the parameters.

        Raises:
            SpecError: If parts of the spec do not fit each other or the data.
            DataError: If the data cannot be read.
        """
        self._flow = spec.flow
        self._has_begun = False
        self._start: PyTree[Array] = ()
        self._is_warned: set[str] = set()
        # In the updates of training the sharpness can be followed on the way; here it is solved for, as often as it is asked for.
        super().__init__(replace(spec, measure=replace(spec.measure, solve_every=1)) if spec.measure.follows else spec)

    def measure(self, clock: Clock) -> Iterator[AnyRecord]:
        """Curvature and evaluation due at the present step; nothing when called again."""
        self._begin()
        for record in super().measure(clock):
            if isinstance(record, SharpnessRecord):
                value = record.value if record.preconditioned is UNSET else record.preconditioned
                self._set_stiffness(momentum_factor(self._spec.optimizer) * (value or 0.0))
            yield record

    def advance(self, clock: Clock) -> Iterator[AnyRecord]:
        """One chunk of steps, or a single one at the edge of a central flow."""
        if self.step < self._flow.from_step:
            yield from super().advance(clock)
        elif not isinstance(self._flow, CentralFlow):
            yield from self._along_smooth(clock, self._chunk_length())
        elif self._lr() * float(self._stiffness) < FOLLOWED:
            yield from self._along_smooth(clock, self._chunk_length(), num_critical=0)
        else:
            yield from self._near_edge(clock, self._flow)

    def state(self) -> PyTree[Array]:
        """What training has, and where the flow stands beside the parameters."""
        return super().state(), self._second_moment, self._error, self._stiffness, self._start

    def restore(self, state: PyTree[Array | np.ndarray], *, step: int, first_loss: float | None) -> None:
        """Go on from a state, at a step whose measurements are done."""
        training, *own = state
        super().restore(training, step=step, first_loss=first_loss)
        self._second_moment, self._error, self._stiffness, self._start = jax.tree.map(jnp.asarray, own)
        self._has_begun = step >= self._flow.from_step

    def _programs(self) -> Sequence[Program[Any]]:
        """What moves the parameters, compiling."""
        table = self._spec.optimizer
        flat = ravel_pytree(self._state.params)[0]
        self._second_moment = jax.tree.map(jnp.zeros_like, self._state.params) if isinstance(table, RmsProp) else None
        self._error = jnp.zeros((), flat.dtype)
        self._stiffness = jnp.zeros((), flat.dtype)
        smooth = Smooth(self._model, self._objective, self._optimizer, table)
        self._smooth = Program(smooth.run, *self._smooth_arguments(1), donate=(0,))
        programs: list[Program[Any]] = [self._smooth, *(super()._programs() if self._flow.from_step else ())]
        if isinstance(table, RmsProp):
            self._gradient = Program(self._full_gradient, self._state.params, self._x, self._y)
            programs.append(self._gradient)
        if isinstance(self._flow, CentralFlow):
            programs += self._edge_programs(AtEdge(smooth, Problem(self._model.apply, self._objective, self._curvature.chunk_size)))
        return programs

    def _edge_programs(self, at_edge: AtEdge) -> Sequence[Program[Any]]:
        assert isinstance(self._flow, CentralFlow)
        flat = ravel_pytree(self._state.params)[0]
        k, dt = min(self._flow.max_critical, flat.size), np.asarray(1 / self._flow.substeps, flat.dtype)
        accuracy = Accuracy(max(TOLERANCE, 10 * float(jnp.finfo(flat.dtype).eps)), self._spec.measure.max_hvps)
        further = self._second_moment, np.ones((), flat.dtype)
        self._meter = EigenMeter(at_edge.effective_hessian, self._state.params, *further, x=self._x, y=self._y, top_k=k, accuracy=accuracy)
        self._start = self._meter.start
        vectors = jax.ShapeDtypeStruct((k, flat.size), flat.dtype)
        arguments = self._position, vectors, np.int32(0), dt, self._x, self._y, np.int32(0)
        self._local = Program(at_edge.local, *arguments)
        local = jax.eval_shape(at_edge.local, *arguments)[1]
        self._moved = Program(at_edge.moved, self._position, local, jax.ShapeDtypeStruct((k, k), flat.dtype), dt)
        self._dt = dt
        return self._meter.program, self._local, self._moved

    @property
    def _position(self) -> Position:
        return Position(self._state.params, self._second_moment)

    def _move(self, position: Position) -> None:
        self._state, self._second_moment = self._state._replace(params=position.params), position.second_moment

    def _smooth_arguments(self, count: int) -> tuple[object, ...]:
        return self._position, self._error, self._stiffness, self._x, self._y, np.int32(self.step), np.int32(count)

    def _panels(self) -> tuple[Panel, ...]:
        return flow_panels(super()._panels(), is_central=isinstance(self._flow, CentralFlow))

    def _preconditioner(self) -> PyTree[Array] | None:
        if not self._has_begun or self._second_moment is None:
            return super()._preconditioner()
        table = self._spec.optimizer
        assert isinstance(table, RmsProp)
        return jax.tree.map(lambda nu: jnp.sqrt(nu) + table.eps, self._second_moment)

    def _full_gradient(self, params: Params, x: Inputs, y: Targets) -> Params:
        return loss_and_gradient(self._model, self._objective, params, x=x, y=y)[1]

    def _begin(self) -> None:
        """Take up the flow where the optimizer's own updates, if there are any, have led.

        The flow's nu at a step is the one that the optimizer's next update divides by: the last one with the present gradient in it.
        """
        if self._has_begun or self.step < self._flow.from_step:
            return
        self._has_begun = True
        table = self._spec.optimizer
        if isinstance(table, RmsProp):
            last = optax.tree_utils.tree_get(self._state.opt_state, "nu")
            gradient = self._gradient(self._state.params, self._x, self._y)
            self._second_moment = jax.tree.map(lambda nu, g: table.decay * nu + (1 - table.decay) * g**2, last, gradient)

    def _set_stiffness(self, value: float) -> None:
        self._stiffness = jnp.asarray(np.asarray(value, self._error.dtype))

    def _chunk_length(self) -> int:
        left = self._flow.from_step - self.step
        return min(super()._chunk_length(), left) if left > 0 else super()._chunk_length()

    def _along_smooth(self, clock: Clock, count: int, *, num_critical: int | None = None) -> Iterator[AnyRecord]:
        """Steps without a curvature at the edge; of a central flow with `num_critical` = 0."""
        began, wall = clock(), time.perf_counter()
        position, self._error, (update, errors, substeps) = self._smooth(*self._smooth_arguments(count))
        self._move(position)
        told = np.asarray(errors).tolist(), np.asarray(substeps).tolist()
        self._step_seconds = (time.perf_counter() - wall) / count
        first = self.step
        for record in self._recorded(update, count, began=began, seconds=(clock() - began) / count):
            assert isinstance(record, StepRecord)
            yield record
            turn = record.step - first
            central = {} if num_critical is None else _prediction(record, variance=0.0, trace=0.0, num_critical=0, residual=0.0)
            yield FlowRecord(step=record.step, time=record.time, num_substeps=told[1][turn], error=told[0][turn], **central)

    def _near_edge(self, clock: Clock, flow: CentralFlow) -> Iterator[AnyRecord]:
        """One step of a central flow, with the largest curvatures solved for at its beginning."""
        lr = self._lr()
        found, self._start = self._meter.measure(
            self._state.params, self._start, self._random(), self._second_moment, self._dt.dtype.type(lr)
        )
        self._set_stiffness(found.values[0] / lr)
        count = sum(value > CRITICAL for value in found.values)
        yield from self._warnings(clock, found.values, count=count)
        if not count:
            yield from self._along_smooth(clock, 1, num_critical=0)
            return
        began, wall = clock(), time.perf_counter()
        position, worst, rows = self._position, 0.0, []
        for _ in range(flow.substeps):
            update, local, constant, quadratic = self._local(
                position, found.vectors, np.int32(count), self._dt, self._x, self._y, np.int32(self.step)
            )
            solution = _solved(np.asarray(constant), np.asarray(quadratic), count=count)
            position, variance = self._moved(position, local, solution.x.astype(self._dt.dtype), self._dt)
            worst = max(worst, solution.residual)
            rows.append((update, float(variance), float(np.trace(solution.x))))
        self._move(position)
        self._step_seconds = time.perf_counter() - wall
        first, tr_sigma, tr_x = rows[0]
        for record in self._recorded(jax.tree.map(lambda number: np.asarray(number)[None], first), 1, began=began, seconds=clock() - began):
            assert isinstance(record, StepRecord)
            yield record
            central = _prediction(record, variance=tr_sigma, trace=tr_x, num_critical=count, residual=worst)
            yield FlowRecord(step=record.step, time=record.time, num_substeps=flow.substeps, **central)

    def _random(self) -> Key[Array, ""]:
        # By numpy, since jax would compile a program for it.
        bits = np.random.SeedSequence((self._spec.run.seed, self.step, STREAM)).generate_state(2)
        key: Key[Array, ""] = jax.random.wrap_key_data(jnp.asarray(bits))
        return key

    def _warnings(self, clock: Callable[[], float], values: Sequence[float], *, count: int) -> Iterator[EventRecord]:
        """What makes the flow doubtful, said once."""
        told = {}
        if values[0] > ABOVE:
            told["above"] = (
                f"The largest effective curvature is {values[0]:.3g}, and a central flow keeps it at {EDGE:g} or below: it is brought "
                "down at once. Set flow.from_step to a step at which the run has come below."
            )
        if count == len(values) < ravel_pytree(self._state.params)[0].size and count > 1:
            told["many"] = f"All {count} curvatures that are followed stand at the edge; another may cross it. Raise flow.max_critical."
        for name, message in told.items():
            if name not in self._is_warned:
                self._is_warned.add(name)
                yield EventRecord(step=self.step, time=clock(), event="warning", message=message)


def momentum_factor(table: OptimizerTable) -> float:
    """What a constant gradient is multiplied by, beside lr, in the updates after many: 1 / (1 - momentum), or 1."""
    return 1 / (1 - table.momentum) if isinstance(table, HeavyBall | Nesterov) else 1.0


def averaging_rate(table: RmsProp) -> float:
    """C of dnu/dt = c (g^2 - nu): nu(t) - nu(t-1) = (1 - decay) (g^2 - nu(t-1)) = c (g^2 - nu(t))."""
    return (1 - table.decay) / table.decay


def _solved(constant: Float[np.ndarray, "k k"], quadratic: Float[np.ndarray, "pairs pairs"], *, count: int) -> complementarity.Solution:
    """The solution for the first `count` directions, with zeros for the others."""
    size = count * (count + 1) // 2
    a, q = constant[:count, :count].astype(float), quadratic[:size, :size].astype(float)
    if not (np.isfinite(a).all() and np.isfinite(q).all()):
        return complementarity.Solution(np.zeros(constant.shape), math.nan)
    found = complementarity.solve(a, q)
    return found._replace(x=np.pad(found.x, (0, len(constant) - count)))


def _prediction(record: StepRecord, *, variance: float, trace: float, num_critical: int, residual: float) -> dict[str, Any]:
    """What a central flow predicts at a step, as fields."""
    loss = math.nan if record.loss is None else record.loss
    return {
        "num_critical": num_critical,
        "variance": variance,
        "averaged_loss": central_flow.averaged_loss(loss, trace),
        "complementarity": residual,
    }
