"""What the gradient says of curvature."""

import time

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
from msgspec import UNSET

from runners.gauges.gauge import At, Gauge, Setting, State
from runners.measure import operators
from runners.measure.critical_sharpness import CriticalSharpness, critical_sharpness, loss_along
from runners.measure.gradient import AlongGradient, along_gradient
from runners.programs import Program
from runners.records import GradientRecord

CRITICAL_TOLERANCE = 1 / 32
"""Relative error asked of the critical sharpness: about what its authors ask."""
CRITICAL_PASSES = 40
"""Forward passes after which the search for the critical sharpness gives up."""


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
