"""Training under measurement: the runner behind `runner = "train"`.

Updates run in one jitted loop between measurements, whose number of turns is an argument, so that it compiles once
whatever the intervals are, and a resumed run executes the very same program. (A `lax.scan` has its length in the
program: chunks of other lengths are other programs, with other roundings.)
"""

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped
from msgspec import UNSET

from runners import control_law, data, devices, environment, expected, kept_programs, models, objectives, optimizers, spec_file
from runners.control_law import resized
from runners.curvature import Curvature
from runners.data import Dataset
from runners.experiments import Descent
from runners.models import Model
from runners.objectives import Evaluation, Objective
from runners.optimizers import Factors, Optimizer
from runners.panels import train_panels
from runners.programs import Program
from runners.records import SCHEMA, AnyRecord, EventRecord, Header, MetricsRecord, NtkRecord, Panel, SharpnessRecord, StepRecord
from runners.run_folder import utc_now
from runners.sampling import batch_indices
from runners.session import Clock
from runners.spec import EdgeBatch, EdgeRate, OptimizerTable, Piecewise, Train

MAX_CHUNK_STEPS = 512
"""Length of the loop's output buffers."""
CHUNK_SECONDS = 0.2
"""A chunk aims at this, so that a stop or a pause is answered at once in human terms."""

Params: TypeAlias = PyTree[Float[Array, "..."]]
Inputs: TypeAlias = Shaped[Array, "examples *input"]
Targets: TypeAlias = Shaped[Array, "examples *target"]
Batch: TypeAlias = tuple[Shaped[Array, "batch *input"], Shaped[Array, "batch *target"]]


class Update(NamedTuple):
    """What one update yields for the log; in a chunk's result a buffer of `MAX_CHUNK_STEPS` of each."""

    loss: Float[Array, "*steps"]
    lr: Float[Array, "*steps"]
    grad_norm: Float[Array, "*steps"]
    accuracy: Float[Array, "*steps"] | None
    """None for real targets."""
    sharpness: tuple[Float[Array, "*steps"], Float[Array, "*steps"]] | None
    """Followed: Rayleigh quotient and residual; None where it is not."""


class State(NamedTuple):
    """What an update changes."""

    params: Params
    opt_state: optax.OptState
    followed: Float[Array, "two dim"] | None
    """Unit vectors near the top eigenvectors of the Hessian at even and at odd steps; None where the sharpness is not followed."""
    lr: Float[Array, ""] | None
    """Learning rate where feedback sets it; else None."""


def loss_and_gradient(
    model: Model, objective: Objective, params: Params, *, x: Inputs, y: Targets
) -> tuple[tuple[Float[Array, ""], Float[Array, ""] | None], Params]:
    """Loss of these examples, weight decay included, their accuracy (None for real targets), and the loss's gradient."""
    x, y, counted = devices.batch(x, y)

    def loss(params: Params) -> tuple[Float[Array, ""], Float[Array, ""] | None]:
        outputs = model.apply(params, x)
        losses = objective.example_losses(outputs, y)
        return jnp.mean(losses, where=counted) + objective.penalty(params), objective.accuracy(outputs, y, counted)

    found: tuple[tuple[Array, Array | None], Params] = jax.value_and_grad(loss, has_aux=True)(params)
    return found


