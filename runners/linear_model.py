"""Minibatch training of a linear model of prescribed kernel: the runner behind `runner = "linear-model"`.

Many simulated runs go beside what `theory.second_moment` says of their mean: the exact recursion of the second moment, and its
closures in the eigenbasis, on which the noise kernel norm K rests.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree
from msgspec import UNSET

from runners import optimizers, panels, thresholds
from runners.ensembles import Ensemble, batch_weights, seed_of
from runners.experiments import KernelTable, LinearModel
from runners.measure import noise_kernel
from runners.measure.operators import full_precision
from runners.programs import Program
from runners.records import AnyRecord, Curve, EventRecord, Header, MetricsRecord, NtkRecord, Panel, SharpnessRecord, StepRecord
from runners.session import Clock
from runners.sources.synthetic import orthogonal
from runners.spec import HeavyBall, Sgd
from runners.theory import second_moment
from runners.theory.second_moment import Moment

BASIS, RESIDUAL, SOLVER = 0, 1, 2
"""Sets the random numbers of the parts of a model apart that have the same seed."""
GROWTH_TOLERANCE = 1e-6
GROWTH_PRODUCTS = 300
"""A growth that takes more products than this is said not to have converged."""


class Paths(NamedTuple):
    """The simulated runs, and the moments of their mean."""

    residuals: Float[Array, "paths examples"]
    velocities: Float[Array, "paths examples"]
    """u of the update u' = b u + T S z."""
    exact: Moment
    closure: Moment
    high_dimensional: Moment


class Kernel(NamedTuple):
    """T, and what follows from it."""

    matrix: Float[Array, "examples examples"]
    values: Float[Array, " examples"]
    vectors: Float[Array, "examples examples"]
    overlaps: Float[Array, "examples examples"]


class Losses(NamedTuple):
    """|z|^2 / (2 D): of the simulated runs the mean and its standard error, and what the moments say it is."""

    simulated: Float[Array, ""]
    sem: Float[Array, ""]
    exact: Float[Array, ""]
    closure: Float[Array, ""]
    high_dimensional: Float[Array, ""]


@dataclass(frozen=True)
class Stability:
    """Where a learning rate stands."""

    lr: float
    noise_kernel: float
    """K, with flat eigenvectors."""
    noise_kernel_closure: float
    """K, with the overlaps of the kernel's own eigenvectors."""
    growth: float | None
    """Of the exact second moment in a step, in the long run; None with momentum, for which it is not known."""


@dataclass(frozen=True)
class Updates:
    """Simulated updates and the recursions of their moments, as one program."""

    optimizer: Sgd | HeavyBall
    lr: Callable[[ArrayLike], Float[Array, ""]]
    p: float

    @full_precision
    def run(self, paths: Paths, kernel: Kernel, keys: Key[Array, " paths"], first: Int[Array, ""], count: Int[Array, ""]) -> Paths:
        """The paths after `count` updates, the first at step `first`."""
        result: Paths = jax.lax.fori_loop(0, count, lambda turn, before: self._update(before, kernel, keys, first + turn), paths)
        return result

    def _update(self, paths: Paths, kernel: Kernel, keys: Key[Array, " paths"], step: Int[Array, ""]) -> Paths:
        lr, momentum = self.lr(step), momentum_of(self.optimizer)
        weighted = paths.residuals * self._weights(keys, step, len(kernel.values))
        velocities = momentum * paths.velocities + weighted @ kernel.matrix
        return Paths(
            paths.residuals - lr * velocities,
            velocities,
            second_moment.exact(paths.exact, kernel.values, kernel.vectors, lr=lr, p=self.p, momentum=momentum),
            second_moment.closure(paths.closure, kernel.values, kernel.overlaps, lr=lr, p=self.p, momentum=momentum),
            second_moment.high_dimensional(paths.high_dimensional, kernel.values, lr=lr, p=self.p, momentum=momentum),
        )

    def _weights(self, keys: Key[Array, " paths"], step: Int[Array, ""], num_examples: int) -> Float[ArrayLike, "..."]:
        size = self.optimizer.batch_size
        if size == "full":
            return 1.0
        assert isinstance(size, int)
        return batch_weights(keys, step, num_examples=num_examples, batch_size=size, sampling=self.optimizer.sampling)


def momentum_of(optimizer: Sgd | HeavyBall) -> float:
    """The optimizer's b; 0 for plain steps."""
    return optimizer.momentum if isinstance(optimizer, HeavyBall) else 0.0


def spectrum(table: KernelTable) -> Float[np.ndarray, " examples"]:
    """The kernel's eigenvalues that a spec asks for."""
    return np.array(table.spectrum) if table.spectrum is not None else np.arange(1.0, table.num_examples + 1) ** -table.exponent


def losses(paths: Paths) -> Losses:
    """Loss of the simulated runs and of the moments."""
    each = jnp.mean(jnp.square(paths.residuals), axis=1) / 2
    sem = jnp.std(each, ddof=1) / math.sqrt(len(each))
    return Losses(jnp.mean(each), sem, *map(second_moment.loss, (paths.exact, paths.closure, paths.high_dimensional)))


