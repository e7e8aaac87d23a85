"""Quantities of the curvature that are measured when a spec asks for them: each a gauge that gives one kind of record.

Called by `curvature`, which keeps what the gauges start from and gives them their random numbers. A gauge joins an
estimator of `measure/`, which knows nothing of records, with its record.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree, Shaped
from msgspec import UNSET
from msgspec.structs import replace

from runners import thresholds
from runners.errors import SpecError
from runners.measure import gauss_newton, mean_square, noise_kernel, operators
from runners.measure.batch_sharpness import BatchSharpness, Estimate, Momentum, batch_sharpness
from runners.measure.critical_sharpness import CriticalSharpness, critical_sharpness, loss_along
from runners.measure.density import Quadrature, grid, smoothed, spectral_quadrature
from runners.measure.eigenvalues import METHOD, Accuracy, EigenMeter, Eigenvalues
from runners.measure.gradient import AlongGradient, along_gradient
from runners.measure.hessian_trace import TraceEstimate, hessian_trace
from runners.measure.layers import LayersMeter
from runners.measure.mean_square import Threshold
from runners.measure.operators import Problem
from runners.programs import Program
from runners.records import (
    AnyMeasurement,
    BatchSharpnessRecord,
    DensityRecord,
    GaussNewtonRecord,
    GradientRecord,
    HessianTraceRecord,
    LayersRecord,
    MeanSquareRecord,
)
from runners.spec import EmaMomentum, HeavyBall, Nesterov, Optimizer, Sgd, Train

DENSITY_POINTS = 128
"""Eigenvalues at which a density is told."""
CRITICAL_TOLERANCE = 1 / 32
"""Relative error asked of the critical sharpness: about what its authors ask."""
CRITICAL_PASSES = 40
"""Forward passes after which the search for the critical sharpness gives up."""
State: TypeAlias = PyTree[Array]
"""What one reading of a gauge leaves to the next."""


class Setting(NamedTuple):
    """What a gauge is made for."""

    spec: Train
    problem: Problem
    params: PyTree[Array]
    """Any parameters; only their shapes count."""
    x: Shaped[Array, "examples *input"]
    """Inputs of the measured examples."""
    y: Shaped[Array, "examples *target"]
    num_train: int
    """Examples that batches are drawn from."""

    @property
    def accuracy(self) -> Accuracy:
        """What is asked of eigenvalues."""
        return Accuracy(self.spec.measure.tolerance, self.spec.measure.max_hvps)


class At(NamedTuple):
    """Where and when a gauge is read."""

    params: PyTree[Array]
    lr: float
    step: int
    time: float
    key: Key[Array, ""]
    sharpness: Eigenvalues | None
    """That of these parameters, where it has been measured at this step."""
    velocity: Callable[[], PyTree[Array] | None]
    """Gives the optimizer's momentum buffer v at these parameters, if it has one."""


class Gauge(ABC):
    """Measures one quantity on fixed examples; made once, read whenever it is due."""

    name: ClassVar[str]
    """The kind of its records, and with `_every` behind it the key in `[measure]`."""
    start: State
    """What the first reading starts from."""
    programs: tuple[Program[Any], ...]
    """What the readings run."""

    def __init__(self, setting: Setting) -> None:
        """Begin to compile."""
        self.setting = setting
        self.every: int = getattr(setting.spec.measure, f"{self.name}_every")
        """Steps from one reading to the next; 0 for never."""
        flat = jax.eval_shape(lambda params: ravel_pytree(params)[0], setting.params)
        self.dim, self.dtype = flat.size, flat.dtype
        """Of the flat parameters."""
        self.start = jnp.zeros(0, flat.dtype)
        self.programs = ()

    @abstractmethod
    def read(self, at: At, start: State) -> tuple[AnyMeasurement, State]:
        """The record, and what the next reading starts from."""