class Loop(NamedTuple):
    """The updates of a run as one program.

    Where `followed` is given to it, an update differentiates its gradient along one of two unit vectors v as well, by turns: that is a
    Hessian-vector product H v for 1.2 gradients, and v^T H v a lower bound of the sharpness. H v / |H v| is the vector two updates on.
    By turns, since at the edge the parameters jump from one side of the valley to the other, and a side's top eigenvector is
    nearer to the one that it had than to the other side's.
    """

    model: Model
    objective: Objective
    optimizer: Optimizer
    table: OptimizerTable

    def run(
        self, state: State, x: Inputs, y: Targets, key: Key[Array, ""], first: Int[Array, ""], count: Int[Array, ""]
    ) -> tuple[State, Update]:
        """Apply `count` updates, the first at step `first`; the buffers mean nothing from place `count` on."""

        def turn(index: Int[Array, ""], carry: tuple[State, Update]) -> tuple[State, Update]:
            state, buffers = carry
            state, update = self._update(state, *self._batch(x, y, key, first + index), first + index)
            if self.optimizer.shake is not None:
                state = state._replace(params=self.optimizer.shake(state.params, key, first + index))
            return state, jax.tree.map(lambda buffer, value: buffer.at[index].set(value), buffers, update)

        shapes = jax.eval_shape(self._update, state, *self._batch(x, y, key, first), first)[1]
        buffers = jax.tree.map(lambda shape: jnp.zeros(MAX_CHUNK_STEPS, shape.dtype), shapes)
        result: tuple[State, Update] = jax.lax.fori_loop(0, count, turn, (state, buffers))
        return result

    def _batch(self, x: Inputs, y: Targets, key: Key[Array, ""], step: Int[Array, ""]) -> Batch:
        batch_size = self.table.drawn
        if batch_size == "full":
            return x, y
        indices = batch_indices(key, step, num_examples=len(x), batch_size=batch_size, sampling=self.table.sampling)
        return x[indices], y[indices]

    def _update(self, state: State, x: Inputs, y: Targets, step: Int[Array, ""]) -> tuple[State, Update]:
        params, followed = state.params, state.followed

        def gradient_and_value(params: Params) -> tuple[Params, tuple[Float[Array, ""], Float[Array, ""] | None]]:
            value, gradient = loss_and_gradient(self.model, self.objective, params, x=x, y=y)
            return gradient, value

        sharpness = None
        if followed is None:
            gradient, (value, accuracy) = gradient_and_value(params)
        else:
            vector = followed[step % 2]
            tangent = ravel_pytree(params)[1](vector)
            gradient, image, (value, accuracy) = jax.jvp(gradient_and_value, (params,), (tangent,), has_aux=True)
            image = ravel_pytree(image)[0]
            quotient, norm = jnp.vdot(vector, image), jnp.linalg.norm(image)
            sharpness = quotient, jnp.linalg.norm(image - quotient * vector)
            followed = followed.at[step % 2].set(jnp.where(norm > 0, image / norm, vector))
        lr = self.optimizer.lr(step) if state.lr is None else state.lr
        update = Update(value, lr, optax.tree.norm(gradient), accuracy, sharpness)
        plain = gradient
        if self.objective.transform != "none":
            slope = objectives.slope(value, transform=self.objective.transform, minimum=self.objective.minimum)
            gradient = jax.tree.map(lambda leaf: slope * leaf, gradient)
        if self.optimizer.perturb is not None:
            gradient, _ = gradient_and_value(self.optimizer.perturb(params, gradient))
        change, opt_state = self.optimizer.transformation.update(gradient, state.opt_state, params)
        if state.lr is not None:
            change = optax.tree.scale(state.lr, change)
        if self.table.warm_steps:
            is_warm = step < self.table.warm_steps
            change = jax.tree.map(lambda own, slope: jnp.where(is_warm, -lr.astype(slope.dtype) * slope, own), change, plain)
        return State(optax.apply_updates(params, change), opt_state, followed, state.lr), update


