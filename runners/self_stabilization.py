"""Gradient descent at the edge of stability beside what self-stabilisation predicts of it: `runner = "flow"` of that kind.

The run's own updates are made as in training. From the step on at which they stand at the edge, the constrained trajectory and the
predicted displacement from it move along, step by step: derivatives on the device, what to do next on the host.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree
from msgspec import UNSET
from msgspec.structs import replace

from runners.experiments import Flow
from runners.measure import operators
from runners.measure.eigenvalues import Accuracy, EigenMeter
from runners.measure.krylov import Product, Start
from runners.measure.operators import Problem
from runners.panels import self_stabilization_panels
from runners.programs import Program
from runners.records import AnyRecord, EventRecord, Panel, PredictionRecord, SharpnessRecord, StepRecord
from runners.session import Clock
from runners.theory import self_stabilization
from runners.theory.self_stabilization import Correction, Displacement, Local, Predicted
from runners.train import Inputs, Params, Targets, TrainRunner

TOLERANCE = 1e-10
"""Relative error asked of the largest eigenvalue of the constrained trajectory, in float64: it goes with the square of the error in u."""
NEAR = 1e-6
"""The constrained trajectory is on M when Newton's step is so short, in units of the length over which S changes by 2/lr."""
ROUNDINGS = 100
"""And no shorter than so many rounding errors."""
MAX_NEWTON_STEPS = 20
"""Two to four do."""
STREAM = 2_000_000
"""Tells this module's random numbers from those of the measurements."""


class Stage(IntEnum):
    """How far a prediction is."""

    WAITING = 0
    """For the run to stand at its edge."""
    PREDICTING = 1
    ENDED = 2


class Constrained(NamedTuple):
    """A point of the constrained trajectory."""

    params: Float[Array, " dim"]
    local: Local
    start: Start
    """What the next eigenvalues start from."""


class Programs(NamedTuple):
    """What is compiled for a step of the prediction."""

    problem: Problem
    lr: float

    def hessian(self, params: Params, x: Inputs, y: Targets) -> Product:
        """The product with the Hessian of the whole loss."""
        return operators.hessian(self.problem, params, x=x, y=y)[1]

    @operators.full_precision
    def corrected(
        self,
        params: Params,
        vector: Float[Array, " dim"],
        before: Float[Array, " dim"],
        multiplier: Float[Array, ""],
        x: Inputs,
        y: Targets,
    ) -> tuple[Local, Correction]:
        """What is known at a point, and Newton's next step from there.

        Args:
            params: The point.
            vector: u, of either sign.
            before: u at the last point: it decides the sign.
            multiplier: See `self_stabilization.corrected`.
            x: All training inputs.
            y: Their labels or targets.

        Cost: A gradient, and four for the slope.
        """
        loss, gradient = operators.loss_and_gradient(self.problem, params, x=x, y=y)
        u = jnp.where(jnp.vdot(vector, before) < 0, -vector, vector)
        sharpness, slope = operators.curvature_gradient(self.problem, params, x=x, y=y, u=u, v=u)
        local = Local(loss, gradient, sharpness, u, slope)
        return local, self_stabilization.corrected(local, threshold=2 / self.lr, multiplier=multiplier)

    @operators.full_precision
    def predicted(
        self, params: Params, at: Displacement, constrained: Params, local: Local, x: Inputs, y: Targets
    ) -> tuple[Predicted, Displacement, Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]], Float[Array, " dim"]]:
        """What is predicted, the displacement as it is, how far the two are apart, alpha and beta, and H w.

        Cost: A Hessian-vector product.
        """
        product = self.hessian(constrained, x, y)(at.across)
        actual = self_stabilization.split(ravel_pytree(params)[0] - ravel_pytree(constrained)[0], local.vector)
        apart = jnp.hypot(actual.along - at.along, jnp.linalg.norm(actual.across - at.across))
        found = self_stabilization.predicted(at, local, product=product)
        return found, actual, apart, self_stabilization.coefficients(local), product

    @operators.full_precision
    def advanced(
        self, at: Displacement, local: Local, product: Float[Array, " dim"], added: Float[Array, " dim"], vector: Float[Array, " dim"]
    ) -> Displacement:
        """The predicted displacement after a step: see `self_stabilization.advance`."""
        return self_stabilization.advance(at, local, product=product, added=added, vector=vector, lr=self.lr)