class GaussNewtonGauge(Gauge):
    """The top Gauss-Newton eigenvalues, and what of the sharpness they leave to the residual part."""

    name = "gauss_newton"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._meter = EigenMeter(
            gauss_newton.gauss_newton(setting.problem),
            setting.params,
            x=setting.x,
            y=setting.y,
            top_k=setting.spec.measure.top_k,
            accuracy=setting.accuracy,
        )
        self.start = self._meter.start
        vector = jax.eval_shape(lambda start: start.vectors[0], self._meter.start)
        self._along = Program(gauss_newton.along(setting.problem), setting.params, setting.x, vector)
        self.programs = (self._meter.program, self._along)

    def read(self, at: At, start: State) -> tuple[GaussNewtonRecord, State]:
        """The record; the residual part's share where the sharpness has been measured at this step."""
        found, start = self._meter.measure(at.params, start, at.key)
        record = GaussNewtonRecord(step=at.step, time=at.time, num_examples=len(self.setting.x), **told(found))
        if at.sharpness is None:
            return record, start
        began = time.perf_counter()
        carried = float(self._along(at.params, self.setting.x, at.sharpness.vectors[0]))
        decay = self.setting.spec.objective.weight_decay
        share = gauss_newton.residual_share(at.sharpness.values[0], carried, weight_decay=decay)
        return replace(record, residual_share=share, seconds=record.seconds + time.perf_counter() - began), start


class LayersGauge(Gauge):
    """Sharpness of each layer alone."""

    name = "layers"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._meter = LayersMeter(setting.problem, setting.params, x=setting.x, y=setting.y, accuracy=setting.accuracy)
        self.start = self._meter.start
        self.programs = (self._meter.program,)

    def read(self, at: At, start: State) -> tuple[LayersRecord, State]:
        """The record."""
        found, start = self._meter.measure(at.params, start, at.key)
        record = LayersRecord(
            step=at.step,
            time=at.time,
            values={**found.values},
            errors={**found.errors},
            num_hvps=found.num_products,
            converged=found.converged,
            num_examples=len(self.setting.x),
            method=METHOD,
            seconds=found.seconds,
        )
        return record, start


class GradientGauge(Gauge):
    """What the gradient says: its norm, the sharpness along it, its alignment with the top eigenvectors, the critical sharpness."""

    name = "gradient"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.start = jnp.zeros((), self.dtype)
        vectors = jax.ShapeDtypeStruct((min(setting.spec.measure.top_k, self.dim), self.dim), self.dtype)
        self._program = Program(self._measure, setting.params, setting.x, setting.y, vectors, self.start)
        self.programs = (self._program,)

    def read(self, at: At, start: State) -> tuple[GradientRecord, State]:
        """The record; the search for the critical learning rate starts from the last one, at first from the optimizer's."""
        began = time.perf_counter()
        if at.sharpness is None:
            raise ValueError("the gradient is held against the eigenvectors of the same step: measure the sharpness first")
        first = jnp.where(jnp.isfinite(start) & (start > 0), start, at.lr or 1.0).astype(start.dtype)
        along, critical = self._program(at.params, self.setting.x, self.setting.y, at.sharpness.vectors, first)
        record = GradientRecord(
            step=at.step,
            time=at.time,
            norm=float(along.norm),
            directional_sharpness=float(along.directional_sharpness),
            alignment=float(along.alignment),
            alignments=tuple(along.alignments.tolist()) if len(along.alignments) > 1 else UNSET,
            critical_sharpness=float(critical.value),
            critical_error=float(critical.error),
            critical_lr=float(critical.lr),
            critical_num_passes=int(critical.num_passes),
            critical_converged=bool(critical.converged),
            num_examples=len(self.setting.x),
            method="one product along the gradient; forward passes along it",
            seconds=time.perf_counter() - began,
        )
        return record, critical.lr

    def _measure(
        self, params: PyTree[Array], x: Array, y: Array, vectors: Float[Array, "k dim"], start: Float[Array, ""]
    ) -> tuple[AlongGradient, CriticalSharpness]:
        problem = self.setting.problem
        gradient = operators.gradient(problem, params, x=x, y=y)
        _, product = operators.hessian(problem, params, x=x, y=y)
        loss = loss_along(problem, params, gradient, x=x, y=y)
        critical = critical_sharpness(loss, start=start, tolerance=CRITICAL_TOLERANCE, max_passes=CRITICAL_PASSES)
        return along_gradient(gradient, product, vectors=vectors), critical