class DescentRunner:
    """Updates of a model's parameters under measurement: see `session.Runner` for what the session asks of it."""

    def __init__(self, spec: Descent, *, data: Dataset, model: Model, fresh: bool = False) -> None:
        """Compile the updates and the measurements.

        Args:
            spec: What is asked for.
            data: Its examples.
            model: What is trained, where it starts.
            fresh: Whether the run begins now, and does not go on from a checkpoint.

        Raises:
            SpecError: If parts of the spec do not fit each other or the data.
        """
        run = spec.run
        self.step = 0
        self.steps = run.steps
        self.checkpoint_every = run.checkpoint_every
        self.first_loss: float | None = None
        self.diverged: str | None = None
        self._spec = spec
        self._data = data
        self._model = model
        self._objective = objectives.build(spec.objective, self._data)
        self._factors = _factors(self._model)
        self._optimizer = optimizers.build(spec.optimizer, self._model.params, self._factors)
        self._described = self._model.described()
        params = self._model.params
        followed = jnp.zeros((2, self._model.num_params), run.precision) if spec.measure.follows else None
        lr = jnp.asarray(spec.optimizer.lr.initial, run.precision) if isinstance(spec.optimizer.lr, EdgeRate) else None
        self._state = State(params, jax.jit(self._optimizer.transformation.init)(params), followed, lr)
        self._table = resized(spec.optimizer, spec.optimizer.drawn)
        self._x, self._y = devices.copied((self._data.x, self._data.y))
        self._order_key = jax.random.key(_seed(run.order_seed, run.seed))
        self._warm_steps = spec.optimizer.warm_steps
        self._jumps = _jumps(spec)
        self._expected = _expected(spec, data, params)
        with kept_programs.known_by(spec, data.description):
            self._curvature = Curvature(
                spec,
                self._model,
                objective=self._objective,
                x=self._x,
                y=self._y,
                preconditioned=self._optimizer.uses_preconditioner,
                fresh=fresh,
            )
            programs = (*self._curvature.programs, *self._programs())
        for program in programs:
            program.wait()
        self._step_seconds = 0.0
        self._measured_step: int | None = None

    def header(self, run: str) -> Header:
        """The log's first line."""
        described = self._data.description
        batch_size = self._table.drawn
        formula = self._curvature.formula
        return Header(
            step=0,
            time=0.0,
            schema=SCHEMA,
            run=run,
            runner=str(self._spec.__struct_config__.tag),
            created=utc_now(),
            steps=self.steps,
            spec=msgspec.to_builtins(self._spec),
            panels=self._panels(),
            versions=environment.versions(),
            git=environment.git(),
            device=environment.device(),
            host=platform.node(),
            pid=os.getpid(),
            precision=self._spec.run.precision,
            num_params=self._model.num_params,
            num_examples=described.num_train,
            num_measured=self._curvature.num_examples,
            chunk_size=min(self._curvature.chunk_size, self._curvature.num_examples),
            measure_bytes=max((program.temporary_bytes or 0 for program in self._curvature.programs), default=0) or UNSET,
            batch_size=described.num_train if batch_size == "full" else batch_size,
            data=described,
            loss_convention=self._objective.convention,
            threshold_formula=formula,
            parameters=self._described or UNSET,
        )

    def measure(self, clock: Clock) -> Iterator[AnyRecord]:
        """Curvature and evaluation due at the present step; nothing when called again."""
        if self.diverged or self._measured_step == self.step:
            return
        self._measured_step = self.step
        yield from self._switched(clock)
        lr = self._lr()

        def velocity() -> PyTree[Array] | None:
            return self._optimizer.velocity(self._state.opt_state)

        if self._state.followed is not None and self.step:
            start = self._curvature.state["sharpness"]
            self._curvature.state["sharpness"] = start._replace(vectors=start.vectors.at[0].set(self._state.followed[self.step % 2]))
        standing: dict[str, float] = {}
        for record in self._curvature.measure(
            self._state.params, self._preconditioner, lr=lr, step=self.step, clock=clock, is_due=self._is_due, velocity=velocity
        ):
            yield record
            standing |= _standing(record)
        yield from self._controlled(standing, lr=lr, clock=clock)
        if self._state.followed is not None and self._curvature.top is not None:
            self._state = self._state._replace(followed=jnp.tile(self._curvature.top.vectors[0], (2, 1)))
        values: dict[str, float | None] = {}
        if self.step == self.steps or (self._has_minibatches and any(map(self._is_due, self._curvature.intervals))):
            values["measured_loss"] = self._measured_loss()
            if self._expected is not None:
                values["expected_loss"] = self._expected(self.step)
        if self._is_due(self._spec.measure.evaluate_every):
            values |= self._evaluation()
        if values:
            yield MetricsRecord(step=self.step, time=clock(), values=values)

    def advance(self, clock: Clock) -> Iterator[AnyRecord]:
        """One chunk of updates, at most to the next measurement or checkpoint; a record for each."""
        count = self._chunk_length()
        began, wall = clock(), time.perf_counter()
        self._state, buffers = self._chunk(*self._arguments(count))
        jax.block_until_ready(buffers)
        self._step_seconds = (time.perf_counter() - wall) / count
        yield from self._recorded(buffers, count, began=began, seconds=(clock() - began) / count)

    def state(self) -> PyTree[Array]:
        """Parameters, the optimizer's state, and what the next measurement starts from."""
        size = jnp.int32(0 if self._table.drawn == "full" else self._table.drawn)
        return self._state, self._curvature.state, size

    def restore(self, state: PyTree[Array | np.ndarray], *, step: int, first_loss: float | None) -> None:
        """Go on from a state, at a step whose measurements are done."""
        *arrays, size = state
        self._state, self._curvature.state = jax.tree.map(jnp.asarray, tuple(arrays))
        if size and size != self._table.drawn:
            self._resize(int(size))
        self.step, self.first_loss, self._measured_step = step, first_loss, step

    def _programs(self) -> Sequence[Program[Any]]:
        """What applies the updates, compiling."""
        self._chunk = self._compiled()
        return (self._chunk,)

    def _panels(self) -> tuple[Panel, ...]:
        return train_panels(
            self._spec,
            formula=self._curvature.formula,
            preconditioned=self._optimizer.uses_preconditioner,
            per_output=self._curvature.is_per_output,
            has_test=self._data.description.num_test > 0,
            layers=list(self._model.params),
            modules=self._modules(),
            num_params=self._model.num_params,
        )

    def _modules(self) -> list[str]:
        """What has outputs of its own in the model, where that is looked at."""
        if self._model.layers is None or not self._spec.measure.activations_every:
            return []
        return list(jax.eval_shape(self._model.layers, self._state.params, self._x[:2]))

    def _lr(self) -> float:
        """Learning rate of the update at the present step."""
        return _numbers(np.asarray([self._optimizer.lr(self.step) if self._state.lr is None else self._state.lr]))[0]

    def _switched(self, clock: Clock) -> Iterator[AnyRecord]:
        """An event where the warm start is over, and where the learning rate jumps."""
        if self._warm_steps and self.step == self._warm_steps:
            message = f"The warm start by gradient descent is over after {self.step:,} steps."
            yield EventRecord(step=self.step, time=clock(), event="warm_start_over", message=message)
        if self.step in self._jumps:
            before, after = _numbers(np.asarray([self._optimizer.lr(self.step - 1), self._optimizer.lr(self.step)]))
            message = f"The learning rate went from {before:g} to {after:g}."
            yield EventRecord(step=self.step, time=clock(), event="lr_changed", message=message, data={"from": before, "to": after})

    def _preconditioner(self) -> PyTree[Array] | None:
        return self._optimizer.preconditioner(self._state.opt_state, self.step)

    def _recorded(
        self, update: Update, count: int, *, began: float, seconds: float, stride: int = 1
    ) -> Iterator[StepRecord | SharpnessRecord]:
        """The records of a chunk's updates, with the step counted on by `stride` behind each; up to one that shows divergence."""
        losses, rates, norms = (_numbers(np.asarray(buffer)[:count]) for buffer in update[:3])
        accuracies = None if update.accuracy is None else _numbers(np.asarray(update.accuracy)[:count])
        followed = [] if update.sharpness is None else [_numbers(np.asarray(buffer)[:count]) for buffer in update.sharpness]
        drawn = self._table.drawn
        batch_size = drawn if isinstance(self._spec.optimizer.batch_size, EdgeBatch) and drawn != "full" else UNSET
        for turn in range(count):
            time_ = began + turn * seconds
            if followed and not self._curvature.solves(self._is_due):
                value, residual = followed[0][turn], followed[1][turn]
                place = {"loss": losses[turn], "grad_norm": norms[turn]}
                yield self._curvature.followed(value, residual, lr=rates[turn], **place, step=self.step, time=time_)
            yield StepRecord(
                step=self.step,
                time=time_,
                loss=losses[turn],
                lr=rates[turn],
                grad_norm=norms[turn],
                accuracy=UNSET if accuracies is None else accuracies[turn],
                batch_size=batch_size,
            )
            self._judge(losses[turn])
            if self.diverged:
                return
            self.step += stride

    def _compiled(self) -> Program[tuple[State, Update]]:
        loop = Loop(self._model, self._objective, self._optimizer, self._table)
        return Program(loop.run, *self._arguments(1), donate=(0,))

    def _controlled(self, standing: Mapping[str, float], *, lr: float, clock: Clock) -> Iterator[EventRecord]:
        """Let what was measured set learning rate and batch size of the updates that follow; an event where the batch size changes."""
        rate, batch = self._spec.optimizer.lr, self._spec.optimizer.batch_size
        if isinstance(rate, EdgeRate) and (ratio := control_law.followed(rate, standing)) is not None:
            self._state = self._state._replace(lr=jnp.asarray(control_law.next_lr(rate, lr, ratio), self._spec.run.precision))
        if isinstance(batch, EdgeBatch) and "noise_kernel" in standing:
            kernel, before = standing["noise_kernel"], self._table.drawn
            size = control_law.next_batch_size(batch, self._table, kernel, num_examples=len(self._x))
            if size != before:
                self._resize(size)
                message = f"The batch size grew from {before} to {size}: K was {kernel:.3g}, its target {batch.target:g}."
                yield EventRecord(step=self.step, time=clock(), event="batch_size", message=message, data={"from": before, "to": size})

    def _resize(self, batch_size: int) -> None:
        """Draw batches of another size from now on; another program, which is compiled here."""
        self._table = self._curvature.optimizer = resized(self._spec.optimizer, batch_size)
        self._chunk = self._compiled()

    def _arguments(self, count: int) -> tuple[object, ...]:
        return self._state, self._x, self._y, self._order_key, np.int32(self.step), np.int32(count)

    @property
    def _has_minibatches(self) -> bool:
        return self._table.drawn != "full"

    def _measured_loss(self) -> float:
        """The objective, weight decay included, on the measured examples; judges the last parameters as well."""
        size = self._curvature.num_examples
        penalty = float(self._objective.penalty(self._state.params))
        loss = self._evaluated(self._x[:size], self._y[:size]).loss + penalty
        self._judge(loss)
        return loss

    def _evaluation(self) -> dict[str, float]:
        """Loss, without weight decay, and accuracy on all training and all test examples."""
        results = {"train": self._evaluated(self._x, self._y)}
        if len(self._data.x_test):
            results["test"] = self._evaluated(self._data.x_test, self._data.y_test)
        losses = {f"{name}_loss": result.loss for name, result in results.items()}
        return losses | {f"{name}_accuracy": result.accuracy for name, result in results.items() if result.accuracy is not None}

    def _evaluated(self, x: Inputs | np.ndarray, y: Targets | np.ndarray) -> Evaluation:
        chunk_size = self._curvature.chunk_size
        return objectives.evaluate(self._objective, self._model.apply, params=self._state.params, x=x, y=y, chunk_size=chunk_size)

    def _is_due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.step == self.steps)

    @property
    def _intervals(self) -> tuple[int, ...]:
        """Steps from one measurement to the next, of each kind; 0 for never."""
        return *self._curvature.intervals, self._spec.measure.evaluate_every

    def _chunk_length(self) -> int:
        """Updates to the next boundary, or as many as fit the time and the buffers of a chunk."""
        in_time = int(CHUNK_SECONDS / self._step_seconds) if self._step_seconds else 1
        return max(1, min(self._boundary() - self.step, in_time, MAX_CHUNK_STEPS))

    def _boundary(self) -> int:
        """The next step at which something but updates is to be done."""
        intervals = (*self._intervals, self.checkpoint_every)
        switches = [step for step in (self._warm_steps, *self._jumps) if self.step < step]
        return min([self.steps, *switches, *(self.step - self.step % every + every for every in intervals if every)])

    def _judge(self, loss: float) -> None:
        """Declare the run diverged if this loss says so."""
        if self.first_loss is None and math.isfinite(loss):
            self.first_loss = loss
        if self._objective.transform == "sqrt" and loss < self._objective.minimum:
            self.diverged = (
                f"The loss became {loss:g} at step {self.step}, below objective.minimum = {self._objective.minimum:g}: "
                "the root of what it exceeds that by does not exist. Lower objective.minimum."
            )
            return
        bound = self._spec.run.divergence_factor * max(1.0, self.first_loss or 0.0)
        if loss <= bound:
            return
        between = f"between steps {self.step - 1} and {self.step}" if self.step else "at step 0"
        what = f"{loss:g}, above {bound:g}" if math.isfinite(loss) else f"{loss}"
        key = "optimizer.warm_start.lr" if self.step - 1 < self._warm_steps else "optimizer.lr"
        self.diverged = f"The loss became {what}, {between}{self._curvature.last_words}. Lower {key}."