class SelfStabilizationRunner(TrainRunner):
    """Gradient descent and its prediction: see `session.Runner` for what the session asks of it."""

    def __init__(self, spec: Flow) -> None:
        """Load the data, build the model, compile.

        Raises:
            SpecError: If parts of the spec do not fit each other or the data.
            DataError: If the data cannot be read.
        """
        self._flow = spec.flow
        self._stage = Stage.WAITING
        # The second eigenvalue says when the theory, which is of one, ends. What is followed is not solved for.
        measure = replace(spec.measure, solve_every=1, top_k=max(2, spec.measure.top_k))
        super().__init__(replace(spec, measure=measure))

    def measure(self, clock: Clock) -> Iterator[AnyRecord]:
        """Curvature and evaluation due at the present step, none before the range that is asked for; nothing when called again."""
        if self._measured_step == self.step:
            return
        for record in super().measure(clock):
            yield record
            if isinstance(record, SharpnessRecord) and self.step >= self._flow.from_step and self.step < self.steps:
                yield from self._judged(record, clock)
        if self.step == self.steps and self._stage == Stage.WAITING and not self.diverged:
            message = f"The prediction did not begin: no sharpness from step {self._flow.from_step} on was at 2/lr = {self._threshold:g}."
            yield self._event(f"{message} Ask for later steps.", clock)

    def advance(self, clock: Clock) -> Iterator[AnyRecord]:
        """One chunk of updates, or a single one while it is predicted."""
        if self._stage != Stage.PREDICTING:
            yield from super().advance(clock)
            return
        predicted, product = self._predicted()
        for record in super().advance(clock):
            yield record
            if isinstance(record, StepRecord):
                yield replace(predicted, step=record.step, time=record.time)
        if not self.diverged:
            yield from self._moved(product, clock)

    def state(self) -> PyTree[Array]:
        """What training has, and where the prediction stands."""
        return super().state(), jnp.int32(self._stage), self._constrained, self._displacement

    def restore(self, state: PyTree[Array | np.ndarray], *, step: int, first_loss: float | None) -> None:
        """Go on from a state, at a step whose measurements are done."""
        training, stage, *own = state
        super().restore(training, step=step, first_loss=first_loss)
        self._stage = Stage(int(stage))
        self._constrained, self._displacement = jax.tree.map(jnp.asarray, own)

    def _programs(self) -> Sequence[Program[Any]]:
        """What updates the parameters, and what predicts, compiling."""
        lr = self._spec.optimizer.lr
        assert isinstance(lr, float | int)
        self._threshold = 2 / lr
        params = self._state.params
        flat, self._unravel = ravel_pytree(params)
        programs = Programs(Problem(self._model.apply, self._objective, self._curvature.chunk_size), lr)
        epsilon = float(jnp.finfo(flat.dtype).eps)
        self._near = max(NEAR, ROUNDINGS * epsilon)
        accuracy = Accuracy(max(TOLERANCE, 10 * epsilon), self._spec.measure.max_hvps)
        self._meter = EigenMeter(programs.hessian, params, x=self._x, y=self._y, top_k=2, accuracy=accuracy)
        # By NumPy, since jnp.zeros would be a program for each.
        nothing, none = (jnp.asarray(np.zeros(shape, flat.dtype)) for shape in (flat.shape, ()))
        local = Local(none, nothing, none, nothing, nothing)
        self._displacement = Displacement(none, nothing)
        self._constrained = Constrained(nothing, local, self._meter.start)
        self._corrected = Program(programs.corrected, params, nothing, nothing, none, self._x, self._y)
        self._prediction = Program(programs.predicted, params, self._displacement, params, local, self._x, self._y)
        self._advanced = Program(programs.advanced, self._displacement, local, nothing, nothing, nothing)
        return *super()._programs(), self._meter.program, self._corrected, self._prediction, self._advanced

    def _panels(self) -> tuple[Panel, ...]:
        return self_stabilization_panels(super()._panels())

    def _is_due(self, every: int) -> bool:
        return self.step >= self._flow.from_step and super()._is_due(every)

    def _chunk_length(self) -> int:
        if self._stage == Stage.PREDICTING:
            return 1
        left = self._flow.from_step - self.step
        return min(super()._chunk_length(), left) if left > 0 else super()._chunk_length()

    def _judged(self, record: SharpnessRecord, clock: Clock) -> Iterator[EventRecord]:
        """Whether the prediction begins, goes on or ends, as the sharpness says."""
        value, second, *_ = (value if value is not None else np.nan for value in (record.values or ()))
        if self._stage == Stage.ENDED or not value >= self._threshold:
            return
        if second >= self._threshold:
            verb = "does not begin" if self._stage == Stage.WAITING else "ends"
            self._stage = Stage.ENDED
            message = f"The prediction {verb}: a second eigenvalue, {second:.4g}, is above 2/lr = {self._threshold:.4g}"
            yield self._event(f"{message}, and the theory is of one.", clock)
        elif self._stage == Stage.WAITING:
            yield from self._begun(clock)

    def _begun(self, clock: Clock) -> Iterator[EventRecord]:
        """Begin at the nearest point of M, if the sharpness there is at its limit."""
        params = ravel_pytree(self._state.params)[0]
        found = self._projected(params, self._constrained)
        if isinstance(found, str):
            self._stage = Stage.ENDED
            yield self._event(f"The prediction does not begin: {found}", clock)
        elif found.local.sharpness > (1 - self._near) * self._threshold:
            self._stage = Stage.PREDICTING
            self._constrained = found
            self._displacement = self_stabilization.split(params - found.params, found.local.vector)

    def _predicted(self) -> tuple[PredictionRecord, Array]:
        """The record of the present step, whose place and time are to come, and H w."""
        constrained = self._constrained
        predicted, actual, apart, (alpha, beta), product = self._prediction(
            self._state.params, self._displacement, self._unravel(constrained.params), constrained.local, self._x, self._y
        )
        numbers = float(alpha), float(beta)
        is_driven = numbers[0] > 0 and numbers[1] > 0
        record = PredictionRecord(
            step=self.step,
            time=0.0,
            loss=float(predicted.loss),
            sharpness=float(predicted.sharpness),
            oscillation=abs(float(self._displacement.along)),
            actual_oscillation=abs(float(actual.along)),
            distance=float(predicted.distance),
            actual_distance=float(jnp.hypot(actual.along, jnp.linalg.norm(actual.across))),
            error=float(apart),
            constrained_loss=float(constrained.local.loss),
            constrained_sharpness=float(constrained.local.sharpness),
            alpha=numbers[0],
            beta=numbers[1],
            equilibrium=self_stabilization.equilibrium(*numbers) if is_driven else UNSET,
            period=self_stabilization.period(numbers[0], 2 / self._threshold) if is_driven else UNSET,
        )
        return record, product

    def _moved(self, product: Array, clock: Clock) -> Iterator[EventRecord]:
        """The constrained trajectory and the predicted displacement, a step on."""
        before = self._constrained
        stepped = before.params - before.local.gradient * np.asarray(2 / self._threshold, before.params.dtype)
        found = self._projected(stepped, before)
        if isinstance(found, str):
            self._stage = Stage.ENDED
            yield self._event(f"The prediction ends: {found}", clock)
            return
        self._constrained = found
        self._displacement = self._advanced(self._displacement, before.local, product, stepped - found.params, found.local.vector)
        if not np.isfinite(self._displacement.along):
            self._stage = Stage.ENDED
            yield self._event("The prediction ends: what it predicts is not finite.", clock)

    def _projected(self, params: Float[Array, " dim"], before: Constrained) -> Constrained | str:
        """The nearest point of M, or why there is none."""
        start, vector = before.start, before.local.vector
        multiplier = jnp.zeros((), params.dtype)
        for turn in range(MAX_NEWTON_STEPS):
            tree = self._unravel(params)
            found, start = self._meter.measure(tree, start, self._random(turn))
            local, correction = self._corrected(tree, found.vectors[0], vector, multiplier, self._x, self._y)
            if correction.distance <= self._near:
                return Constrained(params, local, start)
            params, vector, multiplier = params + correction.change, local.vector, correction.multiplier
        return f"Newton's method did not come back to sharpness <= 2/lr in {MAX_NEWTON_STEPS} steps."

    def _random(self, turn: int) -> Key[Array, ""]:
        # By numpy, since jax would compile a program for it.
        bits = np.random.SeedSequence((self._spec.run.seed, self.step, turn, STREAM)).generate_state(2)
        key: Key[Array, ""] = jax.random.wrap_key_data(jnp.asarray(bits))
        return key

    def _event(self, message: str, clock: Clock) -> EventRecord:
        return EventRecord(step=self.step, time=clock(), event="prediction", message=message)
