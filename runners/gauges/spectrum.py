"""All of the Hessian's eigenvalues together: their sum and their density."""

import time

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from runners.gauges.gauge import At, Gauge, Setting, State
from runners.measure import operators
from runners.measure.density import Quadrature, grid, smoothed, spectral_quadrature
from runners.measure.hessian_trace import TraceEstimate, hessian_trace
from runners.programs import Program
from runners.records import DensityRecord, HessianTraceRecord

DENSITY_POINTS = 128
"""Eigenvalues at which a density is told."""


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