class TrainRunner(DescentRunner):
    """A training run."""

    def __init__(self, spec: Train, *, fresh: bool = False) -> None:
        """Load the data, build the model, compile the updates.

        Args:
            spec: What is asked for.
            fresh: As for `DescentRunner`.

        Raises:
            SpecError: If parts of the spec do not fit each other or the data.
            DataError: If the data cannot be read.
        """
        run = spec.run
        loaded = data.load(spec.data, seed=_seed(run.data_seed, run.seed), precision=run.precision)
        spec_file.check_sizes(spec, loaded.description.num_train)
        model = models.build(
            spec.model,
            optimizer=spec.optimizer,
            input_shape=loaded.description.input_shape,
            num_outputs=loaded.description.num_outputs,
            seed=_seed(run.init_seed, run.seed),
            dtype=run.precision,
            input_dtype=str(loaded.x.dtype),
        )
        super().__init__(spec, data=loaded, model=model, fresh=fresh)


def _standing(record: AnyRecord) -> dict[str, float]:
    """What a record says that feedback may follow, and how near its edge that is; nothing where it is not sure."""
    match record:
        case SharpnessRecord(converged=True, ratio=float() as ratio) if not math.isnan(ratio):
            return {"sharpness": ratio}
        case NtkRecord(noise_kernel=float() as ratio) if not math.isnan(ratio):
            return {"noise_kernel": ratio}
        case _:
            return {}


