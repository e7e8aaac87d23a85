"""What the draw of batches adds: batch sharpness, and the edge of stability in mean square."""

import time

import jax
from jaxtyping import Array, Key, PyTree
from msgspec import UNSET

from runners import thresholds
from runners.errors import SpecError
from runners.gauges.gauge import At, Gauge, Setting, State
from runners.measure import mean_square, noise_kernel
from runners.measure.batch_sharpness import BatchSharpness, Estimate, Momentum, batch_sharpness
from runners.measure.mean_square import Threshold
from runners.programs import Program
from runners.records import BatchSharpnessRecord, MeanSquareRecord
from runners.spec import EmaMomentum, HeavyBall, Nesterov, Optimizer, Sgd


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
        is_plain = isinstance(optimizer, Sgd) and self.setting.spec.objective.transform == "none"
        edge = thresholds.threshold(optimizer, at.lr) if is_plain else None
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


def _numbers(estimate: Estimate) -> tuple[float, float]:
    return float(estimate.value), float(estimate.sem)
