"""Eigenvalues beside those of the whole Hessian: the Gauss-Newton matrix's, and those of each layer's block."""

import time

import jax
from msgspec.structs import replace

from runners.gauges.gauge import At, Gauge, Setting, State, told
from runners.measure import gauss_newton
from runners.measure.eigenvalues import METHOD, EigenMeter
from runners.measure.layers import LayersMeter
from runners.programs import Program
from runners.records import GaussNewtonRecord, LayersRecord


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