class HessianTraceGauge(Gauge):
    """Trace of the Hessian."""

    name = "hessian_trace"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._program = Program(self._measure, setting.params, setting.x, setting.y, jax.eval_shape(jax.random.key, 0))
        self.programs = (self._program,)

    def read(self, at: At, start: State) -> tuple[HessianTraceRecord, State]:
        """The record; every reading draws vectors of its own."""
        began = time.perf_counter()
        found = self._program(at.params, self.setting.x, self.setting.y, at.key)
        record = HessianTraceRecord(
            step=at.step,
            time=at.time,
            value=float(found.value),
            sem=float(found.sem),
            num_hvps=int(found.num_products),
            num_examples=len(self.setting.x),
            method="XTrace",
            seconds=time.perf_counter() - began,
        )
        return record, start

    def _measure(self, params: PyTree[Array], x: Array, y: Array, key: Key[Array, ""]) -> TraceEstimate:
        _, product = operators.hessian(self.setting.problem, params, x=x, y=y)
        num_products = self.setting.spec.measure.hessian_trace_hvps
        return hessian_trace(product, self.dim, num_products=num_products, dtype=self.dtype, key=key)


class DensityGauge(Gauge):
    """Density of the Hessian's eigenvalues."""

    name = "density"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._program = Program(self._measure, setting.params, setting.x, setting.y, jax.eval_shape(jax.random.key, 0))
        self.programs = (self._program,)

    def read(self, at: At, start: State) -> tuple[DensityRecord, State]:
        """The record; every reading draws vectors of its own."""
        began = time.perf_counter()
        found = self._program(at.params, self.setting.x, self.setting.y, at.key)
        nodes, weights = np.asarray(found.nodes), np.asarray(found.weights)
        points, width = grid(nodes, weights, count=DENSITY_POINTS)
        density, sem = smoothed(nodes, weights, at=points, width=width)
        record = DensityRecord(
            step=at.step,
            time=at.time,
            at=tuple(points.tolist()),
            density=tuple(density.tolist()),
            sem=tuple(sem.tolist()),
            width=width,
            num_probes=nodes.shape[0],
            order=nodes.shape[1],
            num_hvps=int(found.num_products),
            num_examples=len(self.setting.x),
            method="stochastic Lanczos quadrature",
            seconds=time.perf_counter() - began,
        )
        return record, start

    def _measure(self, params: PyTree[Array], x: Array, y: Array, key: Key[Array, ""]) -> Quadrature:
        _, product = operators.hessian(self.setting.problem, params, x=x, y=y)
        measure = self.setting.spec.measure
        probes, order = measure.density_probes, measure.density_order
        return spectral_quadrature(product, self.dim, num_probes=probes, order=order, dtype=self.dtype, key=key)


class BatchSharpnessGauge(Gauge):
    """Batch sharpness and its relatives, held against gradient descent's edge."""

    name = "batch_sharpness"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        optimizer = setting.spec.optimizer
        self._batch_size = len(setting.x) if optimizer.drawn == "full" else min(optimizer.drawn, len(setting.x))
        self._is_full = self._batch_size == len(setting.x) and optimizer.sampling != "with_replacement"
        self._shares = momentum_shares(optimizer)
        buffer = None if self._shares is None else setting.params
        self._program = Program(self._measure, setting.params, setting.x, setting.y, jax.eval_shape(jax.random.key, 0), buffer)
        self.programs = (self._program,)

    def read(self, at: At, start: State) -> tuple[BatchSharpnessRecord, State]:
        """The record; every reading draws batches of its own."""
        began = time.perf_counter()
        buffer = None if self._shares is None else at.velocity()
        found = self._program(at.params, self.setting.x, self.setting.y, at.key, buffer)
        optimizer = self.setting.spec.optimizer
        edge = thresholds.threshold(optimizer, at.lr) if isinstance(optimizer, Sgd) else None
        value, sem = _numbers(found.batch_sharpness)
        noise, awareness, momentum = found.gradient_noise_interaction, found.interaction_aware_sharpness, found.momentum_batch_sharpness
        record = BatchSharpnessRecord(
            step=at.step,
            time=at.time,
            value=value,
            sem=sem,
            threshold=UNSET if edge is None else edge,
            ratio=UNSET if edge is None or value is None else value / edge,
            ratio_of_means=_numbers(found.ratio_of_means)[0],
            ratio_of_means_sem=_numbers(found.ratio_of_means)[1],
            gradient_noise_interaction=_numbers(noise)[0] if noise else UNSET,
            gradient_noise_interaction_sem=_numbers(noise)[1] if noise else UNSET,
            interaction_aware_sharpness=_numbers(awareness)[0] if awareness else UNSET,
            interaction_aware_sharpness_sem=_numbers(awareness)[1] if awareness else UNSET,
            momentum_batch_sharpness=_numbers(momentum)[0] if momentum else UNSET,
            momentum_batch_sharpness_sem=_numbers(momentum)[1] if momentum else UNSET,
            batch_size=self._batch_size,
            num_batches=1 if self._is_full else self.setting.spec.measure.batch_sharpness_batches,
            num_undefined=int(found.num_undefined),
            num_examples=len(self.setting.x),
            method="fresh batches, Rayleigh quotient along the gradient of each",
            seconds=time.perf_counter() - began,
        )
        return record, start

    def _measure(self, params: PyTree[Array], x: Array, y: Array, key: Key[Array, ""], buffer: PyTree[Array] | None) -> BatchSharpness:
        spec = self.setting.spec
        return batch_sharpness(
            self.setting.problem,
            params,
            x=x,
            y=y,
            batch_size=self._batch_size,
            num_batches=spec.measure.batch_sharpness_batches,
            with_replacement=spec.optimizer.sampling == "with_replacement",
            with_full_hessian=spec.measure.batch_sharpness_full,
            key=key,
            momentum=None if self._shares is None else Momentum(buffer, *self._shares),
        )