class LinearModelRunner(Ensemble):
    """Simulated runs of a linear model: see `session.Runner` for what the session asks of it."""

    def __init__(self, spec: LinearModel) -> None:
        """Draw the model, compile the updates."""
        run, optimizer = spec.run, spec.optimizer
        self._optimizer = optimizer
        self._lr = optimizers.build(optimizer).lr
        self._kernel = _kernel(spec)
        self._values = [float(value) for value in self._kernel.values]
        self._p = noise_kernel.variance_factor(optimizer, len(self._values))
        keys = jax.random.split(jax.random.key(seed_of(run.order_seed, run.seed)), spec.simulation.num_paths)
        paths = _start(spec, self._kernel.vectors)
        updates = Updates(optimizer, self._lr, self._p).run
        super().__init__(spec, run=run, simulation=spec.simulation, updates=updates, ensemble=paths, constants=(self._kernel, keys))
        self._losses = Program(losses, paths)
        self._growth = None if momentum_of(optimizer) else Program(_long_run, *self._growth_arguments(0.0))
        for program in (self._chunk, self._losses, self._growth):
            if program:
                program.wait()
        self._stability: Stability | None = None
        self._recorded = np.full(2, np.nan)

    def header(self, run: str) -> Header:
        """The log's first line."""
        size, batch_size = len(self._values), self._optimizer.batch_size
        return self._header(
            run,
            panels=_panels(self._optimizer),
            num_params=size,
            num_examples=size,
            batch_size=size if batch_size == "full" else batch_size,
            loss_convention="1/2 squared residual, mean over examples",
            threshold_formula=thresholds.formula(self._optimizer),
        )

    def state(self) -> PyTree[Array | np.ndarray]:
        """The ensemble, and the losses last recorded."""
        return self._ensemble, self._recorded

    def restore(self, state: PyTree[Array | np.ndarray], *, step: int, first_loss: float | None) -> None:
        """Go on from a state, at a step whose measurements are done."""
        ensemble, self._recorded = state
        super().restore(ensemble, step=step, first_loss=first_loss)
        self._stability = self._stability_at(float(self._lr(self._previous_record(step + 1))))

    def _records(self, clock: Clock) -> Iterator[AnyRecord]:
        lr, found = float(str(self._lr(self.step))), self._losses(self._ensemble)
        now = np.array([found.simulated, found.exact], float)
        yield StepRecord(step=self.step, time=clock(), loss=float(now[0]), lr=lr)
        yield self._sharpness(lr, clock())
        if self._p:
            yield self._ntk(lr, clock())
        if self._stability is None or self._stability.lr != lr:
            self._stability = self._stability_at(lr)
            yield EventRecord(step=self.step, time=clock(), event="stability", message=f"{_sentence(self._stability)}.")
        yield MetricsRecord(step=self.step, time=clock(), values=self._metrics(found, self._stability) | self._growths(now))
        self._recorded = now
        self._judge(float(now.max()), _sentence(self._stability))

    def _metrics(self, found: Losses, stability: Stability) -> dict[str, float | None]:
        values: dict[str, float | None] = {
            "loss_sem": float(found.sem),
            "exact_loss": float(found.exact),
            "closure_loss": float(found.closure),
            "high_dimensional_loss": float(found.high_dimensional),
        }
        if self._p:
            values["noise_kernel_closure"] = stability.noise_kernel_closure
        if stability.growth is not None:
            values["long_run_growth"] = stability.growth
        return values

    def _growths(self, losses: Float[np.ndarray, "2"]) -> dict[str, float | None]:
        """By what the losses, simulated and exact, have grown in a step since the last record."""
        if not self.step:
            return {}
        growths = (losses / self._recorded) ** (1 / (self.step - self._previous_record(self.step)))
        return {"growth": float(growths[0]), "exact_growth": float(growths[1])}

    def _sharpness(self, lr: float, seconds: float) -> SharpnessRecord:
        edge, largest = thresholds.threshold(self._optimizer, lr), max(self._values)
        return SharpnessRecord(
            step=self.step,
            time=seconds,
            value=largest,
            residual=0.0,
            error=0.0,
            num_hvps=0,
            converged=True,
            num_examples=len(self._values),
            method="prescribed",
            seconds=0.0,
            threshold=UNSET if edge is None else edge,
            ratio=UNSET if edge is None else largest / edge,
        )

    def _ntk(self, lr: float, seconds: float) -> NtkRecord:
        size, trace = len(self._values), sum(self._values)
        noise = noise_kernel.noise(self._optimizer, lr=lr, num_examples=size)
        assert noise is not None
        edge = noise_kernel.threshold(noise)
        own = size * np.diagonal(self._kernel.matrix)
        bound = noise_kernel.necessary_bound(
            noise, trace=trace, frobenius=float(np.square(self._values).sum()), example_frobenius=float(np.square(own).mean())
        )
        batch = noise_kernel.crossover_batch(self._optimizer, lr=lr, trace=trace, largest=max(self._values), num_examples=size)
        return NtkRecord(
            step=self.step,
            time=seconds,
            trace=trace,
            sem=None,
            threshold=UNSET if edge is None else edge,
            ratio=UNSET if edge is None else trace / edge,
            noise_kernel=noise_kernel.kernel_norm(noise, self._values, trace=trace),
            noise_kernel_trace=noise_kernel.trace_part(noise, trace),
            noise_kernel_bound=UNSET if bound is None else bound,
            noise_kernel_error=0.0,
            crossover_batch=UNSET if batch is None else batch,
            crossover_batch_error=UNSET if batch is None else 0.0,
            convention="sum",
            method="prescribed",
            num_probes=0,
            num_examples=size,
            seconds=0.0,
        )

    def _stability_at(self, lr: float) -> Stability:
        noise = noise_kernel.noise(self._optimizer, lr=lr, num_examples=len(self._values))
        assert noise is not None
        return Stability(
            lr,
            noise_kernel.kernel_norm(noise, self._values, trace=sum(self._values)),
            second_moment.closure_kernel_norm(noise, self._values, np.asarray(self._kernel.overlaps)),
            float(self._growth(*self._growth_arguments(lr)).value) if self._growth else None,
        )

    def _growth_arguments(self, lr: float) -> tuple[Array | np.ndarray, ...]:
        values = self._kernel.values
        return values, self._kernel.vectors, np.asarray(lr, values.dtype), np.asarray(self._p, values.dtype)