def _expected(spec: Descent, found: Dataset, params: Params) -> Callable[[int], float] | None:
    """The expected loss of a run that is least squares; None of any other."""
    if not isinstance(spec, Train) or not expected.is_least_squares(spec):
        return None
    outputs = found.description.num_outputs
    targets = np.eye(outputs)[found.y] if found.description.task == "classification" else np.asarray(found.y, np.float64)
    [layer] = params.values()
    kernel, bias = (np.asarray(layer[name], np.float64) if name in layer else None for name in ("kernel", "bias"))
    assert kernel is not None
    return expected.expected_loss(spec, x=np.asarray(found.x), targets=targets.reshape(-1, outputs), kernel=kernel, bias=bias)


def _jumps(spec: Descent) -> frozenset[int]:
    """The steps at which a learning rate that is constant in pieces becomes another one."""
    rate = spec.optimizer.lr
    return frozenset(step + spec.optimizer.warm_steps for step in rate.boundaries) if isinstance(rate, Piecewise) else frozenset()


def _factors(model: Model) -> Factors | None:
    """Of the learning rates, where they differ by parameter."""
    is_one = all(leaf.lr == leaf.eps == 1.0 for leaf in model.leaves.values())
    return None if is_one else Factors(model.factors("lr"), model.factors("eps"))


def _seed(own: int | None, common: int) -> int:
    return common if own is None else own


def _numbers(array: Float[np.ndarray, " numbers"]) -> list[float]:
    """Python floats; of a float32 the shortest that rounds to it, so that the log says 0.3 and not 0.30000001192092896."""
    return [float(str(value)) for value in array]