class MeanSquareGauge(Gauge):
    """The learning rate at which plain SGD stops being stable in mean square."""

    name = "mean_square"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        shape = jax.eval_shape(setting.problem.apply, setting.params, setting.x).shape
        self._num_outputs = shape[1]
        most = min(mean_square.MAX_OUTPUTS, mean_square.JACOBIAN_ENTRIES // self.dim) // self._num_outputs
        if len(setting.x) > most:
            raise SpecError(
                f"measure.mean_square_every = {self.every}: it holds the NTK of all outputs of the measured examples, and takes at most "
                f"{most} examples of this model, not {len(setting.x)}. Set measure.num_examples."
            )
        self._p = noise_kernel.variance_factor(setting.spec.optimizer, setting.num_train)
        self._program = Program(self._measure, setting.params, setting.x, jax.eval_shape(jax.random.key, 0))
        self.programs = (self._program,)

    def read(self, at: At, start: State) -> tuple[MeanSquareRecord, State]:
        """The record."""
        began = time.perf_counter()
        found = self._program(at.params, self.setting.x, at.key)
        record = MeanSquareRecord(
            step=at.step,
            time=at.time,
            lr=at.lr,
            threshold=float(found.value),
            error=float(found.error),
            ratio=at.lr / float(found.value),
            num_products=int(found.num_products),
            converged=bool(found.converged),
            num_examples=len(self.setting.x),
            method="Lanczos on the second-moment operator of the whole NTK",
            seconds=time.perf_counter() - began,
        )
        return record, start

    def _measure(self, params: PyTree[Array], x: Array, key: Key[Array, ""]) -> Threshold:
        return mean_square.threshold(
            mean_square.kernel(self.setting.problem, params, x=x),
            num_outputs=self._num_outputs,
            p=self._p,
            tolerance=self.setting.accuracy.tolerance,
            max_products=self.setting.accuracy.max_products,
            key=key,
        )


def momentum_shares(optimizer: Optimizer) -> tuple[float, float] | None:
    """The shares of v and g in the next update, x -= lr (past v + present g) with v the buffer before it; None without momentum."""
    match optimizer:
        case HeavyBall(momentum=b):
            return b, 1.0
        case Nesterov(momentum=b):
            return b * b, 1 + b
        case EmaMomentum(momentum=b):
            return b, 1 - b
        case _:
            return None


GAUGES: tuple[type[Gauge], ...] = (
    GaussNewtonGauge,
    LayersGauge,
    GradientGauge,
    HessianTraceGauge,
    DensityGauge,
    BatchSharpnessGauge,
    MeanSquareGauge,
)


def asked(setting: Setting) -> list[Gauge]:
    """A gauge for each quantity that the spec asks for, compiling."""
    return [make(setting) for make in GAUGES if getattr(setting.spec.measure, f"{make.name}_every")]


def told(found: Eigenvalues) -> dict[str, Any]:
    """The fields of an `Eigenvalue` record but for step, time and examples; lists where there is more than one value."""
    has_several = len(found.values) > 1
    return {
        "value": found.values[0],
        "values": found.values if has_several else UNSET,
        "errors": found.errors if has_several else UNSET,
        "residual": found.residuals[0],
        "error": found.errors[0],
        "num_hvps": found.num_products,
        "converged": found.converged,
        "method": METHOD,
        "seconds": found.seconds,
    }


def _numbers(estimate: Estimate) -> tuple[float, float]:
    return float(estimate.value), float(estimate.sem)
