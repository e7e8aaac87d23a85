"""The curvature of a training run as records: each quantity with its error, its threshold, and how far it is from it.

Called by `train`; joins the meters, which know nothing of optimizers, with the thresholds, which know nothing of models.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree, Shaped
from msgspec import UNSET
from msgspec.structs import replace

from runners import thresholds
from runners.experiments import Descent
from runners.gauges import gauges
from runners.gauges.gauge import At, Setting, told
from runners.measure import noise_kernel, operators, sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter, Eigenvalues, Operator
from runners.measure.noise_kernel import Noise
from runners.measure.ntk import Ntk, NtkMeter
from runners.measure.operators import Problem
from runners.models import Model
from runners.objectives import Objective
from runners.programs import Program
from runners.records import AnyMeasurement, EventRecord, NtkRecord, SharpnessRecord
from runners.spec import Optimizer

STREAMS = ("sharpness", "preconditioned", "ntk", "smallest", "verification", *(gauge.name for gauge in gauges.GAUGES))
"""Which stream of random numbers a measurement draws from, by its place here: append, never reorder."""
UNFOLLOWED = 0.5
"""Below this share of its square along the eigenvectors followed so far, the top eigenvector is a new one. On digits, measured
every 10 steps, the share was above 0.6 in 135 of 139 measurements and below 0.35 in the others."""
PRECONDITIONED_NTK = "preconditioned_ntk"
"""Where the state keeps what the preconditioned NTK's next measurement starts from. Its random numbers are those of the NTK's."""
UNCONVERGED = "unconverged"
"""Where the state keeps whether the last sharpness was one that did not converge: of several in a row only the first is told."""
FOLLOWED = "Rayleigh quotient in the update, from a power step two updates before; a lower bound"
"""Method of a sharpness that was followed."""
NTK_EIGENVALUES = 5
"""Eigenvalues of G that enter K when none are asked for."""


class Curvature:
    """Measures a training run's curvature on its measured examples."""

    def __init__(
        self,
        spec: Descent,
        model: Model,
        *,
        objective: Objective,
        x: Shaped[Array, "examples *input"],
        y: Shaped[Array, "examples *target"],
        preconditioned: bool,
        fresh: bool = False,
    ) -> None:
        """Compile what the spec asks for.

        Args:
            spec: The run's spec.
            model: What is trained.
            objective: Its loss.
            x: All training inputs.
            y: Their labels or targets.
            preconditioned: Whether the optimizer's edge, and its K, are of the preconditioned curvature.
            fresh: Whether the first measurements are those of step 0 at the model's own parameters, so that they can begin
                while the rest is traced: it hides 0.2 to 0.4 of 4 s to the first step of `digits-sgd`.
        """
        measure = spec.measure
        self._spec = spec
        self._measure = measure
        self.optimizer: Optimizer = spec.optimizer
        """Its table; the batch size may change between measurements."""
        self._num_train = len(x)
        self._is_preconditioned = preconditioned
        self.num_examples = len(x) if measure.num_examples == "all" else measure.num_examples
        self.formula = thresholds.formula(spec.optimizer, spec.objective.transform)
        self.last_words = ""
        """Where the sharpness stood when it was last measured, for the sentence that explains a divergence."""
        self._x, self._y = (x, y) if self.num_examples == len(x) else (x[: self.num_examples], y[: self.num_examples])
        self.chunk_size = _chunk_size(measure.chunk_size, model, objective, x=x, y=y)
        """Examples in one pass, of all training examples and so also of fewer."""
        self._problem = Problem(model.apply, objective, self.chunk_size)
        self._accuracy = Accuracy(measure.tolerance, measure.max_hvps)
        self._num_outputs = jax.eval_shape(model.apply, model.params, self._x).shape[1]
        self._rank = min(model.num_params, self.num_examples * self._num_outputs)
        """The most eigenvalues of G that are not zero."""
        self.is_per_output = objective.name == "mse" and self._num_outputs > 1
        """Whether K and its threshold are divided and multiplied by the number of outputs."""
        self.state: dict[str, PyTree[Array]] = {}
        """What the next measurements start from; with the step it decides their every bit."""
        self.programs: list[Program[Any]] = []
        """What the measurements run."""
        self._preconditioned_ntk: NtkMeter | None = None
        self._news: list[tuple[str, str]] = []
        """Events that a measurement gives rise to, and their messages, until they are told."""
        self._first_keys: dict[str, Key[Array, ""]] = {}
        """Of step 0: what was begun is known again by its very arguments."""
        self._measures_sharpness = bool(measure.sharpness_every or measure.gradient_every)
        self.top: Eigenvalues | None = None
        """The sharpness as it was last solved for at the present step; None where it was not."""
        if self._measures_sharpness:
            self.state[UNCONVERGED] = jnp.asarray(np.False_)
            self._sharpness = self._meter("sharpness", sharpness.hessian(self._problem), model.params, top_k=measure.top_k)
            if fresh:
                self._sharpness.begin(model.params, self.state["sharpness"], self._random(0, "sharpness"))
            if preconditioned:
                operator = sharpness.preconditioned_hessian(self._problem)
                self._preconditioned = self._meter("preconditioned", operator, model.params, model.params, top_k=1)
            if thresholds.moves(spec.optimizer, spec.objective.transform):
                self._place = Program(self._loss_and_norm, model.params, self._x, self._y)
                self.programs.append(self._place)
            if measure.smallest:
                self._smallest = self._meter("smallest", sharpness.negated_hessian(self._problem), model.params, top_k=1)
        if measure.ntk_every:
            self._ntk = self._ntk_meters(model.params)
            if fresh:
                self._ntk.begin(model.params, self.state["ntk"], self._random(0, "ntk"))
        self._gauges = gauges.asked(Setting(spec, self._problem, model.params, self._x, self._y, self._num_train, model.layers))
        for gauge in self._gauges:
            self.programs += gauge.programs
            self.state[gauge.name] = gauge.start

    @property
    def intervals(self) -> tuple[int, ...]:
        """Steps from one measurement to the next, of each quantity; 0 for never."""
        verify_every = self._measure.verify_every if self._measures_sharpness else 0
        return self._measure.sharpness_solve_every, self._measure.ntk_every, verify_every, *(gauge.every for gauge in self._gauges)

    def measure(
        self,
        params: PyTree[Array],
        preconditioner: Callable[[], PyTree[Array] | None],
        *,
        lr: float,
        step: int,
        clock: Callable[[], float],
        is_due: Callable[[int], bool],
        velocity: Callable[[], PyTree[Array] | None] = lambda: None,
    ) -> Iterator[AnyMeasurement | EventRecord]:
        """A record for each quantity that is due, and an event where the sharpness is not what the last one led to expect.

        Args:
            params: Where to measure.
            preconditioner: Gives the optimizer's diagonal P, if it has one by now; then the preconditioned sharpness is
                what is held against the edge, and what K is made of.
            lr: Learning rate at this step.
            step: For the records and the random directions.
            clock: Run time, for the records.
            is_due: Whether what comes every so many steps comes now.
            velocity: Gives the optimizer's momentum buffer, if it has one.
        """
        measure = self._measure
        self.top = None
        if self.solves(is_due):
            is_verified = step > 0 and is_due(measure.verify_every)
            yield self.sharpness(params, preconditioner(), lr=lr, step=step, time=clock(), verify=is_verified)
            for event, message in self._news:
                yield EventRecord(step=step, time=clock(), event=event, message=message)
            self._news.clear()
        for gauge in self._gauges:
            if is_due(gauge.every) and step >= gauge.first_step:
                key = self._random(step, gauge.name)
                at = At(params, lr=lr, step=step, time=clock(), key=key, sharpness=self.top, velocity=velocity)
                record, self.state[gauge.name] = gauge.read(at, self.state[gauge.name])
                yield record
        if is_due(measure.ntk_every):
            yield self.ntk(params, preconditioner() if self._preconditioned_ntk else None, lr=lr, step=step, time=clock())

    def solves(self, is_due: Callable[[int], bool]) -> bool:
        """Whether the sharpness is solved for at this step, for its own sake or another quantity's; see `measure`."""
        measure = self._measure
        return self._measures_sharpness and any(map(is_due, (measure.sharpness_solve_every, measure.gradient_every, measure.verify_every)))

    def sharpness(
        self, params: PyTree[Array], preconditioner: PyTree[Array] | None, *, lr: float, step: int, time: float, verify: bool = False
    ) -> SharpnessRecord:
        """Sharpness at these parameters, held against the edge at this learning rate; see `measure`."""
        found = self._eigenvalues("sharpness", self._sharpness, params, step=step)
        self._judge(found)
        if verify:
            found = self._verified(found, params, step=step)
        self.top = found
        record = SharpnessRecord(step=step, time=time, num_examples=self.num_examples, **told(found))
        if preconditioner is not None:
            other = self._eigenvalues("preconditioned", self._preconditioned, params, preconditioner, step=step)
            record = _beside(record, "preconditioned", other)
        if self._measure.smallest:
            record = _beside(record, "smallest", self._eigenvalues("smallest", self._smallest, params, step=step).negated())
        return self._held_against_edge(record, *self._edge(params, lr, step=step))

    def followed(
        self, value: float, residual: float, *, lr: float, loss: float, grad_norm: float, step: int, time: float
    ) -> SharpnessRecord:
        """A sharpness that an update found on its way, held against the edge at this learning rate; see `train.Loop`."""
        record = SharpnessRecord(
            step=step,
            time=time,
            value=value,
            residual=residual,
            error=residual,
            num_hvps=1,
            converged=False,
            num_examples=self.num_examples,
            method=FOLLOWED,
            seconds=0.0,
        )
        return self._held_against_edge(record, self._edge_at(lr, loss=loss, grad_norm=grad_norm, step=step), 0.0)

    def ntk(self, params: PyTree[Array], preconditioner: PyTree[Array] | None = None, *, lr: float, step: int, time: float) -> NtkRecord:
        """Trace of the NTK and noise kernel norm K at these parameters, for this step's batches and learning rate; see `measure`."""
        key = self._random(step, "ntk")
        found, self.state["ntk"] = self._ntk.measure(params, self.state["ntk"], key)
        record = NtkRecord(
            step=step,
            time=time,
            trace=found.trace,
            sem=found.sem,
            eigenvalues=found.eigenvalues or UNSET,
            eigenvalue_errors=found.errors or UNSET,
            convention="per_output" if self.is_per_output else "sum",
            method=found.method,
            num_probes=found.num_probes,
            num_examples=self.num_examples,
            seconds=found.seconds,
        )
        if self._is_preconditioned:
            if not self._preconditioned_ntk or preconditioner is None:
                return record
            start = self.state[PRECONDITIONED_NTK]
            found, self.state[PRECONDITIONED_NTK] = self._preconditioned_ntk.measure(params, start, key, preconditioner)
            record = replace(
                record,
                preconditioned_trace=found.trace,
                preconditioned_sem=found.sem,
                preconditioned_eigenvalues=found.eigenvalues or UNSET,
                preconditioned_eigenvalue_errors=found.errors or UNSET,
                preconditioned_method=found.method,
                seconds=record.seconds + found.seconds,
            )
        record = self._with_crossover(record, found, lr)
        noise = noise_kernel.noise(self.optimizer, lr=lr, num_examples=self._num_train, weight_decay=self._spec.objective.weight_decay)
        if not (noise and noise.p):
            return record
        record = self._with_noise_kernel(record, found, noise)
        return self._with_tail_bounds(record, found, noise) if self._measure.tail_gauge else record

    def _meter(self, name: str, operator: Operator, params: PyTree[Array], *further: Any, top_k: int) -> EigenMeter:
        meter = EigenMeter(operator, params, *further, x=self._x, y=self._y, top_k=top_k, accuracy=self._accuracy)
        self.programs.append(meter.program)
        self.state[name] = meter.start
        return meter

    def _ntk_meters(self, params: PyTree[Array]) -> NtkMeter:
        """The meter of the NTK; beside it that of the preconditioned one, where K is of it."""
        spec, asked = self._spec, self._measure.ntk_eigenvalues
        noise = noise_kernel.noise(spec.optimizer, lr=1.0, num_examples=self._num_train, weight_decay=spec.objective.weight_decay)
        has_noise_kernel = noise is not None and noise.p > 0
        is_plain = noise is not None and not noise.momentum and not noise.damping

        def meter(name: str, *, preconditioned: bool) -> NtkMeter:
            is_of_noise = has_noise_kernel and preconditioned == self._is_preconditioned
            meter = NtkMeter(
                self._problem,
                params,
                x=self._x,
                method=self._measure.ntk_method,
                num_probes=self._measure.ntk_probes,
                num_eigenvalues=NTK_EIGENVALUES * is_of_noise if asked == "auto" else asked,
                accuracy=self._accuracy,
                with_norms=is_of_noise and is_plain,
                preconditioned=preconditioned,
            )
            self.programs.append(meter.program)
            self.state[name] = meter.start
            return meter

        if has_noise_kernel and self._is_preconditioned:
            self._preconditioned_ntk = meter(PRECONDITIONED_NTK, preconditioned=True)
        return meter("ntk", preconditioned=False)

    def _loss_and_norm(self, params: PyTree[Array], x: Array, y: Array) -> tuple[Array, Array]:
        loss, gradient = operators.loss_and_gradient(self._problem, params, x=x, y=y)
        return loss, jnp.linalg.norm(gradient)

    def _eigenvalues(self, name: str, meter: EigenMeter, params: PyTree[Array], *further: Any, step: int) -> Eigenvalues:
        found, self.state[name] = meter.measure(params, self.state[name], self._random(step, name), *further)
        return found

    def _judge(self, found: Eigenvalues) -> None:
        """Note that the sharpness was not found, or that an eigenvalue that was not followed has become the largest."""
        is_lost = not found.converged and math.isfinite(found.values[0])
        was_lost, self.state[UNCONVERGED] = bool(self.state[UNCONVERGED]), jnp.asarray(np.bool_(is_lost))
        if is_lost and not was_lost:
            message = (
                f"The sharpness did not converge within {found.num_products} Hessian-vector products: "
                f"{found.values[0]:.6g} with an estimated error of {found.errors[0]:.2g}. Raise measure.max_hvps or measure.tolerance. "
                "Until it converges again, only the records say so."
            )
            self._news.append(("warning", message))
        elif found.converged and found.known < UNFOLLOWED:
            message = (
                f"Another eigenvalue overtook: {found.known:.0%} of the new top eigenvector lies along those followed so far. "
                "The last values before it may be too low."
            )
            self._news.append(("overtaken", message))

    def _verified(self, found: Eigenvalues, params: PyTree[Array], *, step: int) -> Eigenvalues:
        """The larger of what was found and what a random start finds, with the cost of both."""
        other, start = self._sharpness.measure(params, self._sharpness.start, self._random(step, "verification"))
        num_products, seconds = found.num_products + other.num_products, found.seconds + other.seconds
        if not other.values[0] > found.values[0] + found.errors[0] + other.errors[0]:
            return dataclasses.replace(found, num_products=num_products, seconds=seconds)
        self.state["sharpness"] = start
        message = (
            f"A random start found a sharpness of {other.values[0]:.6g}, where the eigenvectors kept from before gave "
            f"{found.values[0]:.6g}. Measurements since the last check may be too low; measure.verify_every sets how often it is made."
        )
        self._news.append(("warning", message))
        return dataclasses.replace(other, num_products=num_products, seconds=seconds)

    def _random(self, step: int, stream: str) -> Key[Array, ""]:
        if step == 0 and stream in self._first_keys:
            return self._first_keys[stream]
        # By numpy, since jax would compile a program for it.
        bits = np.random.SeedSequence((self._spec.run.seed, step, STREAMS.index(stream))).generate_state(2)
        key: Key[Array, ""] = jax.random.wrap_key_data(jnp.asarray(bits))
        if step == 0:
            self._first_keys[stream] = key
        return key

    def _edge(self, params: PyTree[Array], lr: float, *, step: int) -> tuple[float | None, float]:
        """The optimizer's edge, and the seconds that it took: some take the loss or the norm of its gradient."""
        if step < self.optimizer.warm_steps or not thresholds.moves(self.optimizer, self._spec.objective.transform):
            return thresholds.threshold(self.optimizer, lr, step=step), 0.0
        began = time.perf_counter()
        loss, norm = map(float, self._place(params, self._x, self._y))
        return self._edge_at(lr, loss=loss, grad_norm=norm, step=step), time.perf_counter() - began

    def _edge_at(self, lr: float, *, loss: float, grad_norm: float, step: int) -> float | None:
        objective = self._spec.objective
        place = {"grad_norm": grad_norm, "excess": loss - objective.minimum}
        return thresholds.threshold(self.optimizer, lr, transform=objective.transform, **place, step=step)

    def _held_against_edge(self, record: SharpnessRecord, edge: float | None, seconds: float) -> SharpnessRecord:
        record = replace(record, seconds=record.seconds + seconds)
        if edge is None:
            return record
        value = record.preconditioned if "preconditioned" in self.state else record.value
        if value is UNSET or value is None:
            return replace(record, threshold=edge)
        formula = thresholds.formula(self.optimizer, self._spec.objective.transform, step=record.step)
        self.last_words = f"; at step {record.step} the sharpness was {value / edge:.3g} of its threshold {formula}"
        return replace(record, threshold=edge, ratio=value / edge)

    def _with_crossover(self, record: NtkRecord, found: Ntk, lr: float) -> NtkRecord:
        if not found.eigenvalues or self._spec.objective.weight_decay or self._spec.objective.transform != "none":
            return record
        batch = noise_kernel.crossover_batch(
            self.optimizer,
            lr=lr,
            trace=found.trace,
            largest=found.eigenvalues[0],
            num_examples=self._num_train,
            num_outputs=self._num_outputs if self.is_per_output else 1,
        )
        if batch is None:
            return record
        share = (found.sem or 0.0) / found.trace + found.errors[0] / found.eigenvalues[0]
        return replace(record, crossover_batch=batch, crossover_batch_error=batch * share)

    def _with_noise_kernel(self, record: NtkRecord, found: Ntk, noise: Noise) -> NtkRecord:
        outputs = self._num_outputs if self.is_per_output else 1
        edge = noise_kernel.threshold(noise, num_outputs=outputs)
        norms = found.norms
        bound = norms and noise_kernel.necessary_bound(
            noise, trace=found.trace, frobenius=norms.frobenius, example_frobenius=norms.examples
        )
        error = noise_kernel.kernel_norm_error(
            noise,
            found.eigenvalues,
            trace=found.trace,
            errors=found.errors,
            sem=found.sem or 0.0,
            rank=self._rank,
            frobenius=norms.frobenius + norms.frobenius_sem if norms else None,
        )
        return replace(
            record,
            threshold=UNSET if edge is None else edge,
            ratio=UNSET if edge is None else found.trace / edge,
            noise_kernel=noise_kernel.kernel_norm(noise, found.eigenvalues, trace=found.trace) / outputs,
            noise_kernel_trace=noise_kernel.trace_part(noise, found.trace) / outputs,
            noise_kernel_error=UNSET if error is None else error / outputs,
            noise_kernel_bound=UNSET if bound is None else bound,
        )

    def _with_tail_bounds(self, record: NtkRecord, found: Ntk, noise: Noise) -> NtkRecord:
        """Of the least squares that have this G; with several outputs of those that share a kernel, so that G is in blocks."""
        outputs, largest = self._num_outputs if self.is_per_output else 1, found.eigenvalues[0]
        rank = found.trace / outputs / largest if largest > 0 else math.nan
        between = noise_kernel.tail_bounds(noise_kernel.trace_part(noise, found.trace) / outputs, rank)
        if between is None:
            return record
        (lower, upper), share = between, found.errors[0] / largest
        record = replace(record, tail_index_upper=upper, tail_index_threshold=noise_kernel.TAIL_EDGE)
        if lower is None:
            return record
        error = max((upper - 1) * share, (lower - 2) * share + (found.sem or 0.0) / outputs / largest)
        return replace(record, tail_index_lower=lower, tail_index_error=error)


def _beside(record: SharpnessRecord, name: str, found: Eigenvalues) -> SharpnessRecord:
    """The record with a further eigenvalue and its quality, under fields that begin with the name."""
    fields = {
        name: found.values[0],
        f"{name}_residual": found.residuals[0],
        f"{name}_error": found.errors[0],
        f"{name}_num_hvps": found.num_products,
        f"{name}_converged": found.converged,
    }
    return replace(record, **fields, seconds=record.seconds + found.seconds)


def _chunk_size(
    asked: int | Literal["auto"],
    model: Model,
    objective: Objective,
    *,
    x: Shaped[Array, "examples *input"],
    y: Shaped[Array, "examples *target"],
) -> int:
    if asked != "auto":
        return asked
    return operators.choose_chunk_size(Problem(model.apply, objective, len(x)), model.params, x=x, y=y)