def _long_run(values: Array, vectors: Array, lr: Array, p: Array) -> second_moment.Growth:
    key = jax.random.key(SOLVER)
    return second_moment.growth(values, vectors, lr=lr, p=p, tolerance=GROWTH_TOLERANCE, max_products=GROWTH_PRODUCTS, key=key)


def _kernel(spec: LinearModel) -> Kernel:
    run, table = spec.run, spec.linear_model
    values = spectrum(table)
    match table.basis:
        case "random":
            vectors = orthogonal(np.random.default_rng([seed_of(run.data_seed, run.seed), BASIS]), len(values))
        case "examples":
            vectors = np.eye(len(values))
        case "flat":
            vectors = _hadamard(len(values)) / np.sqrt(len(values))
    matrix = (vectors * values) @ vectors.T
    arrays = (matrix, values, vectors, np.square(vectors).T @ np.square(vectors))
    return Kernel(*(jnp.asarray(array, run.precision) for array in arrays))


def _hadamard(size: int) -> Float[np.ndarray, "size size"]:
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _start(spec: LinearModel, vectors: Float[Array, "examples examples"]) -> Paths:
    """The first residuals, at rest."""
    run, size, num_paths = spec.run, spec.linear_model.num_examples, spec.simulation.num_paths
    is_fixed = spec.linear_model.residual == "fixed"
    draws = np.random.default_rng([seed_of(run.init_seed, run.seed), RESIDUAL]).standard_normal((1 if is_fixed else num_paths, size))
    along = draws[0] @ np.asarray(vectors)
    moment = np.outer(along, along) if is_fixed else np.eye(size)
    exact, single = (second_moment.at_rest(jnp.asarray(part, run.precision)) for part in (moment, np.diagonal(moment)))
    residuals = jnp.asarray(np.broadcast_to(draws, (num_paths, size)), run.precision)
    return Paths(residuals, jnp.zeros_like(residuals), exact, single, single)


def _sentence(stability: Stability) -> str:
    """Where the learning rate stands, in words."""
    grows = ""
    if stability.growth is not None:
        grows = f", and the second moment {'grows' if stability.growth > 1 else 'decays'} by {stability.growth:.6g} a step in the long run"
    return f"At lr {stability.lr:g} K is {stability.noise_kernel:.3g}, {stability.noise_kernel_closure:.3g} with overlaps{grows}"


def _panels(optimizer: Sgd | HeavyBall) -> tuple[Panel, ...]:
    has_noise = optimizer.batch_size != "full"
    loss = Panel(
        title="loss",
        scale="log",
        series=(
            Curve(record="step", field="loss", label="simulated"),
            Curve(record="metrics", field="values.exact_loss", label="exact"),
            Curve(record="metrics", field="values.closure_loss", label="closure"),
            Curve(record="metrics", field="values.high_dimensional_loss", label="high-dimensional"),
        ),
        error=Curve(record="metrics", field="values.loss_sem", label="standard error"),
    )
    long_run = Curve(record="metrics", field="values.long_run_growth", label="in the long run")
    growth = Panel(
        title="growth of the loss in a step",
        scale="log",
        series=(
            Curve(record="metrics", field="values.growth", label="simulated"),
            Curve(record="metrics", field="values.exact_growth", label="exact"),
        ),
        references=() if momentum_of(optimizer) else (long_run,),
    )
    sharpness = panels.sharpness(thresholds.formula(optimizer))
    return (loss, growth, sharpness, panels.ntk(has_noise_kernel=True)) if has_noise else (loss, growth, sharpness)
